"""Our own engine behind a meter: it says in a file how many tokens were drawn with which weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from algorithms.models.loading import load_policy
from algorithms.policies import Generation, Policy, Sampling
from algorithms.policies.local import LocalPolicy


class MeteredPolicy:
    """Passes everything on to a policy, and writes a line per set of weights.

    Args:
        inner: the policy that draws.
        log: file to append to.
    """

    def __init__(self, inner: Policy, log: Path) -> None:
        self.inner, self.log, self.drawn = inner, log, 0
        self.version, self.context_length, self.vocabulary_size = inner.version, inner.context_length, inner.vocabulary_size

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        generation = await self.inner.generate(context, params, seed=seed, offset=offset, tail=tail)
        self.drawn += len(generation.tokens)
        return generation

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        self._note()
        await self.inner.load(weights, version)
        self.version = self.inner.version

    async def close(self) -> None:
        self._note()
        await self.inner.close()

    def _note(self) -> None:
        if self.drawn:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"version {self.version}: {self.drawn} tokens\n")
        self.drawn = 0


def metered(*, folder: Path, tokenizer: Any, context_length: int, device: str, log: str = "metered.log") -> MeteredPolicy:
    """Returns our own engine behind a meter.

    Args:
        folder: of the model.
        tokenizer: of the model.
        context_length: longest sequence in tokens.
        device: cpu or cuda.
        log: file to append to.
    """
    model, _ = load_policy(folder)
    return MeteredPolicy(LocalPolicy(model, tokenizer, device=device, context_length=context_length), Path(log))
