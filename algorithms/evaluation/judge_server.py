"""A judge behind an OpenAI-compatible server: temperature 0, a few tries, and no trace of its key."""

import asyncio
from typing import Any

import numpy as np

from arpo_envs import ArpoError, ConfigError, wait_before_retry

from ..policies.served import ServerFault, client_options, httpx_module, model_card, said, split_urls
from .judge import Claim, Judgement, verdict_in

_PROBES = (
    (Claim("What is the capital of France?", ("Paris",), "It is Paris."), True),
    (Claim("What is the capital of France?", ("Paris",), "It is Lyon."), False),
)
"""Claims whose verdicts are known."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
_MOST_TOKENS = 2_048
"""Of a reply; it may reason before its verdict."""
_SECONDS = 120.0
"""For one reply."""
_WHATEVER_IS_ASKED = (401, 403, 404, 405)
"""Statuses that do not depend on the prompt; with others a server refuses one prompt, such as one that is too long for it."""


class _Refused(ArpoError):
    """The server will never answer this prompt."""


class ServedJudge:
    """Asks a chat model of a server.

    Args:
        url: of the server, without a path or with /v1.
        model: its name there; None for the first one that the server lists.
        key: sent as a bearer token; it appears in no message and in no record.
        tries: for each claim.
        side_by_side: claims that are asked at once.

    Raises:
        ConfigError: no such server answers, it does not have the model, or httpx is not installed.
    """

    def __init__(
        self, url: str, model: str | None = None, *, key: str | None = None, tries: int = 4, side_by_side: int = 16
    ) -> None:
        httpx = self._httpx = httpx_module()
        if len(urls := split_urls(url)) != 1:
            raise ConfigError(f"A judge has one URL, got {len(urls)}.")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ConfigError("The judge's key cannot be sent: it has characters that no key has.")
        self._url, self._key, self._tries = urls[0], key, tries
        options = client_options(urls, key) | {"timeout": httpx.Timeout(_SECONDS, connect=5.0)}
        try:
            with httpx.Client(**options) as client:
                card = model_card(self._url, client.get(f"{self._url}/v1/models"), model)
        except httpx.HTTPError as error:
            raise ConfigError(f"No judge answers at {self._url} ({type(error).__name__}). Check the address.") from None
        except ConfigError as error:
            raise ConfigError(f"The judge: {self._without_key(str(error))}") from None
        self.model = str(card["id"])
        self._client = httpx.AsyncClient(**options)
        self._room = asyncio.Semaphore(side_by_side)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    async def __call__(self, claim: Claim) -> Judgement:
        """Returns a judgement; see `Judge`.

        Raises:
            ConfigError: the server refuses the key, or has no such model.
        """
        rng = np.random.default_rng(int(claim.code.rpartition("-")[2], 16))  # those that failed together return apart
        found = Judgement(None, "", "never asked")
        async with self._room:
            for retry in range(self._tries):
                if retry:
                    await asyncio.sleep(wait_before_retry(retry - 1, first=_FIRST_WAIT, longest=_LONGEST_WAIT, rng=rng))
                try:
                    reply = await self._reply(claim.prompt)
                except ServerFault as fault:
                    found = Judgement(None, found.said, str(fault))
                    continue
                except _Refused as refusal:
                    return Judgement(None, "", str(refusal))
                right = verdict_in(reply, claim.code)
                found = Judgement(right, reply, "" if right is not None else "its reply does not end in a verdict")
                if right is not None:
                    break
        return found

    async def require_sense(self) -> None:
        """Checks the judge on two claims whose verdicts are known.

        Raises:
            ConfigError: it is wrong about one of them, or gives no verdict.
        """
        for claim, wanted in _PROBES:
            found = await self(claim)
            if found.right is not wanted:
                told = found.failure or f"its verdict is {'right' if found.right else 'wrong'}"
                raise ConfigError(
                    f"The judge {self.model} cannot be used: asked whether {claim.answer!r} is right where "
                    f"{claim.accepted[0]!r} is accepted, {told}. Its reply: {found.said[-300:]!r}. Use a larger chat model."
                )

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()

    async def _reply(self, prompt: str) -> str:
        """Returns what the model says.

        Raises:
            ServerFault: it does not answer now.
            _Refused: it will never answer this prompt.
            ConfigError: it refuses whatever is asked.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": _MOST_TOKENS,
        }
        try:
            response = await self._client.post(f"{self._url}/v1/chat/completions", json=body)
        except self._httpx.HTTPError as error:
            raise ServerFault(f"the server does not answer ({type(error).__name__})") from None
        status = response.status_code
        if status == 429 or status >= 500:
            raise ServerFault(f"the server answers with status {status}")
        if status in _WHATEVER_IS_ASKED:
            raise ConfigError(f"The judge at {self._url} refuses (status {status}): {self._without_key(said(response))}")
        if status != 200:
            raise _Refused(f"the server refuses (status {status}): {self._without_key(said(response))}")
        return _text(response)

    def _without_key(self, text: str) -> str:
        """Returns a message of the server, which may quote the key."""
        return text.replace(self._key, "…") if self._key else text


def _text(response: Any) -> str:
    """Returns the text of an answer.

    Raises:
        ServerFault: there is none.
    """
    try:
        choices = response.json()["choices"]
        content = choices[0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise ServerFault("the server's answer has no text")
    return content
