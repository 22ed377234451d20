"""What may go wrong between here and a remote sandbox, and what may safely be retried.

A request is repeated only if it certainly did nothing (the server refused it, or no connection was
made), or if doing it twice is the same as doing it once. A cell that may have run is never run
again.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ...errors import ConfigError
from ...retries import wait_before_retry

T = TypeVar("T")

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0
"""Seconds before the first retry, and the most before any, randomly shortened to no less than half."""
_REFUSED = frozenset({429, 503})
"""Rate limit, and no capacity: the request was not carried out."""
_CANNOT = frozenset({400, 402, 403, 405, 501})
"""Answers of a server or plan that does not offer what a well-formed request asks for."""


@dataclass(frozen=True)
class Deadline:
    """A moment by which something must be done.

    Args:
        end: reading of `time.monotonic`, in seconds.
    """

    end: float

    @classmethod
    def within(cls, seconds: float) -> "Deadline":
        """Returns the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Returns the seconds until then, at least a millisecond."""
        return max(0.001, self.end - time.monotonic())


class Secret:
    """A string that neither prints nor travels: it shows as stars, and unpickles as empty.

    >>> Secret("e2b_0123")
    Secret('***')
    """

    __slots__ = ("value",)

    def __init__(self, value: str = "") -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, ()

    def hidden_in(self, text: str) -> str:
        """Returns `text` without the secret."""
        return text.replace(self.value, "***") if self.value else text


def load_sdk() -> Any:
    """Returns the class `e2b_code_interpreter.Sandbox`.

    Raises:
        ConfigError: the package is missing, or too old to be used.
    """
    try:
        from e2b_code_interpreter import Sandbox
    except ImportError as missing:
        raise ConfigError(
            f'E2B needs a package that is not here ({missing}). Install it: pip install "arpo-envs[e2b]"'
        ) from None
    return Sandbox


def seconds_for(deadline: Deadline) -> float:
    """Returns what to pass to the SDK as a timeout so that it ends by the deadline.

    The SDK passes its timeout to the transport once for reading and once for writing, and some
    versions of the transport add the two: a call then takes twice as long as it was told.
    """
    try:
        from pyqwest.httpx._transport import convert_timeout

        factor = convert_timeout({"timeout": {"connect": 1.0, "read": 1.0, "write": 1.0, "pool": 1.0}}) or 1.0
    except (ImportError, TypeError, KeyError):
        factor = 1.0
    return deadline.left() / float(factor)


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status that an error of the SDK stands for, or None."""
    from e2b import exceptions

    code = getattr(error, "status_code", None)
    if isinstance(code, int):
        return code
    if isinstance(error, exceptions.AuthenticationException):
        return 401
    if isinstance(error, exceptions.NotFoundException):
        return 404
    spelt_out = re.match(r"(\d{3})\b", str(error)) if isinstance(error, exceptions.SandboxException) else None
    return int(spelt_out[1]) if spelt_out else None


def was_refused(error: BaseException) -> bool:
    """Says whether the request certainly did nothing, so it may be sent again."""
    import httpx

    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) or status_of(error) in _REFUSED


def was_interrupted(error: BaseException) -> bool:
    """Says whether the connection failed, before or after the request was carried out."""
    import httpx

    return isinstance(error, httpx.TransportError)


def may_be_unknown(error: BaseException) -> bool:
    """Says whether an answer may come from a server that does not know the request.

    A 404 also means a lost sandbox: the caller must check whether it is still there. The SDK fails
    to read answers that are not the API's, such as a proxy's page.
    """
    return status_of(error) == 404 or (isinstance(error, ValueError | KeyError) and not was_interrupted(error))


def is_not_offered(error: BaseException) -> bool:
    """Says whether a server, or the account's plan, does not offer what was asked for."""
    return status_of(error) in _CANNOT


def wait_before(attempt: int, seed: int) -> float:
    """Returns the seconds to wait before retry `attempt` (0 = the first): exponential, with seeded jitter."""
    rng = np.random.default_rng([seed, attempt])
    return wait_before_retry(attempt, first=_FIRST_WAIT, longest=_LONGEST_WAIT, rng=rng)


def patiently(
    request: Callable[[], T], again: Callable[[BaseException], bool], *, deadline: Deadline, retries: int, seed: int
) -> T:
    """Returns what `request` returns, repeating it after errors that allow it.

    Args:
        request: what to do.
        again: whether an error allows a retry.
        deadline: no retry starts after it.
        retries: how many retries at most.
        seed: the jitter's seed.
    """
    for attempt in range(retries):
        try:
            return request()
        except Exception as error:  # the SDK's errors have no common base
            wait = wait_before(attempt, seed)
            if not again(error) or wait >= deadline.left():
                raise
        time.sleep(wait)
    return request()
