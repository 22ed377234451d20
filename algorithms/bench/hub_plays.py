"""What plays in each hub, for `arpo bench hubs`; run as a program, it plays for a process in which other hubs are installed.

Measured is from an action to its observation, as the hub's own client sees it: TRL and SkyRL-gym call a method; of verifiers,
a model and what leads to it is left out; the Model Context Protocol's client is in the process of its server, and OpenEnv's
speaks to its server on loopback. An id that comes back from verifiers has its whole loop run, with two requests over HTTP for a
reply. Games are those of `arpo bench games`.
"""

import asyncio
import importlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import Any

import gymnasium as gym

from arpo_envs import ConfigError
from arpo_envs.hubs import from_verifiers, trl
from arpo_envs.hubs.own_random import OwnRandom

from . import games

ENV_ID = "ARPO/Search-v0"
_ARGUMENTS: Mapping[str, Any] = {"cities_per_country": 2}
_QUERY = "Adamstown"
_ACTION = f"<search>{_QUERY}</search>"
_STEPS = 5

Play = Callable[[int], float]
"""Plays so many episodes and returns the seconds that a step took in the median one: others use the machine, too."""


def found(names: Collection[str]) -> dict[str, Play]:
    """Returns what plays in those of these hubs that are installed here."""
    plays = {}
    for name in names:
        try:
            plays[name] = _MAKERS[name]()
        except (ImportError, AttributeError, ConfigError):
            continue
    return plays


def played(plays: Mapping[str, Play], episodes: int) -> dict[str, float]:
    """Returns the microseconds of a step in each, one after the other."""
    return {name: 1e6 * play(episodes) for name, play in plays.items()}


def _timed(reset: Callable[[], Any], step: Callable[[], Any]) -> Play:
    """Returns what plays an environment whose calls return what they have to say."""

    def play(episodes: int) -> float:
        spent = []
        for _ in range(episodes):
            reset()
            began = time.perf_counter()
            for _ in range(_STEPS):
                step()
            spent.append(time.perf_counter() - began)
        return median(spent) / _STEPS

    return play


def _bare() -> Play:
    env = gym.make(ENV_ID, **_ARGUMENTS)
    return _timed(lambda: env.reset(seed=0), lambda: env.step(_ACTION))


def _trl() -> Play:
    env = trl.environment_factory(ENV_ID, **_ARGUMENTS)()
    return _timed(lambda: env.reset(seed=0), lambda: env.search(query=_QUERY))


def _skyrl() -> Play:
    skyrl = importlib.import_module("arpo_envs.hubs.skyrl")
    env = skyrl.ArpoTextEnv(ENV_ID, _ARGUMENTS, extras={"seed": 0})
    return _timed(lambda: env.init([]), lambda: env.step(_ACTION))


def _verifiers() -> Play:
    hub = importlib.import_module("arpo_envs.hubs.verifiers")
    task = SimpleNamespace(data=SimpleNamespace(env=ENV_ID, arguments=_ARGUMENTS, seed=0))
    says = SimpleNamespace(terminated=False, last_reply=_ACTION)
    ends = SimpleNamespace(terminated=True, last_reply="")

    def play(episodes: int) -> float:
        moments: list[float] = []

        async def turn(message: str | None = None) -> Any:
            moments.append(time.perf_counter())
            return says if len(moments) % (_STEPS + 1) else ends

        @asynccontextmanager
        async def interaction(task: Any) -> Any:
            trace = SimpleNamespace(errors=[], record_reward=lambda *_: None, record_metrics=lambda *_: None)
            yield SimpleNamespace(turn=turn, trace=trace)

        agents = SimpleNamespace(player=SimpleNamespace(interaction=interaction))
        for _ in range(episodes):
            asyncio.run(hub.ArpoEnv.run(None, task, agents))
        return median(moments[i + _STEPS] - moments[i] for i in range(0, len(moments), _STEPS + 1)) / _STEPS

    return play


def _back() -> Play:
    config = {"taskset": {"env": ENV_ID, "arguments": _ARGUMENTS}}
    env = from_verifiers.make("arpo-envs-verifiers", config=config, tasks=1, fork="replay")
    timed = _timed(lambda: env.reset(seed=0), lambda: env.step(_ACTION))

    def play(episodes: int) -> float:
        try:
            return timed(episodes)
        finally:
            env.close()

    return play


async def _timed_async(episodes: int, begin: Callable[[], Awaitable[Callable[[], Awaitable[Any]]]]) -> float:
    spent = []
    for _ in range(episodes):
        step = await begin()
        began = time.perf_counter()
        for _ in range(_STEPS):
            await step()
        spent.append(time.perf_counter() - began)
    return median(spent) / _STEPS


def _mcp() -> Play:
    client_class = importlib.import_module("mcp").Client  # an AttributeError with version 1
    server = importlib.import_module("arpo_envs.hubs.mcp").make_server(ENV_ID, **_ARGUMENTS)

    async def run(episodes: int) -> float:
        async with client_class(server) as client:

            async def begin() -> Callable[[], Awaitable[Any]]:
                begun = await client.call_tool("reset", {"seed": 0})
                arguments = {"session": begun.structured_content["session"], "query": _QUERY}
                return lambda: client.call_tool("search", arguments)

            return await _timed_async(episodes, begin)

    return lambda episodes: asyncio.run(run(episodes))


def _openenv() -> Play:
    hub = importlib.import_module("arpo_envs.hubs.openenv")
    uvicorn = importlib.import_module("uvicorn")
    theirs = importlib.import_module("arpo_envs.hubs.openenv_client")
    action = theirs.ArpoAction(text=_ACTION)

    async def run(episodes: int, host: str) -> float:
        async with theirs.ArpoClient(base_url=f"ws://{host}") as client:

            async def begin() -> Callable[[], Awaitable[Any]]:
                await client.reset(seed=0)
                return lambda: client.step(action)

            return await _timed_async(episodes, begin)

    @contextmanager
    def served() -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = uvicorn.Server(uvicorn.Config(hub.make_app(ENV_ID, **_ARGUMENTS), log_level="error"))
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            try:
                yield f"127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()

    def play(episodes: int) -> float:
        with served() as host:
            return asyncio.run(run(episodes, host))

    return play


def _game(hub: str, how: str) -> Play:
    """Returns what plays another library's game: in the library itself, or here, "copied" or "replayed"."""
    move = games.MOVES[hub][0]
    if how == "bare":
        games.made(hub, "replay").close()  # imports the library without what that does to others
        begun: list[Callable[[str], Any]] = []

        def play(episodes: int) -> float:
            with OwnRandom(1).lent():
                return _timed(lambda: begun.append(games.bare(hub)), lambda: begun[-1](move))(episodes)

        return play
    env = games.made(hub, "auto" if how == "copied" else "replay")
    return _timed(lambda: env.reset(seed=1), lambda: env.step(move))


_DUEL, _DUEL_MOVE = {"game": "IteratedRockPaperScissors-v0", "num_rounds": 10_000}, "[rock]"
"""A game for two that goes on however often both make this move."""


def _bare_duel(moves: int) -> Play:
    """Returns what plays the game for two in its own library; a step is so many moves, each by the player whose turn it is."""
    games.made("textarena", "replay").close()  # imports the library without what that does to others
    textarena = importlib.import_module("textarena")
    begun: list[Any] = []

    def reset() -> None:
        begun[:] = [textarena.make(_DUEL["game"], num_rounds=_DUEL["num_rounds"])]
        begun[0].reset(num_players=2, seed=1)

    def step() -> None:
        for _ in range(moves):
            begun[0].step(_DUEL_MOVE)
            begun[0].get_observation()

    return _timed(reset, step)


def _players() -> Play:
    """Returns what plays it turn by turn; a step is one move, and what the next player is told."""
    env = importlib.import_module("arpo_envs.hubs.textarena_players").env(**_DUEL)
    return _timed(lambda: env.reset(seed=1), lambda: (env.step(_DUEL_MOVE), env.last()))


def _seat(fork: str) -> Play:
    """Returns what plays one side of it; a step is a move and the other side's."""
    seat = importlib.import_module("arpo_envs.hubs.textarena_seat")
    env = seat.make(**_DUEL, other=lambda turn: _DUEL_MOVE, fork=fork)
    return _timed(lambda: env.reset(seed=1), lambda: env.step(_DUEL_MOVE))


_MAKERS: Mapping[str, Callable[[], Play]] = {
    **{"players_bare": partial(_bare_duel, 1), "players_copied": _players, "seat_bare": partial(_bare_duel, 2)},
    **{"seat_copied": partial(_seat, "auto"), "seat_replayed": partial(_seat, "replay")},
    **{"bare": _bare, "trl": _trl, "skyrl": _skyrl, "verifiers": _verifiers, "back": _back, "mcp": _mcp, "openenv": _openenv},
    **{f"{hub}_{how}": partial(_game, hub, how) for hub in games.PACKAGES for how in ("bare", "copied", "replayed")},
}


def _serve(names: Collection[str]) -> None:
    """Says which of these it can play, and plays as many episodes as each line asks for."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a hub may print
    plays = found(names)
    with answers:
        print(json.dumps([*plays]), file=answers)
        for line in sys.stdin:
            print(json.dumps(played(plays, int(line))), file=answers)


if __name__ == "__main__":
    _serve(sys.argv[1:])
