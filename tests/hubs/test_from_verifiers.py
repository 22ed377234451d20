"""Environments of `verifiers` here: the same episodes as natively, replayed for a fork, refused where no step is possible."""

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from episodes import SEED, recorded
from sections import run_section
from serving import freed, held
from verifiers_runs import evaluated, model, said

from arpo_envs import ConfigError, ForkLevel, NotForkable, clone
from arpo_envs.errors import ToolFault
from arpo_envs.testing import Law, check_forkable_env

pytestmark = [
    pytest.mark.hubs,
    # verifiers waits for tool servers by a parameter that its library has renamed
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
]

THEIRS = str(Path(__file__).parent / "theirs")
SEAT = {"vf_capitals": "agent", "vf_hunt": "player", "vf_shelf": "agent"}
PUT = {"name": "shelf_put", "arguments": '{"thing": "cup"}'}
NAMES = {"name": "shelf_names", "arguments": "{}"}
EPISODES: dict[str, tuple[Sequence[str | dict[str, str]], list[str], float]] = {
    "vf_capitals": (["It is Paris, Lima or Tokyo."], [], 1.0),
    "vf_hunt": (["21", "hm", "1", "0"], ["Lower. 3 left.", "That is no number. 2 left.", "Higher. 1 left."], 0.0),
    "vf_shelf": ([PUT, PUT, NAMES, "cup, cup"], [], 1.0),
}
"""Of each environment what the model says, what it hears then where that does not depend on the task, and its reward."""


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has verifiers find what is in `theirs`, in this process and in those of tool servers."""
    monkeypatch.syspath_prepend(THEIRS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [THEIRS, os.environ.get("PYTHONPATH")])))


def made(taskset: str, **options: Any) -> gym.Env[Any, Any]:
    from arpo_envs.hubs import from_verifiers

    return from_verifiers.make(taskset, **{"fork": "replay", **options})


def written(what: str | dict[str, str]) -> str:
    call = what if isinstance(what, str) else {"name": what["name"], "arguments": json.loads(what["arguments"])}
    return call if isinstance(call, str) else f"<tool_call>{json.dumps(call)}</tool_call>"


@pytest.mark.parametrize("taskset", EPISODES)
def test_an_episode_is_the_same_as_natively(taskset, tmp_path):
    script, between, expected = EPISODES[taskset]
    seat = SEAT[taskset]
    natively = [f"--env.{seat}.harness.id", "arpo-envs-verifiers", f"--env.{seat}.runtime.type", "subprocess", "-n", "1"]
    with made(taskset, tasks=1) as env:
        observations = [env.reset(seed=SEED)[0]]
        steps = [env.step(written(what)) for what in script]
        observations += [step[0] for step in steps]
        measured = env.measures()
    with model(lambda messages: script[len(said(messages, "assistant"))]) as (url, _):
        (episode,) = evaluated(tmp_path, url, taskset, *natively)
    assert episode["errors"] == []
    (trace,) = episode["traces"]
    heard = said([node["message"] for node in trace["nodes"]], "user", "tool")
    results = {"vf_shelf": lambda text: f"<tool_response>{text}</tool_response>"}.get(taskset, lambda text: text)
    system = "Answer briefly.\n\n" if taskset == "vf_capitals" else ""
    assert observations == [system + heard[0], *map(results, heard[1:]), ""]
    assert not between or list(heard[1:]) == between
    rewards = {name: reward["score"] * reward["weight"] for name, reward in trace["rewards"].items()}
    assert [step[1] for step in steps] == [0.0] * (len(script) - 1) + [sum(rewards.values())]
    assert sum(rewards.values()) == expected
    assert [step[2:4] for step in steps] == [(False, False)] * (len(script) - 1) + [(True, False)]
    assert measured == {**rewards, **trace["metrics"]}
    assert [step[4]["tool"] for step in steps] == [what["name"] if isinstance(what, dict) else "reply" for what in script]


def test_what_tools_return_and_what_is_wrong_with_a_call(found):
    with made("vf_shelf", tasks=1) as env:
        env.reset(seed=0)
        assert [spec.name for spec in env.get_wrapper_attr("tool_specs")] == ["shelf_names", "shelf_put"]
        assert '"shelf_put"' in env.get_wrapper_attr("instructions")
        assert env.step(written(PUT))[0] == "<tool_response>1 on the shelf <result></tool_response>"
        assert env.step(written(NAMES))[0] == "<tool_response>cup</tool_response>"
        twin = clone(env)
        assert twin.step(written(PUT))[0].startswith("<tool_response>2 on")
        assert (twin.executed_calls, twin.replayed_calls) == (1, 2)
        assert env.step(written(NAMES))[0] == "<tool_response>cup</tool_response>"
        twin.close()
        for wrong, told in (
            ("<tool_call>{</tool_call>", "must be a JSON object"),
            (written({**PUT, "name": "shelf_pit"}), "shelf_put"),
        ):
            text, reward, terminated, _, info = env.step(wrong)
            assert (reward, terminated, info["tool"], info["status"]) == (0.0, False, "", "mistake")
            assert told in text
        _, reward, terminated, _, info = env.step("cup")
        assert (reward, terminated, info["tool"], info["success"]) == (1.0, True, "reply", 1.0)


def test_an_environment_of_ours_comes_back_the_same():
    expert = recorded("ARPO/SearchMini-v0")
    with made("arpo-envs-verifiers", config={"taskset": {"env": expert.env_id, "seed": SEED}}, tasks=1) as env:
        first = env.reset(seed=0)[0]
        steps = [env.step(action) for action in expert.actions]
    assert first.endswith(f"\n\n{expert.observations[0]}")
    assert [step[0] for step in steps[:-1]] == list(expert.observations[1:-1])
    assert steps[-1][1] == sum(expert.rewards)


def test_the_level_is_found_out_and_the_laws_are_kept():
    options = {"fork": "auto", "tries": ["10", "hm", "5"]}
    with made("vf_hunt", **options) as env:
        assert env.fork_level is ForkLevel.REPLAY
    report = check_forkable_env(lambda: made("vf_hunt", **options), actions=[["10", "hm", "5", "6"]], seeds=(0,))
    assert set(report.skipped) == {Law.TIMEOUT, Law.SECRETS, Law.RESEED}  # what happens was decided when the task was drawn


def test_a_single_turn_keeps_the_law_of_a_fork():
    report = check_forkable_env(lambda: made("vf_capitals"), actions=[["Lima"]], seeds=(0,), laws=[Law.FAITHFUL])
    assert report.passed == (Law.FAITHFUL,)


def test_trees_grow_in_it_and_replayed_replies_are_counted_apart(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "algorithms"))
    from rollout_toys import Coin, Plan, grow

    (tree,) = grow(plan=Plan(Coin(1, 1.0, 1), 4), script=lambda before, seed: "21", env=lambda: made("vf_hunt"))
    forks = [(number, node) for number, node in enumerate(tree.nodes) if node.origin == "branch"]
    assert forks
    assert [node.replayed for _, node in forks] == [tree.depth(number) for number, _ in forks]
    assert tree.tool_calls().replayed == sum(node.replayed for _, node in forks)


def test_what_does_not_repeat_is_refused_by_name():
    with pytest.raises(NotForkable, match=r"vf_hunt.*can be forked neither by a deep copy nor by replaying"):
        made("vf_hunt", fork="auto", tries=["10"], config={"taskset": {"clock": True}})


def test_a_limit_of_its_own_truncates():
    with made("vf_hunt", config={"player": {"max_turns": 2}}) as env:
        env.reset(seed=0)
        env.step("21")
        assert env.step("21")[2:4] == (False, True)
    with made("vf_hunt", config={"player": {"timeout": {"rollout": 0.5}}}) as env:
        env.reset(seed=0)
        time.sleep(1)
        assert env.step("21")[1:4] == (0.0, False, True)


def test_another_seat_is_played_by_its_own_model():
    user = {"model": "scripted", "harness": {"id": "arpo-envs-verifiers"}, "runtime": {"type": "subprocess"}}
    with model(lambda messages: ["What is it?", "###DONE###"][len(said(messages, "assistant"))]) as (url, asked):
        user |= {"client": {"type": "eval", "base_url": url, "api_key_var": "SCRIPTED_KEY"}}
        with made("vf_capitals", env="user-sim", seat="assistant", config={"user": user}) as env:
            assert env.reset(seed=0)[0] == "Answer briefly.\n\nWhat is it?"
            _, reward, terminated, _, _ = env.step("Paris, Lima, Tokyo")
    assert (reward, terminated) == (1.25, True)
    assert asked[-1][-1]["content"] == "Paris, Lima, Tokyo"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taskset": "vf_nothing"}, "verifiers has no environment vf_nothing .* not found"),
        ({"config": {"agnt": {}}}, "Extra inputs are not permitted"),
        ({"seat": "agnt"}, "Did you mean 'agent'"),
        ({"env": "user-sim"}, "has the seats assistant, user: say which one acts"),
        ({"env": "user-sim", "seat": "assistant"}, "The seat 'user' of .* needs a model of its own"),
        ({"config": {"agent": {"harness": {"id": "codex"}}}}, "played by the program 'codex'"),
        ({"tasks": 0}, "has no tasks"),
    ],
)
def test_what_cannot_be_stepped_is_refused_by_name(options, message):
    with pytest.raises(ConfigError, match=message):
        made(**{"taskset": "vf_capitals", **options})


def test_several_conversations_in_one_episode_are_refused():
    before = threading.active_count()
    with made("vf_capitals", env="best-of-n") as env:
        env.reset(seed=0)
        with pytest.raises(ConfigError, match="several conversations in one episode"):
            env.step("Lima")
    assert threading.active_count() == before


def test_a_failure_of_the_environment_is_told_and_nothing_leaks():
    env = made("vf_hunt")
    env.reset(seed=0)
    env.close()
    before = held()
    env.reset(seed=0)
    with pytest.raises(ToolFault, match=r"vf_hunt failed at its task hunt#\d+: EnvError: .* fell off the table"):
        env.step("crash")
    for _ in range(3):  # ended in the middle
        env.reset(seed=1)
        env.step("x" * 10_000_000)
    env.close()
    with pytest.raises(ConfigError, match="Unknown reset options"):
        env.reset(options={"task": "1"})
    assert freed(before), (before, held())


GAME = r"vf_hunt failed at its task hunt#\d+: "


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("exit", "SystemExit: the game went home"),
        ("exit beside", "SystemExit: the game went home"),
        ("cancelled", "CancelledError"),
    ],
)
def test_an_environment_that_ends_its_process_or_its_task_fails_at_its_task(said, error):
    before = threading.active_count()
    with made("vf_hunt") as env:
        env.reset(seed=0)
        with pytest.raises(ToolFault, match=GAME + error):
            env.step(said)
        env.reset(seed=0)
        assert env.step("hm")[0] == "That is no number. 3 left."
    assert threading.active_count() == before


def test_the_page_runs(tmp_path, monkeypatch):
    run_section("hubs-inward", "verifiers", tmp_path, monkeypatch)


def test_an_episode_for_which_there_is_no_loop_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Any) -> None:
        run.close()
        raise OSError("Too many open files")

    env, threads = made("vf_hunt"), threading.active_count()
    with monkeypatch.context() as patched:
        patched.setattr("arpo_envs.hubs.verifiers_episode.asyncio.run", refuse)
        with pytest.raises(ToolFault, match="Too many open files"):
            env.reset(seed=SEED)
    assert threading.active_count() == threads
    env.reset(seed=SEED)
    env.close()
