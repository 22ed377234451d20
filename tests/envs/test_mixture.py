"""A mixture of environments: each episode is its member's own, drawn by weight, and forks as everything else does."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import WrapperSpec
from gymnasium.wrappers import RecordEpisodeStatistics
from toys import DicelessNote, Note, NoteSession, TownEnv, Walk, play

import arpo_envs
from arpo_envs import ConfigError, Demonstrable, ForkLevel, NotForkable
from arpo_envs.envs.mixture import Mixture
from arpo_envs.tasks.mixture import MixtureTasks
from arpo_envs.testing import Law, check_forkable_env
from arpo_envs.tools.cache import Recorder, Replayer, Store, answer_tools
from wrappers import ToolBudget, Transcript, TurnLimit

TOWN, VILLAGE = "Mixed/Town-v0", "Mixed/Village-v0"
SEARCH, BROWSER = "ARPO/SearchMini-v0", "ARPO/Browser-v0"
NOTES = ["<note>a</note>", "<note>b</note>", "<answer>France</answer>"]


class Village(TownEnv):
    """Fewer turns, no dice."""

    def __init__(self, *, population: int = 3, max_turns: int = 4, dialect: str = "tags") -> None:
        super().__init__(note=DicelessNote(), max_turns=max_turns, dialect=dialect)


class Unforkable(TownEnv):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(note=_Remote(), **kwargs)


class Silent(Walk):
    """Its actions are numbers."""


class _Remote(Note):
    fork_level = ForkLevel.NONE


class _Uncopyable(gym.Wrapper[Any, Any, Any, Any]):
    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.connection = (value for value in ())


class _Counted(Note):
    """Counts the sessions that are open."""

    class Session(NoteSession):
        open: ClassVar[set[int]] = set()

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.open.add(id(self))

        def close(self) -> None:
            self.open.discard(id(self))

    session = Session


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    before = set(gym.registry)
    gym.register(TOWN, entry_point="toys:TownEnv")
    gym.register(VILLAGE, entry_point=Village)
    wrapped = (
        WrapperSpec("ToolBudget", "wrappers:ToolBudget", {"limits": 2}),
        WrapperSpec("Transcript", "wrappers:Transcript", {}),
    )
    gym.register("Mixed/Wrapped-v0", entry_point="toys:TownEnv", additional_wrappers=wrapped, max_episode_steps=3)
    gym.register("Mixed/Unforkable-v0", entry_point=Unforkable)
    gym.register("Mixed/Silent-v0", entry_point=Silent)
    gym.register("Mixed/Counted-v0", entry_point=lambda **kwargs: TownEnv(note=_Counted()))
    gym.register("Mixed/Broken-v0", entry_point=lambda **kwargs: _Uncopyable(TownEnv(note=_Counted())))
    yield
    for name in set(gym.registry) - before:
        del gym.registry[name]


def mixture(*names: str, **kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make("ARPO/Mixture-v0", envs=dict.fromkeys(names or (TOWN, VILLAGE), 1), **kwargs)


def reset_to(env: gym.Env[Any, Any], member: str) -> int:
    """Resets with the first seed that draws a member, and returns the seed."""
    return next(seed for seed in range(200) if env.reset(seed=seed)[1]["env"] == member)


# --- episodes are the members' own ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_an_episode_is_that_of_its_member(seed: int) -> None:
    env = mixture(SEARCH, BROWSER, cities_per_country=3)
    question, info = env.reset(seed=seed)
    alone = gym.make(info["env"], cities_per_country=3)
    own, theirs = alone.reset(options={"task": info["task"].removeprefix(f"{info['env']}/")})
    assert (question, info) == (own, theirs | {"env": info["env"], "task": f"{info['env']}/{theirs['task']}"})
    for name in ("instructions", "tool_specs", "dialect", "max_turns", "max_tool_calls", "tool_timeout"):
        assert env.get_wrapper_attr(name) == alone.get_wrapper_attr(name)
    assert env.unwrapped.forfeit() == alone.unwrapped.forfeit()
    assert env.unwrapped.anchor() == f"{info['env']}/{alone.unwrapped.anchor()}"
    spec = alone.get_wrapper_attr("tool_specs")[0]
    call = alone.get_wrapper_attr("dialect").call(spec.name, dict.fromkeys(spec.parameters.get("required", ()), "1"))
    for action in (call, "junk", "<answer>France</answer>"):
        mine, other = env.step(action), alone.step(action)
        assert mine[:4] == other[:4]
        assert mine[4] == other[4] | {"env": info["env"], "task": info["task"]}


def test_members_differ_in_what_they_offer() -> None:
    """Without this, the test above could not tell members apart."""
    env = mixture(SEARCH, BROWSER, cities_per_country=3)
    offered = {env.reset(seed=seed)[1]["env"]: env.get_wrapper_attr("tool_specs") for seed in range(20)}
    assert {name: [spec.name for spec in specs] for name, specs in offered.items()} == {
        SEARCH: ["search"],
        BROWSER: ["browser.open", "browser.find"],
    }


def test_before_the_first_episode_it_offers_what_all_members_do() -> None:
    env = mixture(SEARCH, BROWSER, cities_per_country=3)
    assert [spec.name for spec in env.get_wrapper_attr("tool_specs")] == ["search", "browser.open", "browser.find"]
    assert "search" in env.get_wrapper_attr("instructions")
    assert "browser.find" in env.get_wrapper_attr("instructions")
    same = mixture(TOWN, VILLAGE)
    assert [spec.name for spec in same.get_wrapper_attr("tool_specs")] == ["echo", "note"], "one of each name"
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step("junk")


def test_the_same_tool_name_may_mean_different_tools() -> None:
    env = mixture()
    reset_to(env, TOWN)
    assert "die shows" in env.step(NOTES[0])[0]
    reset_to(env, VILLAGE)
    assert env.step(NOTES[0])[0] == "<result>1 notes</result>"


def test_a_task_can_be_asked_for() -> None:
    env = mixture()
    for seed in range(4):
        question, info = env.reset(seed=seed, options={"task": f"{VILLAGE}/t1"})
        assert (question, info["env"], info["task"]) == ("Where is Kyoto?", VILLAGE, f"{VILLAGE}/t1")
    assert env.unwrapped.task.id == f"{VILLAGE}/t1"
    with pytest.raises(ConfigError, match=r"begins with no environment.*Did you mean 'Mixed/Village-v0'"):
        env.reset(options={"task": "Mixed/Vilage-v0/t1"})
    with pytest.raises(ConfigError, match="Unknown reset options"):
        env.reset(options={"colour": 1})


# --- the draw ---------------------------------------------------------------------------------------------


def surprising(count: int, trials: int, share: float) -> float:
    """Returns the exact binomial probability of a count at least as far out on its side."""
    tail = range(count + 1) if count < share * trials else range(count, trials + 1)
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in tail
    ]  # fmt: skip
    return math.fsum(map(math.exp, logs))


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.02, 0.98), (1e300, 3e300), (1e-300, 1e-300)])
def test_shares_approach_the_weights(weights: tuple[float, float]) -> None:
    env = Mixture(envs=dict(zip((TOWN, VILLAGE), weights, strict=True)))
    drawn = [env.reset(seed=seed)[1]["env"] for seed in range(2000)]
    assert surprising(drawn.count(TOWN), 2000, weights[0] / sum(weights)) > 1e-6
    env.reset(seed=0)
    later = [env.reset()[1]["env"] for _ in range(2000)]
    assert surprising(later.count(TOWN), 2000, weights[0] / sum(weights)) > 1e-6


def test_an_episode_is_a_function_of_its_seed_whatever_came_before() -> None:
    used, fresh = mixture(), mixture()
    used.reset(seed=99)
    play(used, NOTES)
    for seed in (3, 1, 3):
        assert used.reset(seed=seed) == fresh.reset(seed=seed)
        assert play(used, NOTES) == play(fresh, NOTES)
    assert [used.reset()[1] for _ in range(20)] == [fresh.reset()[1] for _ in range(20)]


# --- forking ----------------------------------------------------------------------------------------------


STACKS: dict[str, Callable[[], gym.Env[Any, Any]]] = {
    "toys": mixture,
    "wrappers around members": lambda: mixture("Mixed/Wrapped-v0", VILLAGE),
    "wrappers around both": lambda: Transcript(ToolBudget(RecordEpisodeStatistics(mixture("Mixed/Wrapped-v0", TOWN)), 2)),
    "turns": lambda: TurnLimit(mixture()),
    "search and browser": lambda: mixture(SEARCH, BROWSER, cities_per_country=3),
    "json": lambda: mixture(SEARCH, TOWN, dialect="json"),
    "a mixture in a mixture": lambda: mixture(
        "ARPO/Mixture-v0", TOWN, arguments={"ARPO/Mixture-v0": {"envs": {TOWN: 1, VILLAGE: 2}}}
    ),
}


@pytest.mark.turns("stack", always=4)
@pytest.mark.parametrize("stack", STACKS)
def test_it_forks_by_the_laws_in_episodes_of_every_member(stack: str) -> None:
    env = STACKS[stack]()
    first: dict[str, int] = {}
    for seed in range(40):
        first.setdefault(env.reset(seed=seed)[1]["env"], seed)
    assert len(first) == 2
    report = check_forkable_env(STACKS[stack], seeds=tuple(first.values()))
    assert set(report.skipped) <= {Law.RESEED, Law.PORTABLE, Law.TIMEOUT, Law.SECRETS}, str(report)
    assert Law.RESEED in report.passed or stack == "search and browser", str(report)


def test_a_snapshot_is_restored_into_an_episode_of_another_member() -> None:
    env = mixture()
    reset_to(env, TOWN)
    before = env.step(NOTES[0])
    with arpo_envs.snapshot(env) as snap:
        wanted = play(env, NOTES[1:])
        reset_to(env, VILLAGE)
        env.step(NOTES[0])
        assert arpo_envs.restore(env, snap) == (before[0], before[4])
        assert env.get_wrapper_attr("member") == TOWN
        assert play(env, NOTES[1:]) == wanted


def test_a_clone_draws_the_same_episodes_and_a_reseeded_one_draws_others() -> None:
    env = mixture()
    env.reset(seed=0)
    twin, other = arpo_envs.clone(env), arpo_envs.clone(env, seed=1)
    tasks = [[one.reset()[1]["task"] for _ in range(30)] for one in (env, twin, other)]
    assert tasks[0] == tasks[1]
    assert tasks[0] != tasks[2]


def test_it_forks_as_well_as_its_worst_member() -> None:
    assert arpo_envs.fork_level(mixture()) is ForkLevel.EXACT
    worst = mixture(TOWN, "Mixed/Unforkable-v0")
    assert arpo_envs.fork_level(worst) is ForkLevel.NONE
    for member in (TOWN, "Mixed/Unforkable-v0"):
        reset_to(worst, member)
        with pytest.raises(NotForkable):
            arpo_envs.clone(worst)


@pytest.mark.parametrize("inside", [True, False])
def test_what_cannot_be_copied_is_named_and_leaves_no_session_behind(inside: bool) -> None:
    env = mixture("Mixed/Broken-v0") if inside else _Uncopyable(mixture("Mixed/Counted-v0"))
    env.reset(seed=0)
    assert len(_Counted.Session.open) == 1
    for copied in (arpo_envs.clone, arpo_envs.snapshot):
        with pytest.raises(NotForkable, match=r"_Uncopyable.connection \(a generator\) cannot be copied"):
            copied(env)
        assert len(_Counted.Session.open) == 1
    env.close()
    assert _Counted.Session.open == set()


def test_a_snapshot_of_other_weights_or_members_is_refused() -> None:
    one = mixture()
    one.reset(seed=0)
    others = (
        gym.make("ARPO/Mixture-v0", envs={TOWN: 2, VILLAGE: 1}),
        mixture(TOWN, "Mixed/Wrapped-v0"),
        mixture(arguments={VILLAGE: {"max_turns": 5}}),
    )
    for other in others:
        other.reset(seed=0)
        with arpo_envs.snapshot(other) as snap, pytest.raises(arpo_envs.SnapshotMismatch):
            arpo_envs.restore(one, snap)


# --- wrappers ---------------------------------------------------------------------------------------------


def test_it_measures_and_acts_for_whom_its_member_does() -> None:
    env = mixture(BROWSER, "ARPO/DeepSearchSolver-v0", cities_per_country=3)
    for member, agent, measured in ((BROWSER, "", {"efficiency"}), ("ARPO/DeepSearchSolver-v0", "solver", set())):
        reset_to(env, member)
        env.step("<answer>x</answer>")
        assert arpo_envs.members.AGENT.through(env) == agent
        assert arpo_envs.members.MEASURES.through(env)().keys() == measured
    env.close()


def test_wrappers_tell_what_holds_in_this_episode() -> None:
    env = TurnLimit(mixture(TOWN, VILLAGE))
    for member, turns in ((TOWN, 8), (VILLAGE, 4), (TOWN, 8)):
        reset_to(env, member)
        assert env.step("junk")[4]["turns_left"] == turns - 1
    budget = ToolBudget(mixture(SEARCH, BROWSER, cities_per_country=3), 2)
    reset_to(budget, SEARCH)
    assert budget.step("junk")[4]["calls_left"] == {"search": 2}
    reset_to(budget, BROWSER)
    assert set(budget.step("junk")[4]["calls_left"]) == {"browser.open", "browser.find"}


# --- tasks ------------------------------------------------------------------------------------------------


def test_its_tasks_are_those_of_all_members() -> None:
    tasks = mixture().get_wrapper_attr("tasks")
    assert isinstance(tasks, MixtureTasks)
    assert not isinstance(tasks, Demonstrable), "towns have no demonstrator"
    assert tasks.get(f"{TOWN}/t0").question == "Where is Bordeaux?"
    rng = np.random.default_rng(0)
    assert {tasks.draw(rng).id for _ in range(200)} == {f"{name}/t{i}" for name in (TOWN, VILLAGE) for i in range(3)}


def test_it_demonstrates_and_guesses_as_its_members_do() -> None:
    env = gym.make("ARPO/Mixture-v0", envs={SEARCH: 3, BROWSER: 1}, cities_per_country=3)
    tasks = env.get_wrapper_attr("tasks")
    assert isinstance(tasks, Demonstrable)
    alone = {name: gym.make(name, cities_per_country=3).get_wrapper_attr("tasks") for name in (SEARCH, BROWSER)}
    assert set(tasks.lexicon()) == {word for source in alone.values() for word in source.lexicon()}
    assert len(tasks.lexicon()) == len(set(tasks.lexicon()))
    assert tasks.majority_baseline() == (3 * alone[SEARCH].majority_baseline() + alone[BROWSER].majority_baseline()) / 4
    for seed in range(6):
        info = env.reset(seed=seed)[1]
        own = alone[info["env"]].get(info["task"].removeprefix(f"{info['env']}/"))
        moves = tasks.demonstrate(env.get_wrapper_attr("task"), np.random.default_rng(0), perfect=True)
        assert moves == alone[info["env"]].demonstrate(own, np.random.default_rng(0), perfect=True)


# --- tools answered from a file ---------------------------------------------------------------------------


def test_the_tools_of_every_member_are_answered_from_a_recording(tmp_path: Path) -> None:
    def episodes(answers: Recorder | Replayer) -> list[Any]:
        env = mixture(SEARCH, TOWN, arguments={SEARCH: {"cities_per_country": 3}})
        answer_tools(env, answers)
        seen = []
        for member, action in (
            (SEARCH, "<search>Paris</search>"),
            (TOWN, "<echo>x</echo>"),
            (SEARCH, "<search>Paris</search>"),
        ):
            reset_to(env, member)
            with arpo_envs.clone(env) as twin:
                seen += [env.step(action), twin.step(action)]
        return seen

    with Store(tmp_path / "tools.sqlite") as store:
        recorder, replayer = Recorder(store), Replayer(store)
        assert episodes(recorder) == episodes(replayer)
        assert (recorder.tally["live"], recorder.tally["answered"], replayer.tally["answered"]) == (1, 4, 4)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"envs": {}}, "must map environment ids to weights"),
        ({"envs": [TOWN]}, "must map environment ids to weights"),
        ({"envs": {"Mixed/Twon-v0": 1}}, "Did you mean 'Mixed/Town-v0'?"),
        *(({"envs": {TOWN: weight}}, "must be a number above 0") for weight in (0, -1, math.inf, math.nan, True, "3", None)),
        ({"envs": {TOWN: 1, f"toys:{TOWN}": 1}}, "is in the mixture twice"),
        (
            {"envs": {TOWN: 1}, "arguments": {VILLAGE: {}}},
            "Unknown environment of the mixture in arguments= 'Mixed/Village-v0'",
        ),
        ({"envs": {VILLAGE: 1}, "arguments": {VILLAGE: {"populaton": 3}}}, "Did you mean 'population'?"),
        ({"envs": {TOWN: 1, VILLAGE: 1}, "population": 3}, "ID:NAME=VALUE on the command line"),
        ({"envs": {TOWN: 1, VILLAGE: 1}, "arguments": {TOWN: {"dialect": "json"}}}, "need the same dialect.*json.*tags"),
        ({"envs": {TOWN: 1, "Mixed/Silent-v0": 1}}, "need the same observation space"),
    ],
)
def test_a_mistake_is_explained(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?").replace("(", r"\(")):
        gym.make("ARPO/Mixture-v0", **kwargs)
