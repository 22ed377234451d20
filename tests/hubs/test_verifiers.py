"""`verifiers`: its own command line evaluates an id, with a scripted OpenAI-compatible server as the model."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import pytest
from episodes import IDS, SEED, recorded
from gymnasium.envs.registration import EnvSpec
from sections import run_section
from serving import processes_below
from toys import TownEnv
from verifiers_runs import Whole, evaluated, model, said

from arpo_envs.testing.probing import settled

pytestmark = pytest.mark.hubs

MINI = "ARPO/SearchMini-v0"


def ours(folder: Path, url: str, *options: str) -> list[dict[str, Any]]:
    return evaluated(folder, url, "arpo-envs-verifiers", *options)


@pytest.mark.parametrize("env_id", IDS)
def test_its_command_line_evaluates_an_id(env_id, tmp_path):
    expert = recorded(env_id)
    chosen = ["--env.taskset.env", env_id, "--env.taskset.seed", str(SEED), "-n", "1"]
    arguments = ["--env.taskset.arguments", json.dumps(expert.arguments)]
    with model(lambda messages: expert.actions[len(said(messages, "assistant"))]) as (url, asked):
        (episode,) = ours(tmp_path, url, *chosen, *arguments)
    (trace,) = episode["traces"]
    assert episode["errors"] == trace["errors"] == []
    assert trace["rewards"] == {"reward": {"score": sum(expert.rewards), "weight": 1.0}}
    turns = float(len(expert.actions))
    counted = {"turn": turns, "tool_calls": turns - 1, "success": 1.0}
    assert trace["metrics"] | counted == trace["metrics"]  # with what else an environment measures
    assert said(asked[0], "system")[0].endswith("ends the conversation.")
    assert said(asked[-1], "user") == expert.observations[:-1]
    messages = [node["message"] for node in trace["nodes"]]
    assert said(messages, "user") == expert.observations[:-1]
    assert said(messages, "assistant") == expert.actions
    assert not set(episode["task"]["data"]) & {"answer", "answers"}


def test_splits_and_seeds_choose_the_tasks(tmp_path):
    env = gym.make(MINI, split="test")
    questions = [env.reset(seed=seed)[0] for seed in (5, 6)]
    chosen = ["--env.taskset.env", MINI, "--env.taskset.split", "test", "--env.taskset.seed", "5", "-n", "2", "-r", "2"]
    with model(lambda messages: "<answer>no idea</answer>") as (url, asked):
        episodes = ours(tmp_path, url, *chosen)
    assert sorted(said(messages, "user")[0] for messages in asked) == sorted([*questions, *questions])
    assert [episode["traces"][0]["rewards"]["reward"]["score"] for episode in episodes] == [0.0] * 4
    assert {episode["task"]["data"]["seed"] for episode in episodes} == {5, 6}


def test_garbage_is_told_and_what_cannot_be_an_action_is_an_error_of_its_episode(tmp_path):
    garbage = iter(["garbage", "", "<answer>x</answer>", "x" * 10_000_000])
    chosen = ["--env.taskset.env", MINI, "-n", "2", "-c", "1"]
    with model(lambda messages: next(garbage)) as (url, asked):
        told, refused = ours(tmp_path, url, *chosen)
    assert "No tool call and no answer" in said(asked[1], "user")[-1]
    assert told["traces"][0]["rewards"]["reward"]["score"] == -1  # what is no action costs the reward for form
    assert told["errors"] == []
    assert "at most 1,048,576 characters" in json.dumps(refused["errors"])
    assert "reward" not in refused["traces"][0].get("rewards", {})


class Slow(TownEnv):
    """Waits in one of its calls until it is let go, and tells what happened."""

    slow: ClassVar[str] = ""
    begun, go = Event(), Event()
    told: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.wait("making")

    def wait(self, what: str) -> None:
        if what == self.slow:
            self.begun.set()
            assert self.go.wait(60)
            self.told.append("ended")

    def reset(self, **given: Any) -> Any:
        found = super().reset(**given)
        self.wait("reset")
        return found

    def step(self, action: str) -> Any:
        self.wait("step")
        return super().step(action)

    def close(self) -> None:
        self.told.append("closed")
        super().close()


class Player:
    """An agent that writes a note again and again."""

    @asynccontextmanager
    async def interaction(self, task: Any) -> AsyncIterator[Any]:
        async def turn(message: str | None = None) -> Any:
            return SimpleNamespace(terminated=False, last_reply="<note>x</note>")

        yield SimpleNamespace(turn=turn, trace=SimpleNamespace(errors=[]))


@pytest.mark.parametrize("slow", ["making", "reset", "step"])
def test_what_is_cancelled_is_closed_once_its_call_has_ended(slow, monkeypatch):
    from arpo_envs.hubs.verifiers import ArpoEnv

    async def test() -> None:
        task = SimpleNamespace(data=SimpleNamespace(env="Hubs/Slow-v0", arguments={}, seed=SEED))
        running = asyncio.create_task(ArpoEnv.run(None, task, SimpleNamespace(player=Player())))
        assert await asyncio.to_thread(Slow.begun.wait, 60)
        running.cancel()
        await asyncio.sleep(0.05)
        assert Slow.told == []
        Slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert Slow.told == ["ended", "closed"]

    monkeypatch.setitem(gym.registry, "Hubs/Slow-v0", EnvSpec("Hubs/Slow-v0", Slow))
    monkeypatch.setattr(Slow, "slow", slow)
    Slow.told.clear()
    Slow.begun.clear()
    Slow.go.clear()
    asyncio.run(test())


def test_no_interpreter_outlives_the_evaluation(tmp_path):
    counts: list[int] = []

    def says(messages: Any) -> str:
        turn = len(said(messages, "assistant"))
        if turn == 1:
            counts.append(processes_below())
        return ["<python>x = 1</python>", "<answer>x</answer>"][turn]

    with model(says) as (url, _):
        ours(tmp_path, url, "--env.taskset.env", "ARPO/Python-v0", "-n", "1")
    without_it = counts[0] - 1
    assert settled(processes_below, without_it) <= without_it


@pytest.mark.parametrize("reply", [{"role": "system", "content": "<answer>x</answer>"}, {"role": "assistant", "content": [5]}])
def test_what_is_no_reply_is_an_error_of_its_episode_and_no_answer(reply, tmp_path):
    with model(lambda messages: Whole(reply)) as (url, _):
        (episode,) = ours(tmp_path, url, "--env.taskset.env", MINI, "-n", "1")
    (trace,) = episode["traces"]
    assert trace["errors"][0]["type"] == "ProviderError"
    assert trace["rewards"] == trace["metrics"] == {}  # the model has not failed to answer


def test_an_unknown_id_is_refused_before_anything_runs(tmp_path):
    with model(lambda messages: "") as (url, asked), pytest.raises(Exception, match="Did you mean: `Search`"):
        ours(tmp_path, url, "--env.taskset.env", "ARPO/Serch-v0", "-n", "1")
    assert asked == []


def test_the_page_runs(tmp_path, monkeypatch):
    run_section("hubs", "verifiers", tmp_path, monkeypatch)
