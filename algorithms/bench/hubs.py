"""`arpo bench hubs`: microseconds that one step takes in each hub, beside the bare environment.

Our environments in other hands play the same episodes of one id; others' games here play the moves of their own library. Hubs
that cannot be installed together are measured in one run all the same: what is not installed here plays in processes of the
environment that `make test-hubs` makes, each beside a bare environment of its own, and all take turns.
"""

import json
import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError, ToolFault
from arpo_envs.errors import unknown_name

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent
from .hub_plays import ENV_ID, found, played

BOUNDS = {"trl_over_bare": Bound("≤", 3.0), "skyrl_over_bare": Bound("≤", 3.0)}

OUTWARD = {
    "trl": "TRL",
    "skyrl": "SkyRL-gym",
    "verifiers": "verifiers, without the model",
    "mcp": "Model Context Protocol, one process",
    "openenv": "OpenEnv, loopback",
}
INWARD = {
    "back": "an id back from verifiers, its whole loop",
    "textarena_copied": "a game of TextArena, copied",
    "textarena_replayed": "a game of TextArena, replayed",
    "players_copied": "one of TextArena for two, turn by turn",
    "seat_copied": "one side of it, copied",
    "seat_replayed": "one side of it, replayed",
    "gem_copied": "a game of GEM, copied",
    "gem_replayed": "a game of GEM, replayed",
    "textworld_copied": "a game of TextWorld, copied",
    "textworld_replayed": "a game of TextWorld, replayed",
}
LABELS = {**OUTWARD, **INWARD}
"""What each row of the table is."""


@dataclass(frozen=True)
class HubsBench:
    """Compare what a step costs in each hub with what it costs in the bare environment."""

    rounds: int = 10
    """Rounds, in each of which all take their turns; medians count."""
    episodes: int = 20
    """Episodes per round."""
    hubs: tuple[str, ...] = ()
    """Which hubs to measure (default: all)."""
    environment: Path = Path(".venv-hubs")
    """Virtual environment that `make test-hubs` makes: if it exists, hubs that are not installed here are measured there."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers and names."""
        for name in ("rounds", "episodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for hub in self.hubs:
            if hub not in LABELS:
                raise unknown_name("hub", hub, LABELS)


Round = Callable[[int], Mapping[str, float]]
"""Plays so many episodes in each hub of one process and returns the microseconds of a step in each, the bare ones included."""
Place = Callable[[Collection[str]], AbstractContextManager[tuple[Collection[str], Round]]]
"""Makes what plays in those of these hubs that it has; names them."""


def measure(config: HubsBench, say: Say = silent) -> dict[str, Value]:
    """Returns microseconds per step, medians over rounds, and the median of the rounds' ratios, flat."""
    left = [hub for hub in LABELS if hub in config.hubs or not config.hubs]
    rounds: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        places: list[Round] = []
        for place in (_here, *_places(config.environment)):
            if not left:
                break
            say("beginning …")
            names, play = stack.enter_context(place([*dict.fromkeys(map(_bare, left)), *left]))
            mine = [hub for hub in left if hub in names and _bare(hub) in names]
            if mine:
                places.append(play)
                rounds |= {hub: [] for hub in mine}
                left = [hub for hub in left if hub not in mine]
        for number in range(config.rounds + 1):
            say(f"round {number} of {config.rounds} …")
            for times in [play(config.episodes) for play in places]:
                for hub in times.keys() & rounds.keys():
                    rounds[hub].append((times[hub], times[_bare(hub)]))
    record: dict[str, Value] = {}
    for hub, (_, *pairs) in rounds.items():  # the first round warms up
        record[f"{hub}_us"] = round(median(time for time, _ in pairs), 1)
        record[f"{hub}_bare_us"] = round(median(bare for _, bare in pairs), 1)
        record[f"{hub}_over_bare"] = round(median(time / bare for time, bare in pairs), 2)
    return dict.fromkeys(BOUNDS) | record | {"absent": ", ".join(left)}


def _bare(hub: str) -> str:
    """Returns beside what a hub is measured: our id, or the library's own game."""
    game = hub.rpartition("_")[0]
    return f"{game}_bare" if game else "bare"


@contextmanager
def _here(names: Collection[str]) -> Iterator[tuple[Collection[str], Round]]:
    plays = found(names)
    yield plays, partial(played, plays)


def _places(environment: Path) -> Sequence[Place]:
    """Returns what begins a process without and with OpenEnv, which cannot be installed beside the Model Context Protocol."""
    python = environment / "bin" / "python"
    return [partial(_there, python, path) for path in ("", environment / "openenv")] if python.exists() else []


@contextmanager
def _there(python: Path, path: Path | str, names: Collection[str]) -> Iterator[tuple[Collection[str], Round]]:
    """Plays in a process of another environment, with a folder first on its path."""
    ours = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ours, str(path))))}
    command = [str(python), "-m", "algorithms.bench.hub_plays", *names]
    pipe = subprocess.PIPE
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=errors, text=True, bufsize=1) as process,
    ):

        def said() -> str:
            assert process.stdout is not None
            if not (line := process.stdout.readline()):
                errors.seek(0)
                raise ToolFault(f"{python} failed to play in other hubs: {errors.read().strip().rpartition(chr(10))[2]}")
            return line

        def play(episodes: int) -> Mapping[str, float]:
            print(episodes, file=process.stdin)
            times: Mapping[str, float] = json.loads(said())
            return times

        try:
            yield json.loads(said()), play
        finally:
            process.communicate()  # which ends its input


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Microseconds per step, medians", title_justify="left", caption_justify="left")
    for heading in ("", "µs", "bare", "ratio", "bound"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for hubs in (OUTWARD, INWARD):
        for hub, label in hubs.items():
            times, ratio = [record.get(f"{hub}_us"), record.get(f"{hub}_bare_us")], record.get(f"{hub}_over_bare")
            bound = BOUNDS.get(f"{hub}_over_bare")
            compared = ("–", "") if ratio is None else bound.cells(float(ratio), "×") if bound else (f"{ratio:.1f}×", "")
            shown.add_row(label, *("–" if time is None else f"{time:,.1f}" for time in times), *compared)
        shown.add_section()
    missing = f" Not measured: {record['absent']}." if record["absent"] else ""
    shown.caption = Text(
        f"A step is one search of {ENV_ID}, or a move of a game in its own library and here; beginning and end are not "
        f"measured.{missing}"
    )
    return shown


BENCHMARK = Benchmark(HubsBench, measure, table, BOUNDS, check=HubsBench(rounds=5, hubs=("trl", "skyrl")))
