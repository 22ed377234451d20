"""The door of the tree: what a policy draws and what an environment says are checked before they enter.

A single reward of NaN would turn every advantage of its batch into NaN.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from operator import index
from typing import Any

from arpo_envs import ArpoError

from ..policies import Generation, Sampling

LARGEST_REWARD = 1e18
"""In absolute value; the square of a larger one may overflow single precision."""

MISTAKE = "mistake"
"""The status of an action that was neither a call nor an answer, as environments say it."""


class Refused(ArpoError):
    """A policy or an environment handed in what cannot enter a tree."""


@dataclass(frozen=True)
class Outcome:
    """An environment's response to an action.

    Args:
        observation: a string.
        reward: a finite number.
        terminated: whether the episode came to its end.
        truncated: whether it was cut off.
        tool: name of the tool that really ran, "" if none.
        status: how that went, "" if the environment does not say.
        success: whether the answer was right, in [0, 1]; None if it was not judged.
    """

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    tool: str
    status: str
    success: float | None


def outcome(given: Any) -> Outcome:
    """Checks what `step` returned.

    Args:
        given: Gymnasium's tuple of five.

    Raises:
        Refused: the reward is not a finite number, success is not in [0, 1], or the rest is not what Gymnasium asks for.

    >>> outcome(("text", 1, True, False, {"success": True}))
    Outcome(observation='text', reward=1.0, terminated=True, truncated=False, tool='', status='', success=1.0)
    >>> outcome(("text", float("nan"), True, False, {}))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    algorithms.rollout.door.Refused: The environment paid nan as its reward; it must be a finite number between ...
    """
    try:
        observation, paid, terminated, truncated, info = given
        tool, status, success = _name(info, "tool"), _name(info, "status"), info.get("success")
    except (TypeError, ValueError, AttributeError) as error:
        raise Refused(
            "The environment's step did not return observation, reward, terminated, truncated and a dictionary: "
            f"{str(given)[:200]}"
        ) from error
    right = None if success is None else _share(success)
    return Outcome(writable(str(observation)), reward(paid), bool(terminated), bool(truncated), tool, status, right)


def _name(info: Any, key: str) -> str:
    """Returns a string from `info`."""
    said = info.get(key)
    return "" if said is None else writable(str(said))


def writable(text: str) -> str:
    """Returns a text without lone surrogates, which could not be written to a file."""
    return text.encode("utf-8", "replace").decode("utf-8")


def writable_value(given: Any) -> Any:
    r"""Returns a JSON value whose texts are writable, however deep they lie.

    >>> writable_value({"tasks": "\udcff.jsonl", "tools": [{"name": "search"}]})
    {'tasks': '?.jsonl', 'tools': [{'name': 'search'}]}
    """
    if isinstance(given, str):
        return writable(given)
    if isinstance(given, Mapping):
        return {writable_value(name): writable_value(value) for name, value in given.items()}
    return [writable_value(one) for one in given] if isinstance(given, list | tuple) else given


def reward(given: Any, what: str = "its reward") -> float:
    """Checks what an environment paid, and returns it as a number.

    Args:
        given: what it paid.
        what: what it was paid as, for the message.

    Raises:
        Refused: it is not a finite number, or too large to be squared.
    """
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST_REWARD:
        raise Refused(
            f"The environment paid {str(given)[:80]} as {what}; it must be a finite number between "
            f"-{LARGEST_REWARD:g} and {LARGEST_REWARD:g}."
        )
    return number


def measures(given: Any) -> dict[str, float]:
    """Checks what an environment measured of an episode.

    Args:
        given: numbers by name.

    Raises:
        Refused: it is something else, or a number is not finite.

    >>> measures({"efficiency": 1})
    {'efficiency': 1.0}
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise Refused(f"The environment's measures are {str(given)[:200]}; they must be numbers by name.")
    return {writable(name): reward(number, f"the measure {name!r}") for name, number in given.items()}


def _share(given: Any) -> float:
    number = reward(given, "info['success']")
    if not 0.0 <= number <= 1.0:
        raise Refused(f"The environment paid {number:g} as info['success']; it must lie between 0 and 1.")
    return number


def generation(given: Generation, params: Sampling, vocabulary_size: int) -> Generation:
    """Checks what a policy drew, and returns it as plain numbers.

    Args:
        given: T tokens with their log-probabilities and entropies.
        params: what the policy was asked for.
        vocabulary_size: V, of the policy.

    Raises:
        Refused: an id is not in 0 … V − 1, a number is not finite, the lengths differ, or there are more than asked for.
    """
    tokens, logprobs, entropies = given.tokens, given.logprobs, given.entropies
    if not len(tokens) == len(logprobs) == len(entropies):
        raise Refused(
            f"The policy drew {len(tokens)} tokens with {len(logprobs)} log-probabilities and {len(entropies)} entropies."
        )
    if len(tokens) > params.max_tokens:
        raise Refused(f"The policy drew {len(tokens)} tokens, but at most {params.max_tokens} were asked for.")
    ids = tuple(map(index, tokens))
    if foreign := [token for token in ids if not 0 <= token < vocabulary_size]:
        raise Refused(f"The policy drew the token {foreign[0]}, but its vocabulary goes from 0 to {vocabulary_size - 1}.")
    for name, numbers in (("a log-probability", logprobs), ("an entropy", entropies)):
        if bad := [number for number in numbers if not math.isfinite(number)]:
            raise Refused(f"The policy drew a token with {name} of {bad[0]}; its weights may be broken.")
    return replace(given, tokens=ids, logprobs=tuple(map(float, logprobs)), entropies=tuple(map(float, entropies)))


def count(given: Any) -> int:
    """Checks how many siblings a strategy wants, and returns the number.

    Raises:
        Refused: it is not a whole number.
    """
    try:
        return index(given)
    except TypeError as error:
        raise Refused(f"The branching strategy wants {given!r} siblings; it must be a whole number.") from error


def short(number: float | None) -> float | None:
    """Returns a number for the record of a decision with six places, which is all that a reader needs; None if not finite.

    >>> short(1 / 3), short(float("nan")), short(None)
    (0.333333, None, None)
    """
    return round(float(number), 6) if number is not None and math.isfinite(number) else None


def goes_on(action: Generation, text: str, call: str, dialect: Any, stop_tokens: Collection[int]) -> bool:
    """Whether an engine stopped at a stop string that ends nothing, inside a thought or a string of a call.

    Args:
        action: what was drawn.
        text: of the whole action.
        call: that text in the environment's dialect.
        dialect: of the environment; None if it has none.
        stop_tokens: what ends an action whatever it says.
    """
    if action.finish != "stop" or not action.tokens or action.tokens[-1] in stop_tokens:
        return False
    if dialect is None or not any(stop in text for stop in dialect.stop):
        return False
    return bool(getattr(dialect.parse(call), "unfinished", False))
