"""A policy that follows a script: for tests, baselines and demonstrations, without torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import Generation, Sampling, require_request

Script = Callable[[str, int], str]
"""(everything before the action, seed) -> the whole action."""

EntropyScript = Callable[[str, int], Sequence[float]]
"""(everything before the action, seed) -> entropy in nats of each character of the action."""


@dataclass
class ScriptedPolicy:
    """Writes what a function returns; one token is one Unicode character (`ScriptedRenderer`).

    Args:
        script: gives the whole action for a context and a seed.
        entropy: gives the entropies; 1 nat everywhere when left out.
        context_length: in characters.
    """

    script: Script
    entropy: EntropyScript | None = None
    context_length: int = 1 << 20
    vocabulary_size: int = 0x110000
    version: int = 0
    _closed: bool = field(default=False, init=False, repr=False)

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        """Returns the next characters of the scripted action; see `Policy.generate`.

        Raises:
            ConfigError: see `require_request`.
            RuntimeError: the policy was closed.
        """
        if self._closed:
            raise RuntimeError("The policy was closed.")
        require_request(self, context, params)
        before = "".join(map(chr, context[: len(context) - offset]))
        action = self.script(before, seed)
        entropies = list(self.entropy(before, seed)) if self.entropy is not None else []
        entropies += [1.0] * (len(action) - len(entropies))
        piece = action[offset : offset + params.max_tokens]
        end = offset + len(piece)
        return Generation(
            tokens=tuple(map(ord, piece)),
            logprobs=(-1.0,) * len(piece),
            entropies=tuple(entropies[offset:end]),
            finish="stop" if end >= len(action) else "length",
            version=self.version,
        )

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Sets the version; a script has no weights."""
        self.version = version

    async def close(self) -> None:
        """Refuses later requests; there is nothing to free."""
        self._closed = True
