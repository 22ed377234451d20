"""What every law needs: fresh environments, and episodes with a place to fork and runs to compare with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..forking import ForkLevel, describe, fork_level
from .laws import Law
from .report import Finding, SkippedLaw
from .runs import Env, Step, Trace, Watch, act, deviation, start
from .scripts import default_scripts

Script = tuple[Any, ...]

_MOST_CUTS = 12


@dataclass(frozen=True)
class Case:
    """One episode, a place to fork it, two ways to continue from there, and how both must look.

    Args:
        seed: for the reset.
        prefix: actions before the fork.
        rest: actions after it.
        other: other actions after it.
        wanted: what `rest` gives in an environment that was never forked.
        other_wanted: the same for `other`.
        forked: whether anything is copied at all; otherwise the whole episode is `rest`.
    """

    seed: int
    prefix: Script
    rest: Script
    other: Script
    wanted: Trace
    other_wanted: Trace
    forked: bool = True

    @property
    def where(self) -> str:
        """Names the episode, and the place of the fork if there is one, for findings."""
        return f"seed {self.seed}, forked after {len(self.prefix)} action(s)" if self.forked else f"seed {self.seed}"


@dataclass(frozen=True)
class Bench:
    """Makes the environments under test and knows the episodes to play.

    Args:
        make: builds the whole stack anew.
        seeds: seeds to reset with.
        scripts: sequences of actions, or None for default ones that depend on the episode.
    """

    make: Callable[[], Env]
    seeds: tuple[int, ...]
    scripts: tuple[Script, ...] | None

    @contextmanager
    def env(self) -> Iterator[Env]:
        """A fresh environment, closed afterwards."""
        env = self.make()
        try:
            yield env
        finally:
            env.close()

    @contextmanager
    def at(self, case: Case) -> Iterator[Env]:
        """A fresh environment, played up to the place where the case forks."""
        with self.env() as env:
            self.play(env, case)
            yield env

    def play(self, env: Env, case: Case, watch: Watch | None = None) -> Step:
        """Resets an environment, plays it up to the place where the case forks, and returns the last step."""
        begun = start(env, case.seed, watch)
        return (begun, *act(env, case.prefix, watch))[-1]

    @cached_property
    def name(self) -> str:
        """The stack as a person would name it."""
        with self.env() as env:
            return describe(env)

    @cached_property
    def level(self) -> ForkLevel:
        """The level the stack declares."""
        with self.env() as env:
            return fork_level(env)

    def episodes(self) -> Iterator[tuple[int, Script, Script]]:
        """Yields (seed, actions, other actions) for every episode."""
        for seed in self.seeds:
            scripts = self._scripts_for(seed)
            for i, script in enumerate(scripts):
                yield seed, script, scripts[i + 1] if i + 1 < len(scripts) else tuple(reversed(scripts[0]))

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """All cases.

        Raises:
            SkippedLaw: the stack declares that it cannot be forked.
        """
        if self.level is ForkLevel.NONE:
            raise SkippedLaw("the stack declares fork_level NONE")
        return tuple(case for episode in self.episodes() for case in self._cases(*episode))

    def reference(self, seed: int, actions: Script) -> tuple[Step, Trace]:
        """Plays actions in an environment that nothing else ever touched."""
        with self.env() as env:
            return start(env, seed), act(env, actions)

    def _cases(self, seed: int, actions: Script, other: Script) -> Iterator[Case]:
        _, whole = self.reference(seed, actions)
        for cut in sorted({0, 1, len(whole) // 2} & set(range(len(whole)))):
            _, otherwise = self.reference(seed, actions[:cut] + other)
            yield Case(seed, actions[:cut], actions[cut:], other, whole[cut:], otherwise[cut:])

    def _scripts_for(self, seed: int) -> tuple[Script, ...]:
        if self.scripts is not None:
            return self.scripts
        with self.env() as env:
            observation = start(env, seed).observation
            return tuple(tuple(script) for script in default_scripts(env, observation))


def compare(law: Law, who: str, case: Case, seen: Trace, wanted: Trace, hint: str) -> Iterator[Finding]:
    """Yields a finding if a run differs from the one that was never forked."""
    found = deviation(seen, wanted)
    if found is not None:
        step = len(case.prefix) + found.step
        yield Finding(law, f"{who}: {found.happened} in step {step}; {case.where}", found.expected, hint)


def spread(count: int) -> list[int]:
    """Returns the places 0 … count − 1 to cut at: all of them, or for many, the first ones, the last one and some in between.

    >>> spread(4)
    [0, 1, 2, 3]
    >>> spread(100)
    [0, 1, 10, 20, 30, 40, 50, 59, 69, 79, 89, 99]
    """
    if count <= _MOST_CUTS:
        return list(range(count))
    return sorted({1, *(round(i * (count - 1) / (_MOST_CUTS - 2)) for i in range(_MOST_CUTS - 1))})
