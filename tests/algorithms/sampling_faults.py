"""Policies that draw from another distribution than they report, and the words that name it."""

from typing import Any

import numpy as np
from policy_faults import Healthy


class Samples(Healthy):
    """Samples from another distribution and reports the whole model's numbers."""

    def drawn_from(self, logp: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def draw(self, logits: np.ndarray, temperature: float, *args: Any) -> tuple[int, float, float]:
        logp = logits / (temperature or 1.0)
        logp = logp - np.log(np.exp(logp).sum())
        token = super().draw(self.drawn_from(logp) if temperature else logits, 1.0 if temperature else 0.0, *args)[0]
        return token, float(logp[token]), float(-(np.exp(logp) * logp).sum())


class TopTen(Samples):
    def drawn_from(self, logp: np.ndarray, k: int = 10) -> np.ndarray:
        return np.where(logp >= np.sort(logp)[-k], logp, -1e9)


class TopFifty(TopTen):
    def drawn_from(self, logp: np.ndarray, k: int = 50) -> np.ndarray:
        return super().drawn_from(logp, k)


class TopTwoHundred(TopTen):
    def drawn_from(self, logp: np.ndarray, k: int = 200) -> np.ndarray:
        return super().drawn_from(logp, k)


class TopShare(Samples):
    share = 0.99

    def drawn_from(self, logp: np.ndarray) -> np.ndarray:
        order = np.argsort(-logp)
        kept = order[: int((np.exp(logp[order]).cumsum() < self.share).sum()) + 1]
        cut = np.full_like(logp, -1e9)
        cut[kept] = logp[kept]
        return cut


class AboveShare(Samples):
    def drawn_from(self, logp: np.ndarray) -> np.ndarray:
        return np.where(logp >= logp.max() + np.log(0.05), logp, -1e9)


class Cooler(Samples):
    def drawn_from(self, logp: np.ndarray) -> np.ndarray:
        return logp / 0.8


class Hotter(Samples):
    def drawn_from(self, logp: np.ndarray) -> np.ndarray:
        return logp / 1.25


class NeverThree(Samples):
    """One token is forbidden, as an end of text is where a minimum of tokens is asked for."""

    def drawn_from(self, logp: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(logp)) == 3, -1e9, logp)


class FavoursTheMiddle(Samples):
    """Draws the tokens of middling likelihood more often than it should."""

    def drawn_from(self, logp: np.ndarray) -> np.ndarray:
        place = np.argsort(np.argsort(-logp))
        return logp + 0.4 * ((place >= 10) & (place < 80))


SAMPLING_FAULTS: list[tuple[type[Healthy], str]] = [
    (TopTen, "a sampler like top_k=10 as"),
    (TopFifty, "a sampler like top_k=50 as"),
    (TopTwoHundred, "a sampler like top_k=200 as"),
    (TopShare, "a sampler like top_p=0.99 as"),
    (AboveShare, "a sampler like min_p=0.05 as"),
    (Cooler, "a sampler like 0.8 times the temperature as"),
    (Hotter, "a sampler like 1.25 times the temperature as"),
    (NeverThree, "none was the token 3"),
    (FavoursTheMiddle, "off by up to"),
]
