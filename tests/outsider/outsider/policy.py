"""A table of what follows what: docs/add-a-policy.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from algorithms.policies import Generation, Sampling
from algorithms.seeds import uniforms
from arpo_envs import ConfigError

SIZE = 256
LETTERS = 128


def encode(text: str) -> list[int]:
    return [ord(letter) if letter.isascii() else LETTERS + ord(letter) % LETTERS for letter in text]


def decode(ids: Sequence[int]) -> str:
    return "".join(chr(one) if 32 <= one < 127 else "\ufffd" for one in ids)


def table(seed: int) -> np.ndarray:
    """Logits of the next token, by the last one."""
    return np.random.default_rng(seed).normal(size=(SIZE, SIZE)) * 1.5


def logits_of(weights: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """The reference: row t belongs to the token after ids[: t + 1]."""
    return weights[list(ids)]


class TablePolicy:
    """Draws by its table."""

    context_length, vocabulary_size = 500, SIZE

    def __init__(self) -> None:
        self.version, self.weights, self.closed = 0, table(0), False

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        if self.closed:
            raise RuntimeError("The policy was closed.")
        if not context or params.max_tokens < 1:
            raise ConfigError("Give a context and room for at least one token.")
        if len(context) + params.max_tokens > self.context_length:
            raise ConfigError(f"At most {self.context_length} tokens fit.")
        ids, logprobs, entropies, finish, last = [], [], [], "length", context[-1]
        while len(ids) < params.max_tokens and finish == "length":
            scaled = self.weights[last] / (params.temperature or 1.0)
            logp = scaled - scaled.max()
            logp -= np.log(np.exp(logp).sum())
            last = self.drawn(logp, params.temperature, seed, offset + len(ids))
            ids.append(last)
            logprobs.append(float(logp[last]))
            entropies.append(float(-(np.exp(logp) * logp).sum()))
            written = tail + decode(ids)
            if last in params.stop_tokens or any(stop in written for stop in params.stop):
                finish = "stop"
        return Generation(tuple(ids), tuple(logprobs), tuple(entropies), finish, self.version)

    def drawn(self, logp: np.ndarray, temperature: float, seed: int, place: int) -> int:
        if temperature == 0.0:
            return int(logp.argmax())
        top = np.exp(self.kept(logp)).cumsum()
        u = uniforms(np.array([seed], np.uint64), np.array([place], np.uint64))[0]
        return min(int(np.searchsorted(top / top[-1], u, "right")), SIZE - 1)

    def kept(self, logp: np.ndarray) -> np.ndarray:
        return logp

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        self.weights, self.version = weights["table"], version

    async def close(self) -> None:
        self.closed = True
