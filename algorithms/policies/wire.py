"""The wire protocol of /v1/completions, token ids in and out: what is requested, and how an answer is read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arpo_envs import ConfigError

from . import Sampling
from .entropies import entropy_bounds
from .served import ServerFault, said

if TYPE_CHECKING:
    import httpx

_TOKEN = "token_id:"
_NO_IDS = (
    "{url} answered without token ids, so what it drew would have to be guessed from its text. Use a server that "
    'knows "return_token_ids": vLLM from 0.10.2 on, or an SGLang that has it for /v1/completions (pull request 30917).'
)


@dataclass(frozen=True)
class Piece:
    """A whole answer, or a streamed piece of one.

    Args:
        tokens: ids [T].
        logprobs: [T], nats.
        entropies: [T], nats, the middle of the range that the likeliest tokens allow.
        finish: why the server ended here: "stop" or "length"; None if it continues.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    finish: str | None


class Malformed(ServerFault):
    """An answer cannot be read."""


class Busy(ServerFault):
    """A server has too much to do.

    Args:
        message: what it said.
        wait: seconds after which it asks to be tried again, if it says so.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def request_body(
    model: str,
    context: Sequence[int],
    params: Sampling,
    *,
    seed: int,
    top_logprobs: int,
    salt: str | None,
    stream: bool,
) -> dict[str, Any]:
    """Returns the request for one generation.

    Everything that shapes the distribution is sent: a server fills in what is left out from the model's
    generation_config.json, and a top-p from there would make the log-probabilities those of another distribution.
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(context),
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": seed,
        "stop": list(params.stop),
        "stop_token_ids": list(params.stop_tokens),
        "include_stop_str_in_output": True,
        "ignore_eos": True,  # a wanted end is among the stop tokens
        "skip_special_tokens": False,
        "logprobs": top_logprobs,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,  # two ids may look the same as text, and would share one key
        "stream": stream,
    }
    return body | ({"cache_salt": salt} if salt is not None else {})


def raise_for_answer(url: str, response: "httpx.Response") -> None:
    """Turns a failed answer into the exception that says what to do about it.

    Raises:
        Busy: too many requests; another replica may have room.
        ServerFault: the server failed.
        ConfigError: the request is refused, and every replica would refuse it.
    """
    status = response.status_code
    if status < 300:
        return
    message = f"{url} answers {status}: {said(response)}"
    if status in (429, 503):
        wait = response.headers.get("retry-after", "")
        raise Busy(message, float(wait) if wait.isdigit() else None)
    if status >= 500 or status == 408:
        raise ServerFault(message)
    if status in (404, 405):
        raise ConfigError(f"{message} Is it a server with /v1/completions, and does it still serve the same model?")
    raise ConfigError(message)


def read_answer(url: str, answer: Any, top_logprobs: int, vocabulary_size: int) -> Piece:
    """Reads an answer, or a streamed piece of one.

    Args:
        url: of the server, for messages.
        answer: the JSON.
        top_logprobs: k, how many were asked for.
        vocabulary_size: V.

    Raises:
        Malformed: it is not a valid answer.
        ServerFault: it reports a failure in the middle of a stream.
        ConfigError: it has no token ids.
    """
    if isinstance(answer, Mapping) and answer.get("error"):
        raise ServerFault(f"{url} failed: {answer['error']}")
    try:
        choice = answer["choices"][0]
        finish, said_logprobs = choice.get("finish_reason"), choice.get("logprobs") or {}
        tokens = _token_ids(url, choice, said_logprobs)
        logprobs = tuple(float(logp) for logp in said_logprobs.get("token_logprobs") or ())
        tops = [tuple(map(float, top.values())) for top in said_logprobs.get("top_logprobs") or ()]
    except ConfigError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"{url} answered something that cannot be read ({error!r}): {str(answer)[:200]}") from error
    if finish not in (None, "stop", "length"):
        raise ServerFault(f"{url} ended a request as {finish!r}.")
    if not len(tokens) == len(logprobs) == len(tops):
        raise Malformed(f"{url} sent {len(tokens)} tokens, {len(logprobs)} log-probabilities and {len(tops)} lists of them.")
    if not all(map(math.isfinite, logprobs)) or any(math.isnan(one) for top in tops for one in top):
        raise Malformed(f"{url} sent log-probabilities that are not finite numbers.")
    if foreign := [token for token in tokens if not 0 <= token < vocabulary_size]:
        raise Malformed(f"{url} sent the token {foreign[0]}; the model's ids are 0 to {vocabulary_size - 1}.")
    entropies = tuple(entropy_bounds(top, top_logprobs, vocabulary_size).middle for top in tops)
    return Piece(tokens, logprobs, entropies, finish)


def _token_ids(url: str, choice: Mapping[str, Any], logprobs: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the drawn ids, from either of the two places where servers put them."""
    if isinstance(ids := choice.get("token_ids"), list):
        return tuple(map(int, ids))
    names = logprobs.get("tokens") or []
    if choice.get("text") and not (names and all(str(name).startswith(_TOKEN) for name in names)):
        raise ConfigError(_NO_IDS.format(url=url))
    return tuple(int(str(name).removeprefix(_TOKEN)) for name in names)
