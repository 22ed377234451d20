"""What is asked of a tool or a source, and where on which path: both as digests, the same in every process and run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...tasks import Task
from .credentials import require_none


@dataclass(frozen=True)
class Question:
    """One call.

    Args:
        name: what is called, for messages.
        subject: digest of the tool and all its configuration.
        key: digest of the subject and the call: equal for calls that have the same answer.
        place: digest of where the call is made; see `Place`.
    """

    name: str
    subject: bytes
    key: bytes
    place: bytes

    def here(self, scope: str) -> bytes:
        """Returns the key of what counts for this place only, in one part of a run: a failure."""
        return digest("here", scope, self.key.hex(), self.place.hex())


@dataclass(frozen=True)
class Place:
    """Where a path of a run is: its episode, its forks, and the calls made so far.

    It depends on seeds and calls, never on what other paths do meanwhile, so it is the same when the run is repeated.

    Args:
        digest: of all that.
    """

    digest: bytes

    @classmethod
    def of(cls, task: Task, rng: np.random.Generator) -> "Place":
        """Returns the beginning of an episode, which the state of its generator tells from others; draws nothing."""
        return cls(digest("open", task.id, rng.bit_generator.state))

    def reseeded(self, seed: int) -> "Place":
        """Returns the place of a fork."""
        return Place(digest("reseed", self.digest.hex(), seed))

    def after(self, name: str, arguments: Mapping[str, Any]) -> "Place":
        """Returns the place after a call."""
        return Place(digest("call", self.digest.hex(), name, dict(arguments)))


def subject_of(owner: object, configuration: Mapping[str, Any], name: str) -> bytes:
    """Returns the digest of a tool or a source: its class and its configuration.

    Args:
        owner: the tool or source.
        configuration: what its answers depend on besides the call, in JSON: version, endpoint, corpus, language, ….
        name: for messages.

    Raises:
        ConfigError: something in the configuration is named like a credential, or is not JSON.
    """
    require_none(dict(configuration), f"The tool {name}")
    try:
        return digest("subject", type(owner).__module__, type(owner).__qualname__, dict(configuration))
    except TypeError as error:
        raise ConfigError(
            f"What the answers of {name} depend on must be JSON: {error} Write it as text or numbers in `pure`."
        ) from error


def ask(name: str, subject: bytes, arguments: Mapping[str, Any], place: Place) -> Question:
    """Returns the question of a call."""
    return Question(name, subject, digest("key", subject.hex(), name, dict(arguments)), place.digest)


def digest(*parts: Any) -> bytes:
    """Returns 32 bytes that depend on JSON values alone, and not on the order of names.

    >>> digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1}) != digest("a", {"x": 1.0, "y": 2})
    True
    """
    return blake2b(json.dumps(parts, sort_keys=True, default=_listed).encode("ascii"), digest_size=32).digest()


def _listed(value: Any) -> Any:
    """Returns arrays and numbers of NumPy as JSON; refuses all else."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} is not JSON.")
