"""The law about draws: they come from the whole distribution, tested with a known rate of false alarms.

Under the law three things hold exactly, however the distribution changes from token to token. The total probability of
likelier tokens than the drawn one is uniform between 0 and 1. The product of q/p over all draws, for any other sampler q,
has mean 1, so it exceeds 1/α with probability at most α. And the probability that a token is never drawn is ∏(1 − p).
"""

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from arpo_envs.testing import Finding, SkippedLaw

from .bench import Array, Bench
from .laws import Law

FALSE_ALARMS = 1e-6
"""The highest probability of reporting a sampler that keeps the law; each test has its share."""
_TEMPERATURES = (1.0, 2.0)
"""The higher one makes tokens likely that a sampler might cut off."""
_TOKENS, _CONTEXTS = 16, 8
_CHOICES = 20.0
"""How many draws of other tokens than the likeliest must be expected for a meaningful test."""
_SLIP = 0.01
"""Share of draws that another sampler is assumed to take from the whole distribution: its cut depends on rounding."""
_HINT = "Sample with top_p=1, no top_k, min_p or penalties, at the temperature asked for: the learner's ratios are for that."

_FACTORS = (0.5, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0)
_TOP_K = (1, 2, 5, 10, 20, 30, 40, 50, 64, 80, 100, 128, 200, 256, 512, 1024, 4096)
_TOP_P = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
_MIN_P = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2)


async def draws(bench: Bench) -> AsyncIterator[Finding]:
    """Many draws at two temperatures, in several contexts, against the reference's distributions."""
    tallies = {"": Draws()}
    for number, temperature in enumerate(_TEMPERATURES, start=1):
        tally = Draws()
        asked = -(-bench.draws // (len(_TEMPERATURES) * _TOKENS))
        contexts = [bench.text_context(i % _CONTEXTS) for i in range(asked)]
        requests = [
            {"context": context, "tokens": _TOKENS, "seed": 10_000 * number + i, "temperature": temperature}
            for i, context in enumerate(contexts)
        ]
        for context, out in zip(contexts, await bench.ask_all(requests), strict=True):
            tally.add(bench.expected(context, out, temperature), out.tokens)
        tallies[f" at temperature {temperature:g}"] = tally
        tallies[""] += tally
    if tallies[""].choices < _CHOICES:
        raise SkippedLaw("the policy is so certain here that draws show nothing about its distribution")
    for where, tally in tallies.items():
        for happened, expected in tally.complaints(FALSE_ALARMS / len(tallies), bench.promises.logprob_slack)[:1]:
            yield Finding(Law.DRAWS, f"of {len(tally.rank)} draws{where}, {happened}", expected, _HINT)


@dataclass
class Draws:
    """Statistics of draws from known distributions.

    Args:
        rank: for each draw, the total probability of likelier tokens; of equally likely ones, a random part.
        ratios: for each other sampler, log ∏ q/p.
        never: [V], log of the probability that a token is never drawn; a single 0 before the first draw.
        counts: [V], how often each was drawn.
        choices: expected number of draws of tokens other than the likeliest.
        rng: breaks ties.
    """

    rank: list[float] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    never: Array = field(default_factory=lambda: np.zeros(1))
    counts: Array = field(default_factory=lambda: np.zeros(1))
    choices: float = 0.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, logp_TV: Array, tokens: tuple[int, ...]) -> None:
        """Adds T draws, each with the distribution it should come from."""
        if not tokens:
            return
        p_TV = np.exp(logp_TV)
        self.never = self.never + np.log1p(-np.minimum(p_TV, 1.0 - 1e-15)).sum(axis=0)
        self.counts = self.counts + np.bincount(list(tokens), minlength=p_TV.shape[1])
        self.choices += float((1.0 - p_TV.max(axis=1)).sum())
        drawn_T = np.maximum(p_TV[np.arange(len(tokens)), list(tokens)], 1e-300)  # drawing the impossible is evidence enough
        likelier_T = np.where(p_TV > drawn_T[:, None], p_TV, 0.0).sum(axis=1)
        equal_T = np.where(p_TV == drawn_T[:, None], p_TV, 0.0).sum(axis=1)
        self.rank += list(likelier_T + self.rng.random(len(tokens)) * equal_T)
        for name, ratio_T in _ratios(logp_TV, p_TV, drawn_T).items():
            self.ratios[name] = self.ratios.get(name, 0.0) + float(np.log(_SLIP + (1.0 - _SLIP) * ratio_T).sum())

    def __add__(self, other: "Draws") -> "Draws":
        """Returns both together."""
        names = self.ratios.keys() | other.ratios.keys()
        return Draws(
            self.rank + other.rank,
            {name: self.ratios.get(name, 0.0) + other.ratios.get(name, 0.0) for name in names},
            self.never + other.never,
            self.counts + other.counts,
            self.choices + other.choices,
        )

    def complaints(self, alarms: float, slack: float) -> list[tuple[str, str]]:
        """Returns (what happened, what was expected) for every failed test, the most informative one first.

        Args:
            alarms: probability of a failed test although the draws are right.
            slack: nats by which the sampler's log-probabilities may differ from the known ones.
        """
        found, each, count = [], alarms / 3, len(self.rank)
        name, most = max(sorted(self.ratios.items()), key=lambda pair: pair[1])
        excess = most - math.log(len(self.ratios) / each) - count * slack**2
        if excess > 0.0:
            happened = (
                f"together they are e^{most:.0f} times as likely with a sampler like {name} as with the whole distribution"
            )
            found.append((happened, f"at most e^{most - excess:.0f} times, by chance"))
        rank = np.sort(self.rank)
        steps = np.arange(count + 1) / count
        apart = float(max((steps[1:] - rank).max(), (rank - steps[:-1]).max()))
        most_apart = math.sqrt(math.log(4 / each) / (2 * count)) + slack
        tail = 1.0 - float(rank[-1])
        if apart > most_apart:
            happened = f"the share that came from the likeliest tokens is off by up to {apart:.3f}"
            found.append((happened, f"at most {most_apart:.3f}, by chance"))
        if tail > 1.0 - (each / 2) ** (1.0 / count) + slack:
            happened = f"none came from the least likely tokens, which have {tail:.1%} of the probability"
            found.append((happened, f"about {tail * count:.0f} of them"))
        return found + self._never_drawn(each)

    def _never_drawn(self, alarms: float) -> list[tuple[str, str]]:
        missing = np.where(self.counts == 0, self.never, 0.0)
        token = int(missing.argmin())
        if missing[token] > math.log(alarms / len(missing)):
            return []
        return [(f"none was the token {token}", f"about {-self.never[token]:.0f} of them")]


def _ratios(logp_TV: Array, p_TV: Array, drawn_T: Array) -> Mapping[str, Array]:
    """Returns how many times as likely each draw is under other samplers, [T]; of equal tokens they keep all or none."""
    found: dict[str, Array] = {}
    log_drawn_T = np.log(drawn_T)
    for factor in _FACTORS:
        whole_T = np.log(np.exp(logp_TV / factor).sum(axis=1))
        found[f"{factor:g} times the temperature"] = np.exp(log_drawn_T / factor - whole_T - log_drawn_T)
    rising_TV = np.sort(-p_TV, axis=1)
    ordered_TV, mass_TV = -rising_TV, -rising_TV.cumsum(axis=1)
    least = {f"top_k={k}": ordered_TV[:, k - 1] for k in _TOP_K if k < p_TV.shape[1]}
    for share in _TOP_P:
        last_T1 = np.minimum((mass_TV < share).sum(axis=1, keepdims=True), p_TV.shape[1] - 1)
        least[f"top_p={share:g}"] = np.take_along_axis(ordered_TV, last_T1, axis=1)[:, 0]
    least |= {f"min_p={share:g}": share * ordered_TV[:, 0] for share in _MIN_P}
    least_TI = np.stack(list(least.values()), axis=1)
    rows = zip(rising_TV, least_TI, strict=True)
    last_TI = np.stack([np.searchsorted(rising_V, -least_I, side="right") - 1 for rising_V, least_I in rows])
    ratio_TI = np.where(drawn_T[:, None] >= least_TI, 1.0 / np.take_along_axis(mass_TV, last_TI, axis=1), 0.0)
    return found | dict(zip(least, ratio_TI.T, strict=True))
