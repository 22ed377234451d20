"""One agent of deep search as a Gymnasium environment: the laws of forking, an expert, and what the others may do."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import arpo_envs
from arpo_envs import ConfigError, Snapshot, ToolResult, Turn
from arpo_envs.multi_agent import SingleAgent, deep_search_v0, single_agent
from arpo_envs.multi_agent.questions import ReadQuestions
from arpo_envs.tasks.world import load_world
from arpo_envs.testing import Law, check_forkable_env

SMALL: dict[str, Any] = {"split": "test", "cities_per_country": 10}
TASK = {"task": "city-2886242/country/capital"}
ID = "ARPO/DeepSearchSolver-v0"


@functools.cache
def questions() -> ReadQuestions:
    return ReadQuestions(split="test", world=load_world(SMALL["cities_per_country"]))


@functools.cache
def by_question() -> dict[str, Any]:
    return {task.question: task for task in questions().questions()}


class Solver:
    """Follows the expert's moves for every question; its state is where it is in them."""

    moves: Sequence[str] = ()

    def __call__(self, turn: Turn) -> str:
        if turn.begins:
            self.moves = expert(questions(), by_question()[turn.observation], turn.dialect)
        move, *self.moves = self.moves
        return move


class Guesser:
    """Draws whether to look or to write a note."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, turn: Turn) -> str:
        if self.rng.random() < 0.5:
            return turn.dialect.call("browser.find", {"pattern": "c"})
        return turn.dialect.answer(f"note {self.rng.integers(1000)}")


def expert(source: Any, task: Any, dialect: Any) -> list[str]:
    names = {"search": "query", "read": "question"}
    moves = source.demonstrate(task, np.random.default_rng(0), perfect=True)
    return [dialect.answer(text) if move == "answer" else dialect.call(move, {names[move]: text}) for move, text in moves]


def solver(reader: Any = "extractive", **arguments: Any) -> SingleAgent:
    return single_agent(deep_search_v0.env(**SMALL, **arguments), "solver", reader=reader)


def reader(**arguments: Any) -> SingleAgent:
    table = deep_search_v0.env(tasks=questions(), cities_per_country=SMALL["cities_per_country"], **arguments)
    return single_agent(table, "reader", solver=Solver())


MAKERS = {"solver": solver, "solver with a guesser": lambda: solver(Guesser()), "reader": reader}
every_side = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_side
def test_gymnasium_accepts_it(make: Any) -> None:
    check_env(make(), skip_render_check=True)


@pytest.mark.parametrize("make", [reader, MAKERS["solver with a guesser"]])  # the other one is registered, and so among all ids
def test_forks_by_the_laws(make: Any) -> None:
    report = check_forkable_env(make, seeds=(0,))
    assert set(report.skipped) <= {Law.RESEED, Law.PORTABLE, Law.TIMEOUT, Law.SECRETS}, str(report)


def test_what_partners_draw_is_reseeded() -> None:
    script = ["<search>Köln</search>", *["<read>country</read>"] * 4]
    report = check_forkable_env(lambda: solver(Guesser()), seeds=(0,), actions=[script])
    assert Law.RESEED in report.passed, str(report)


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_an_expert_with_the_extractive_reader_is_always_right(hops: int, dialect: str) -> None:
    env = gym.make(ID, hops=hops, dialect=dialect, **SMALL)
    source = env.unwrapped.tasks
    for seed in range(100):
        env.reset(seed=seed)
        task = env.unwrapped.task
        moves, seen = expert(source, task, env.unwrapped.dialect), []
        for move in moves:
            observation, reward, terminated, _, info = env.step(move)
            seen.append(observation)
        assert (reward, terminated, info["success"]) == (1.0, True, 1.0), task
        for fact, note in zip(task.meta["path"][1:], seen[1::2], strict=True):
            assert fact in note, "each note says what leads on"


def test_a_tenth_of_a_demonstrators_episodes_is_good() -> None:
    source = gym.make(ID, **SMALL).unwrapped.tasks
    rng = np.random.default_rng(0)
    tasks = [source.draw(rng) for _ in range(300)]
    ends = [source.demonstrate(task, rng)[-1] for task in tasks]
    right = sum(end == ("answer", task.answers[0]) for end, task in zip(ends, tasks, strict=True))
    assert 15 < right < 60


def test_the_readers_side() -> None:
    env = reader()
    seen, info = env.reset(options=TASK)
    assert seen.startswith("Question: country\n\n[0] Köln")
    assert (info["acts"], info["task"], env.task.id) == (True, TASK["task"], TASK["task"])
    assert [spec.name for spec in env.tool_specs] == ["browser.open", "browser.find"]
    assert "browser.find" in env.instructions
    seen, reward, terminated, truncated, _ = env.step("<answer>Germany</answer>")
    assert seen.startswith("Question: capital\n\n[0] Germany"), "the next page follows"
    assert (reward, terminated, truncated) == (0.0, False, False)
    seen, reward, terminated, truncated, info = env.step("<answer>Berlin</answer>")
    assert (seen, reward, terminated, truncated, info["success"]) == ("", 1.0, True, False, 1.0)


def test_a_game_without_this_agents_turn_is_no_episode() -> None:
    answered: list[str] = []

    def knows(turn: Turn) -> str:
        answered.append(turn.observation)
        return "<answer>Berlin</answer>"

    env = single_agent(deep_search_v0.env(**SMALL), "reader", solver=knows)
    with pytest.raises(ConfigError, match="20 episodes without asking the reader"):
        env.reset(seed=0)
    assert len({*answered}) > 10
    with pytest.raises(ConfigError, match="this episode without asking the reader"):
        env.reset(options=TASK)


def test_a_partner_that_failed_is_asked_again_before_this_agents_next_action() -> None:
    asked: list[Turn] = []

    def flaky(turn: Turn) -> str:
        asked.append(turn)
        if len(asked) == 1:
            raise TimeoutError("the model's server is slow")
        return turn.dialect.answer("a note")

    env = solver(flaky)
    env.reset(seed=0, options=TASK)
    moves = expert(questions(), questions().get(TASK["task"]), env.unwrapped.dialect)
    with pytest.raises(TimeoutError):  # noqa: PT012  # the move that asks the reader is one of them
        for move in moves:
            env.step(move)
    observation, *_, info = env.step(moves[0])
    assert [turn.observation for turn in asked[:2]] == [asked[0].observation] * 2
    assert info["tool"] == "search", observation
    env.close()


def test_forks_while_a_reader_works_share_nothing() -> None:
    env = reader()
    env.reset(options=TASK)
    env.step('<browser.find>{"pattern": "country"}</browser.find>')
    parked: Snapshot = arpo_envs.snapshot(env)
    twin, copied = arpo_envs.clone(env), copy.deepcopy(env)
    wrong = [env.step(f"<answer>{note}</answer>") for note in ("nothing", "nothing")]
    assert wrong[-1][2], "the expert does not listen"
    for other in (twin, copied):
        assert other.partners["solver_0"].moves != env.partners["solver_0"].moves
        assert [other.step(f"<answer>{note}</answer>") for note in ("nothing", "nothing")] == wrong
    seen, _ = arpo_envs.restore(env, parked)
    assert "match at" in seen
    assert [env.step(f"<answer>{note}</answer>") for note in ("nothing", "nothing")] == wrong
    parked.close()


def test_the_state_of_a_partner_travels() -> None:
    env = solver(Guesser())
    env.reset(seed=0)
    env.step("<search>Köln</search>")
    twin, other = arpo_envs.clone(env), arpo_envs.clone(env, seed=1)
    notes = [[one.step("<read>country</read>")[0] for _ in range(3)] for one in (env, twin, other)]
    assert notes[0] == notes[1] != notes[2]


def test_one_function_with_state_serves_many_environments() -> None:
    shared = Solver()
    one, two = (single_agent(reader().table, "reader", solver=shared) for _ in range(2))
    one.reset(options=TASK)
    two.reset(seed=1)
    assert one.step("<answer>Germany</answer>")[0].startswith("Question: capital")
    assert not shared.moves


@pytest.mark.parametrize(
    ("agent", "others", "complaint"),
    [
        ("teacher", {"reader": "extractive"}, "Unknown agent 'teacher'"),
        ("solver", {}, "give reader="),
        ("solver", {"reader": "extractive", "solver": "extractive"}, "no function can act for it"),
        ("solver", {"reader": "extractve"}, "Did you mean 'extractive'"),
        ("solver", {"reader": 7}, "a function from a Turn"),
    ],
)
def test_mistakes_are_explained(agent: str, others: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        single_agent(deep_search_v0.env(**SMALL), agent, **others)


def test_other_environments_are_refused() -> None:
    with pytest.raises(ConfigError, match="not a turn-by-turn environment"):
        single_agent(deep_search_v0.parallel_env(**SMALL), "solver", reader="extractive")
    with pytest.raises(ConfigError, match="Unknown reset options"):
        solver().reset(options={"tsk": 1})
    for wrong in ({"reader_turns": 1}, {"results": 0}, {"render_mode": "rgb"}, {"site": "."}):
        with pytest.raises(ConfigError):
            deep_search_v0.env(**{"split": "test"}, **wrong)


def test_a_withheld_call_asks_no_reader() -> None:
    asked: list[Turn] = []

    def read(turn: Turn) -> str:
        asked.append(turn)
        return "<answer>Germany</answer>"

    env = gym.make(ID, reader=read, **SMALL).unwrapped
    env.reset(options=TASK)
    env.step("<search>Köln</search>")
    env.withhold("read", ToolResult("Not now.", error="unavailable"))
    assert env.step("<read>country</read>")[0] == "<result>Not now.</result>"
    assert not asked
    assert env.step("<read>country</read>")[0] == "<result>Germany</result>"
    assert len(asked) == 1


def test_it_shows_both_agents() -> None:
    env = gym.make(ID, render_mode="ansi", **SMALL)
    env.reset(options=TASK)
    env.step("<search>Köln</search>")
    env.step("<read>country</read>")
    shown = env.render()
    assert "[solver_0] <read>country</read>" in shown
    assert "[page] Question: country" in shown
    assert "[reader_0] <answer>country: Germany</answer>" in shown


def test_it_prints_both_agents_once(capsys: pytest.CaptureFixture[str], wide_terminal: None) -> None:
    env = gym.make(ID, render_mode="human", reader=lambda turn: "<answer>\x1b[2JGermany</answer>", **SMALL)
    env.reset(options=TASK)
    for action in ("<search>Köln</search>", "<read>country</read>", "<answer>Berlin</answer>"):
        env.step(action)
        env.render()
    out = capsys.readouterr().out
    for part in ("What is", "> <read>", "Question: country", "> [reader_0] <answer>␛[2JG", "│ ␛[2JG", "answered, reward 1\n"):
        assert out.count(part) == 1, part
    assert "\x1b" not in out, "what a reader writes steers no terminal"


def test_the_reader_sees_its_own_pay(capsys: pytest.CaptureFixture[str], wide_terminal: None) -> None:
    env = reader(reader_share=0.5, render_mode="human")
    env.reset(options=TASK)
    env.step("<answer>country: Germany</answer>")
    env.step("<answer>capital: Berlin</answer>")
    out = capsys.readouterr().out
    assert out.count("> [solver_0] <read>") == 2
    assert out.count("> <answer>") == 2
    assert out.endswith("answered, reward 0.5\n")
