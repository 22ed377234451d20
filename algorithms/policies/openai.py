"""The policy behind a URL: any OpenAI-compatible server that takes and returns token ids (vLLM, SGLang).

The server draws; this file adds what it cannot do: stop strings across the seam of a probe and its
continuation, entropies from the top log-probabilities, and weights that are stale on no replica.
"""

import asyncio
import json
import logging
import secrets
import shutil
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio

from arpo_envs import ArpoError, ConfigError

from ..seeds import derive
from . import Generate, Generation, Sampling, require_request
from .delivered import Delivered
from .dispatch import Dispatcher, Lost, wait_before
from .export import export_weights
from .replicas import Replica, Replicas
from .served import Served, ServerFault, ask_servers, client_options, httpx_module, model_card
from .server_sync import name_weights, push_weights, require_named, require_sync
from .stopping import StopStrings
from .weight_sync import Delivery
from .wire import Malformed, Piece, raise_for_answer, read_answer, request_body

log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 2.0
"""Below the 5 seconds after which vLLM hangs up, so that no request meets a connection that is just being closed."""
_MARGIN = 4
"""Tokens decoded before the longest stop string could begin."""


class OpenAIPolicy:
    """Draws from a server over HTTP.

    A draw depends on the request's seed and on `offset`, not on its position alone: a probe and its continuation
    are well-formed and independent, but do not equal one call. Entropies are the middle of the range that the top
    log-probabilities allow (`entropies.entropy_bounds`).

    Args:
        urls: of the replicas of one server, which are immediately asked what they serve; or their answers.
        tokenizer: the model's, to find stop strings.
        vocabulary_size: V; by default the tokenizer's, which some models exceed by padding.
        context_length: longest sequence in tokens; never more than the server's own limit.
        model_folder: of the model whose weights `load` gets, for the files besides the weights.
        weights_folder: folder that this process and all replicas see; weights are passed through it.
        strict: refuse a temperature at which the server's log-probabilities are not those it draws with; an
            evaluation does not need them.
        top_logprobs: k; vLLM gives at most 20 unless it was started with a larger `--max-logprobs`.
        concurrency: requests each replica has at once; more wait here.
        attempts: how often a request, or loading weights, is tried before it fails.
        timeout: seconds for one try.
        update_timeout: seconds in which a replica has to take new weights; one that hangs is left alone, like one that is gone.
        api_key: sent as a bearer token.

    Raises:
        ConfigError: no server answers, or it does not serve the model.
    """

    def __init__(
        self,
        urls: Sequence[str] | Served,
        tokenizer: Any,
        *,
        vocabulary_size: int | None = None,
        context_length: int | None = None,
        model_folder: Path | None = None,
        weights_folder: Path | None = None,
        strict: bool = True,
        top_logprobs: int = 20,
        concurrency: int = 64,
        attempts: int = 6,
        timeout: float = 300.0,
        update_timeout: float = 1800.0,
        api_key: str | None = None,
    ) -> None:
        self._httpx = httpx_module()
        self.served = urls if isinstance(urls, Served) else ask_servers(urls, api_key=api_key)
        lengths = [length for length in (context_length, self.served.context_length) if length is not None]
        if not lengths:
            raise ConfigError(f"{self.served.urls[0]} does not say how long a context may be; give context_length.")
        self.context_length = min(lengths)
        self.vocabulary_size = vocabulary_size or len(tokenizer)
        self.version = 0
        self.model_folder, self.weights_folder = model_folder, weights_folder
        self.strict, self.top_logprobs = strict, top_logprobs
        self.at_once = concurrency * len(self.served.urls)
        self._stops = StopStrings(tokenizer)
        self._client = self._httpx.AsyncClient(
            **client_options(self.served.urls, api_key)
            | {
                "timeout": self._httpx.Timeout(None, connect=5.0, write=30.0),
                "limits": self._httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_ALIVE_SECONDS),
            }
        )
        self._replicas = Replicas(self.served.urls, concurrency)
        for replica in self._replicas.all:
            replica.suspect = replica.url in self.served.silent
        self._attempts, self.update_timeout = attempts, update_timeout
        self._dispatcher = Dispatcher(self._replicas, self._examine, self._recognise, attempts=attempts, timeout=timeout)
        self._delivery = Delivery(_ThroughFolder(self))
        self._exported: Path | None = None
        self._under_way = 0
        self._probing = asyncio.Lock()
        self._scaled: bool | None = None
        """Whether log-probabilities are known to be those at the temperature."""

    # --- drawing --------------------------------------------------------------------------------------

    async def generate(
        self,
        context: Sequence[int],
        params: Sampling,
        *,
        seed: int,
        offset: int = 0,
        tail: str = "",
        only: Replica | None = None,
    ) -> Generation:
        """Continues `context`, by one replica `only` if it is given; see `Policy.generate`.

        Raises:
            ConfigError: see `require_request`, or the server refuses the request.
            HalfUpdated: no server took the last weights.
            ServerFault: all tries failed.
        """
        require_request(self, context, params, longer="start the server with a larger --max-model-len")
        await self._delivery.whole()
        self._under_way += 1
        try:
            if self.strict and params.temperature not in (0.0, 1.0):
                await self._refuse_other_logprobs(context)
            return await self._generate(context, params, seed, offset, only)
        finally:
            self._under_way -= 1

    def engines(self) -> Mapping[str, Generate]:
        """Returns the replicas that can be reached, by URL; one that is down gets the newest weights before it is used."""
        return {one.url: partial(self.generate, only=one) for one in self._replicas.all if not one.suspect}

    async def _generate(
        self, context: Sequence[int], params: Sampling, seed: int, offset: int, only: Replica | None = None
    ) -> Generation:
        drawn = list(context[len(context) - offset :])
        stream = self._may_end_at_seam(drawn, params.stop)
        body = request_body(
            self.served.model,
            context,
            params,
            seed=derive(seed, "continuation", offset) if offset else seed,
            top_logprobs=self.top_logprobs,
            salt=self._exported.name if self._exported is not None else None,
            stream=stream,
        )

        async def ask(url: str) -> Generation:
            async with aclosing(self._streamed(url, body) if stream else self._whole(url, body)) as pieces:
                return await self._collect(url, pieces, list(drawn), params)

        return await self._dispatcher.send(context, derive(seed, "retry", offset), ask, only=only)

    def _may_end_at_seam(self, drawn: Sequence[int], stops: tuple[str, ...]) -> bool:
        """Whether a stop string may have begun in the tokens drawn before: the server looks at its own request only.

        Then the answer is streamed, and the request ended here as soon as the string is complete.
        """
        if not drawn or not stops:
            return False
        text = self._stops.text(drawn[-(max(len(stop.encode()) for stop in stops) + _MARGIN) :])
        if not text or text.endswith("\ufffd"):
            return True
        return any(text.endswith(stop[:n]) for stop in stops for n in range(1, len(stop)))

    async def _collect(self, url: str, pieces: AsyncGenerator[Piece, None], action: list[int], params: Sampling) -> Generation:
        """Puts the pieces together, up to the first token that completes the action.

        Args:
            url: of the server, for messages.
            pieces: of the answer.
            action: tokens of the action that were drawn before; grows.
            params: of the request.
        """
        tokens: list[int] = []
        logprobs: list[float] = []
        entropies: list[float] = []
        finish: str | None = None
        async for piece in pieces:
            for token, logprob, entropy in zip(piece.tokens, piece.logprobs, piece.entropies, strict=True):
                action.append(token)
                tokens.append(token)
                logprobs.append(logprob)
                entropies.append(entropy)
                if token in params.stop_tokens or self._stops.completed(action, params.stop):
                    return Generation(tuple(tokens), tuple(logprobs), tuple(entropies), "stop", self.version)
            finish = piece.finish or finish
        if finish is None or not tokens or len(tokens) > params.max_tokens:
            raise Malformed(f"{url} sent {len(tokens)} tokens of {params.max_tokens}, and reported the end as {finish}.")
        ended: Literal["stop", "length"] = "stop" if finish == "stop" else "length"
        return Generation(tuple(tokens), tuple(logprobs), tuple(entropies), ended, self.version)

    async def _whole(self, url: str, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        answer = await self._post(url, "/v1/completions", body)
        yield read_answer(url, answer, self.top_logprobs, self.vocabulary_size)

    async def _streamed(self, url: str, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        try:
            async with self._client.stream("POST", f"{url}/v1/completions", json=body) as response:
                if response.status_code >= 300:
                    await response.aread()
                raise_for_answer(url, response)
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if line.startswith("data:") and data != "[DONE]":
                        yield read_answer(url, _json(url, data), self.top_logprobs, self.vocabulary_size)
        except self._httpx.TransportError as error:
            raise Lost(f"{url} is gone: {type(error).__name__} {error}") from error

    async def _post(self, url: str, route: str, body: Mapping[str, Any] | None = None) -> Any:
        """Returns the JSON of an answer; see `_get`."""
        return await self._answer(url, self._client.post(url + route, json=body))

    async def _get(self, url: str, route: str) -> Any:
        """Returns the JSON of an answer.

        Raises:
            ServerFault: another try may help.
            ConfigError: another try will not help.
        """
        return await self._answer(url, self._client.get(url + route, timeout=20.0))

    async def _answer(self, url: str, asked: Awaitable[Any]) -> Any:
        response = await self._response(url, asked)
        raise_for_answer(url, response)
        return _json(url, response.text) if response.text else None

    async def _response(self, url: str, asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except self._httpx.TransportError as error:
            raise Lost(f"{url} is gone: {type(error).__name__} {error}") from error

    async def _refuse_other_logprobs(self, context: Sequence[int]) -> None:
        """Refuses a server whose log-probabilities ignore the temperature; asks it once.

        Raises:
            ConfigError: it is such a server.
        """
        async with self._probing:
            if self._scaled is None:  # with a whole context: a shorter one would pass for the prompt of many
                one, two = [await self._generate(context, Sampling(1, t), 0, 0) for t in (1.0, 2.0)]
                same = one.logprobs == two.logprobs if one.tokens == two.tokens else one.entropies == two.entropies
                self._scaled = not same
        if not self._scaled:
            raise ConfigError(
                f"{self.served.urls[0]} reports log-probabilities at temperature 1, not at the one it draws at; the learner "
                "needs those it drew with. Start it with --logprobs-mode processed_logprobs, or use temperature 1."
            )

    # --- weights --------------------------------------------------------------------------------------

    @property
    def delivered(self) -> Delivered:
        """Says which weights the replicas have, to the clients in other processes."""
        return Delivered(self._exported, tuple(one.url for one in self._replicas.all if one.suspect))

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Writes the weights into the shared folder and has every replica read them; {} sets the version only.

        A replica that is down gets them when it returns, before it is used.

        Raises:
            ConfigError: the server cannot take weights, or there is no folder for them.
            ServerFault: no replica took them.
        """
        if weights:
            await self._delivery.send(weights, version)
        else:
            self.version = version

    async def _pass_on(self, folder: Path) -> None:
        """Has the replicas read the weights in a folder, and removes the older ones.

        Those that are down or hang get them when they return, and nobody waits for them, unless there are no others.
        """
        before, self._exported = self._exported, folder
        everyone = self._replicas.all
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(wait_before(attempt))
            well = [replica for replica in everyone if not replica.suspect]
            faults = await self._faults(well)
            if len(faults) < len(well):
                break
            faults += await self._faults([replica for replica in everyone if replica not in well])
            if len(faults) < len(everyone) or not all(isinstance(fault, Lost) for fault in faults):
                break  # one has them, or one refuses them
        if before is not None:
            await asyncio.to_thread(shutil.rmtree, before, ignore_errors=True)
        if len(faults) == len(everyone):
            raise ServerFault(f"No replica took the new weights. {faults[0]}") from faults[0]

    async def _faults(self, replicas: Sequence[Replica]) -> list[ArpoError]:
        """Has replicas read the newest weights; returns why some did not."""
        return [fault for fault in await asyncio.gather(*map(self._push, replicas)) if fault is not None]

    async def _push(self, replica: Replica) -> ArpoError | None:
        """Has a replica read the newest weights; one that fails to is not used until it succeeds."""
        async with replica.examination:  # which may just be giving it the older ones
            try:
                await self._give(replica)
            except ArpoError as fault:
                log.warning("%s did not take the new weights: %s", replica.url, fault)
                replica.fail(asyncio.get_running_loop().time())
                return fault
            replica.recover()
        return None

    async def _give(self, replica: Replica) -> None:
        folder = None
        while self._exported is not None and folder != self._exported:  # there may be newer ones when it has these
            folder = self._exported
            try:
                with anyio.fail_after(self.update_timeout):
                    await push_weights(replica.url, folder, self._post)
                    await name_weights(replica.url, folder, self._post)
            except TimeoutError as error:
                raise ServerFault(f"{replica.url} did not take them within {self.update_timeout:g} seconds.") from error
            except ArpoError:
                if self._exported in (folder, None):  # otherwise there are newer ones, and these may be gone
                    raise

    async def _recognise(self, replica: Replica) -> None:
        """Checks that a replica is still the process that took the newest weights; see `Dispatcher`."""
        if self._exported is not None:
            await require_named(replica.url, self._exported, self._get)

    async def _examine(self, replica: Replica) -> None:
        """Checks that a replica is healthy and still serves our model, and gives it the newest weights; see `Dispatcher`.

        If it was gone, it may be a new process, with the weights it was started with.
        """
        response = await self._response(replica.url, self._client.get(f"{replica.url}/v1/models", timeout=20.0))
        if response.status_code >= 500:
            raise Lost(f"{replica.url} answers {response.status_code}.")
        model_card(replica.url, response, self.served.model)
        if self._exported is not None:
            await self._give(replica)

    async def close(self) -> None:
        """Ends the requests in progress, which fail, and removes the exported weights."""
        await self._dispatcher.close()
        await self._client.aclose()
        if self._exported is not None:
            await asyncio.to_thread(shutil.rmtree, self._exported, ignore_errors=True)
            self._exported = None


class _ThroughFolder:
    """Takes weights to servers through a folder that they see, too."""

    def __init__(self, policy: OpenAIPolicy) -> None:
        self._policy, self._updates = policy, 0

    async def init(self) -> None:
        if self._policy.weights_folder is None or self._policy.model_folder is None:
            raise ConfigError("Weights reach a server through a folder that both see; give model_folder and weights_folder.")
        require_sync(self._policy.served)

    async def start(self) -> None:
        if self._policy._under_way:
            raise RuntimeError("Weights were loaded while generations were in progress; await them first.")

    async def update(self, weights: Mapping[str, Any]) -> None:
        assert self._policy.weights_folder is not None
        assert self._policy.model_folder is not None
        # never a name twice: it is also the salt of the prefix cache
        folder = self._policy.weights_folder.resolve() / f"update-{self._updates:06d}-{secrets.token_hex(4)}"
        await asyncio.to_thread(export_weights, self._policy.model_folder, weights, folder)
        self._updates += 1
        await self._policy._pass_on(folder)

    async def finish(self, version: int) -> None:
        self._policy.version = version


def _json(url: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Malformed(f"{url} answered something that is not JSON: {text[:200]!r}") from error
