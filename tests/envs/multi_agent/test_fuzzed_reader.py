"""Whatever a reader writes, and whatever is on its pages: never an exception, and it neither ends a game nor earns anything."""

import random
import re
from collections import Counter
from typing import Any

import pytest
from envs.hostile import HostileSite
from envs.test_fuzz import MANY, MEGABYTE, Episode, fragments, letters, written

from arpo_envs import Turn
from arpo_envs.multi_agent import deep_search_v0, single_agent

SMALL: dict[str, Any] = {"cities_per_country": 3, "reader_share": 0.5}
SOLVER, READER = "solver_0", "reader_0"
both_dialects = pytest.mark.parametrize("dialect", ["tags", "json"])


class Table:
    """A game in one of PettingZoo's interfaces, on pages that hold the right answer in marks of all kinds."""

    def __init__(self, kind: str, dialect: str) -> None:
        self.parallel = kind == "parallel"
        make = deep_search_v0.parallel_env if self.parallel else deep_search_v0.env
        self.env: Any = make(dialect=dialect, **SMALL)
        self.game = self.env.unwrapped.game
        spoil(self.game)

    @property
    def turn(self) -> str:
        """Who acts, as an onlooker is told."""
        if not self.parallel:
            return str(self.env.agent_selection)
        (acting,) = (agent for agent, info in self.env.last()[1].items() if info["acts"])
        return str(acting)

    def act(self, action: str, meanwhile: str) -> dict[str, tuple[str, float, bool, bool, dict[str, Any]]]:
        """Returns what each agent sees; whoever waits says something, too, where that is possible."""
        turn, env = self.turn, self.env
        if self.parallel:
            returned = env.step({SOLVER: meanwhile, READER: meanwhile, turn: action})
            return {agent: tuple(part[agent] for part in returned) for agent in (SOLVER, READER)}
        env.step(action)
        parts = env.unwrapped.rewards, env.terminations, env.truncations, env.infos
        return {agent: (env.observe(agent), *(part[agent] for part in parts)) for agent in (SOLVER, READER)}


def spoil(game: Any) -> None:
    site = HostileSite(game.pages.source, lambda: str(game.solver.task.answers[0]))
    game.pages.source = game.solver.tools[0].source = site


def asking(rng: random.Random, solver: Any, pieces: list[str]) -> str:
    """Returns what a solver writes who mostly has something read to it."""
    kind, dialect = rng.random(), solver.dialect
    if kind < 0.25:
        found: str = dialect.call("search", {"query": rng.choice(re.findall(r"\w+", solver.task.question))})
    elif kind < 0.85:
        found = dialect.call("read", {"question": rng.choice(pieces) or "?", "id": rng.randrange(3)})
    elif kind < 0.9:
        found = dialect.answer(solver.task.answers[0])
    else:
        found = written(rng, pieces, solver)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["turn by turn", "parallel"])
@both_dialects
def test_2000_random_actions_of_a_reader_raise_nothing_and_earn_nothing(kind: str, dialect: str) -> None:
    table, rng, seen = Table(kind, dialect), random.Random(f"{kind} {dialect}"), Counter[str]()
    game, over = table.game, True
    while seen["read"] < MANY:
        if over:
            table.env.reset(seed=rng.randrange(50))
            episode = Episode(game.solver.task)
            pieces = fragments(game.solver, game.solver.task.answers[0])
        turn = table.turn
        seen["read"] += turn == READER
        if turn == SOLVER:
            action = asking(rng, game.solver, pieces)
        else:
            action = written(rng, fragments(game.reader, game.solver.task.answers[0]), game.reader)
        if turn == READER and seen["read"] in (MANY // 3, MANY // 2):
            action += "x" * MEGABYTE
        told = table.act(action, meanwhile=game.solver.dialect.answer(game.solver.task.answers[0]))
        # as if the solver had written nothing: what only a reader wrote is no answer
        episode.judge(action if turn == SOLVER else "", told[SOLVER], dialect)
        _, reward, terminated, truncated, info = told[SOLVER]
        over = terminated or truncated
        assert told[READER][1:4] == (0.5 * reward, terminated, truncated)
        assert not over or told[READER][4]["success"] == info["success"]
        for agent, (observation, *_, its) in told.items():
            check_seen(observation, its, game.seats[agent], game.solver.task)
            seen[f"{agent} {its['status']}"] += agent == turn
        seen["noted"] += turn == READER and not over and table.turn == SOLVER and info["status"] == "ok"
        seen["paid"] += reward > 0
    table.env.close()
    assert {f"{READER} ok", f"{READER} mistake", "noted", "paid", f"{SOLVER} ok", f"{SOLVER} mistake"} <= {*+seen}, seen


def check_seen(observation: str, info: dict[str, Any], seat: Any, task: Any) -> None:
    assert observation in seat.observation_space
    if info["status"] in ("mistake", "limit"):
        return
    inside = re.sub(r"^<\w+>|</\w+>$", "", observation)
    assert seat.dialect.neutralise(inside) == inside, "no mark comes from a page, a question or a note"
    assert f"<answer>{task.answers[0]}</answer>" not in inside or seat.dialect.name == "json"


@pytest.mark.slow
@both_dialects
def test_2000_random_actions_of_a_reader_alone_earn_what_its_solver_does(dialect: str) -> None:
    rng, said, seen = random.Random(dialect), list[str](), Counter[str]()
    table = deep_search_v0.env(dialect=dialect, **SMALL)
    solver = table.unwrapped.game.solver

    class Asking:
        """One object, whatever is copied: the test listens."""

        def __deepcopy__(self, memo: Any) -> "Asking":
            return self

        def __call__(self, turn: Turn) -> str:
            said.append(asking(rng, solver, fragments(solver, solver.task.answers[0])))
            return said[-1]

    env: Any = single_agent(table, "reader", solver=Asking())
    spoil(table.unwrapped.game)
    over = True
    for number in range(MANY):
        if over:
            said.clear()
            env.reset(seed=rng.randrange(50))
        right, reader = solver.task.answers[0], table.unwrapped.game.reader
        action = written(rng, fragments(reader, right), reader)
        observation, reward, terminated, truncated, info = env.step(action + "x" * MEGABYTE if number == MANY // 2 else action)
        over = terminated or truncated
        assert observation in env.observation_space
        assert reward == 0 or over
        assert not truncated or (reward, info["success"]) == (-0.5, 0.0)
        if terminated:
            assert reward in (-0.5, 0.0) or letters(right) in letters(said[-1]), "only a solver's own words are paid"
            assert info["success"] <= (letters(right) in letters(said[-1]))
        seen[info["status"]] += 1
        seen["paid"] += reward > 0
    env.close()
    assert {"ok", "mistake", "paid"} <= {*+seen}, seen
