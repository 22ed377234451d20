"""`arpo bench games`: what a step of another library's game costs here, copied and replayed, beside the library itself.

All three play the same moves. The library's game is what its own `make` returns and is asked for its text after each move; of
TextWorld, it is asked for the facts that hold, as here. Beginning a game is not measured, and a fork is measured with its first
step, because a game that is replayed is rebuilt only then.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError, clone
from arpo_envs.hubs import gem, textarena, textworld
from arpo_envs.hubs.own_random import OwnRandom

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent

BOUNDS = {
    "textarena_copied_over_bare": Bound("≤", 25),
    "gem_copied_over_bare": Bound("≤", 80),
    "textworld_copied_over_bare": Bound("≤", 2),
}
"""A step of the first two takes microseconds; to swap the global generators around it takes tens, whatever the game."""

_STORY: dict[str, Any] = {"rooms": 1, "objects": 2, "quest_length": 1, "games": 1}
_LONG = {"textarena": {"num_turns": 10_000}, "gem": {"max_turns": 10_000}}
MOVES = {"textarena": ["[red]", "[blue]"], "gem": [r"\boxed{7}", r"\boxed{99}"], "textworld": ["look", "inventory"]}
"""That do not end the game, however often they are made."""
PACKAGES = {"textarena": "textarena", "gem": "gem-llm", "textworld": "textworld"}


@dataclass(frozen=True)
class GamesBench:
    """Compare what a step and a fork of a game cost here with what a step costs in the game's own library."""

    rounds: int = 20
    """Rounds, in each of which all take their turns; medians count."""
    steps: int = 20
    """Moves per episode, after which a fork is taken."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("rounds", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


def measure(config: GamesBench, say: Say = silent) -> dict[str, Value]:
    """Returns microseconds per step and per fork, medians over rounds, and medians of the rounds' ratios, flat."""
    absent = [package for hub, package in PACKAGES.items() if importlib.util.find_spec(hub) is None]
    found: dict[str, Value] = {f"{hub}_copied_over_bare": None for hub in PACKAGES}
    for hub in (hub for hub, package in PACKAGES.items() if package not in absent):
        say(f"{hub} …")
        moves = [MOVES[hub][number % len(MOVES[hub])] for number in range(config.steps)]
        with closing(made(hub, "auto")) as copied, closing(made(hub, "replay")) as replayed:
            rounds = [dict(_round(bare(hub), copied, replayed, moves)) for _ in range(config.rounds + 1)][1:]
        found |= {f"{hub}_{name}_us": round(median(times[name] for times in rounds), 1) for name in rounds[0]}
        for name in ("copied", "replayed"):
            found[f"{hub}_{name}_over_bare"] = round(median(times[name] / times["bare"] for times in rounds), 3)
    return found | {"steps": config.steps, "absent": ", ".join(absent)}


def made(hub: str, fork: str) -> "gym.Env[Any, Any]":
    """Returns a library's game here."""
    if hub == "textarena":
        return textarena.make("Bandit-v0", fork=fork, **_LONG[hub])
    if hub == "gem":
        return gem.make("game:GuessTheNumber-v0-easy", fork=fork, **_LONG[hub])
    return textworld.make(fork=fork, **_STORY)


def bare(hub: str) -> Callable[[str], Any]:
    """Begins a game as its library has it, and returns what makes a move and reads what comes of it."""
    if hub == "textarena":
        game = importlib.import_module("textarena").make("Bandit-v0", **_LONG[hub])
        game.reset(num_players=1, seed=1)
        return lambda move: (game.step(move), game.get_observation())
    if hub == "gem":
        game = importlib.import_module("gem").make("game:GuessTheNumber-v0-easy", **_LONG[hub])
        game.reset(1)
        return game.step  # type: ignore[no-any-return]
    story = textworld.TextWorld(path=None, **_STORY)
    story.begin(0)
    return story.game.step  # type: ignore[no-any-return]


def _round(
    bare: Callable[[str], Any], copied: "gym.Env[Any, Any]", replayed: "gym.Env[Any, Any]", moves: list[str]
) -> Iterator[tuple[str, float]]:
    """Yields microseconds per step of each, and of a fork with its first step."""
    with OwnRandom(1).lent():
        yield "bare", _microseconds(lambda: [bare(move) for move in moves]) / len(moves)
    for name, env in (("copied", copied), ("replayed", replayed)):
        env.reset(seed=1)
        yield name, _microseconds(lambda env=env: [env.step(move) for move in moves]) / len(moves)  # type: ignore[misc]
        yield f"{name}_fork", _microseconds(lambda env=env: _forked(env, moves[0]))  # type: ignore[misc]


def _forked(env: "gym.Env[Any, Any]", move: str) -> None:
    with closing(clone(env)) as twin:
        twin.step(move)


def _microseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1e6 * (time.perf_counter() - began)


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Microseconds, medians", title_justify="left", caption_justify="left")
    for heading in ("", "own", "copied", "replayed", "ratio", "bound", "fork", "by replay"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for hub in PACKAGES:
        times = [record.get(f"{hub}_{name}_us") for name in ("bare", "copied", "replayed", "copied_fork", "replayed_fork")]
        ratio, bound = record[f"{hub}_copied_over_bare"], BOUNDS[f"{hub}_copied_over_bare"]
        step, fork = [("–" if time_ is None else f"{time_:,.0f}") for time_ in times[:3]], times[3:]
        compared = ("–", "") if ratio is None else bound.cells(float(ratio), "×")
        shown.add_row(hub, *step, *compared, *("–" if time_ is None else f"{time_:,.0f}" for time_ in fork))
    missing = f" Not installed: {record['absent']}." if record["absent"] else ""
    shown.caption = Text(
        f"A step in the library itself, copied and replayed here, and the first two compared; a fork after {record['steps']} "
        f"moves, which makes one more, by a copy and by replaying.{missing}"
    )
    return shown


BENCHMARK = Benchmark(GamesBench, measure, table, BOUNDS, check=GamesBench(rounds=10))
