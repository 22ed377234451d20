"""What `arpo envs ID` says of every id is what a second, plainer way of counting finds, and every id can be played."""

import io
import re
from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from envs.test_laws import IDS, SMALL, missing
from toys import TownEnv

from algorithms.cli import main
from algorithms.cli.baselines import REMEMBERED, Baselines, Memory, baselines, drawn
from algorithms.cli.environments import arguments_of, env_maker
from arpo_envs import Task
from arpo_envs.envs.named import ENVS
from arpo_envs.testing.scripts import speaking

QUESTIONS = 8
"""Fewer than the command asks."""

MEMBERS = {"ARPO/Mixture-v0": ("ARPO/SearchMini-v0", "ARPO/Python-v0")}
"""Of the mixtures; they are drawn equally often."""


@pytest.fixture(autouse=True)
def _fewer(monkeypatch):
    monkeypatch.setattr("algorithms.cli.baselines.QUESTIONS", QUESTIONS)


def recounted(name: str) -> Baselines:
    """Returns the same by stepping: each answer is really given, and calls and answers are written by hand."""
    if name in MEMBERS:
        parts = [recounted(member) for member in MEMBERS[name]]
        means = [float(np.mean([getattr(part, share) for part in parts])) for share in ("expert", "closed_book", "majority")]
        return Baselines(*means, questions=QUESTIONS * len(parts))
    splits = ({"split": split} if "split" in arguments_of(name) else {} for split in ("test", "train"))
    env, training = (env_maker(name, options)().unwrapped for options in splits)
    assert speaking(env) is env
    assert speaking(training) is training
    rng = np.random.default_rng(0)
    asked = [env.tasks.draw(rng).id for _ in range(QUESTIONS)]
    rng = np.random.default_rng(0)
    seen = [training.tasks.draw(rng) for _ in range(REMEMBERED)]

    def success(task: str, *actions: str) -> float:
        env.reset(options={"task": task})
        for action in actions:
            *_, info = env.step(action)
        return float(info["success"])

    def answered(task: str, text: str) -> float:
        return success(task, f"<answer>{text}</answer>")

    def shown(task: str) -> list[str]:
        source: Any = env.tasks
        moves = source.demonstrate(source.get(task), np.random.default_rng(5), perfect=True)
        return [f"<{move}>{text}</{move}>" for move, text in moves]

    recall = Memory(seen).recall
    exact = getattr(env.tasks, "majority_baseline", lambda: None)()
    usual = Counter(task.answers[0] for task in seen).most_common(1)[0][0]
    found = Baselines(
        expert=sum(success(task, *shown(task)) for task in asked) / QUESTIONS,
        closed_book=sum(answered(task, recall(env.tasks.get(task).question)) for task in asked) / QUESTIONS,
        majority=exact if exact is not None else sum(answered(task, usual) for task in asked) / QUESTIONS,
        questions=QUESTIONS,
    )
    env.close()
    training.close()
    return found


@pytest.mark.parametrize("name", IDS)
def test_every_environment_shows_its_baselines(name, capsys, wide_terminal):
    if missing(name):
        pytest.skip(f"{name}: {missing(name)}")
    wanted = recounted(name)
    assert main(["envs", name]) == 0
    out = capsys.readouterr().out
    found = dict(re.findall(r"│ (expert|closed book|majority) +│ ([\d.]+) +│", out))
    assert wanted.expert is not None
    assert found == {
        "expert": f"{wanted.expert:.3f}",
        "closed book": f"{wanted.closed_book:.3f}",
        "majority": f"{wanted.majority:.3f}",
    }
    assert f"Right answers to {wanted.questions} held-out questions" in out
    assert wanted.expert > 0.95, "the tasks can be solved"
    assert max(wanted.closed_book or 0, wanted.majority or 0) <= 1 / QUESTIONS, "and not without tools"


@pytest.mark.parametrize("name", IDS)
def test_every_environment_is_played_by_hand(name, capsys, monkeypatch, wide_terminal):
    if missing(name):
        pytest.skip(f"{name}: {missing(name)}")
    args = [f"{key}={value}" for key, value in SMALL.get(name, {}).items()]
    env = env_maker(name, SMALL.get(name, {}))()
    question, _ = env.reset(seed=2)
    (answer, *_), spec = env.unwrapped.task.answers, env.unwrapped.tool_specs[0]
    body = "print(2)" if spec.name == "python" else "Oslo" if spec.text_parameter else "{}"
    env.close()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{spec.name} {body}\nfork\nanswer {answer}\nswitch 1\nundo\nquit\n"))
    assert main(["play", name, "--seed", "2", "--args", *args]) == 0
    out = capsys.readouterr().out
    assert question.splitlines()[0][:60] in out
    assert "reward 1" in out
    assert f"Taken back: <{spec.name}>" in out
    assert f"The answer was: {answer}" in out


def test_what_nobody_knows_is_not_claimed(monkeypatch, capsys, wide_terminal):
    monkeypatch.setitem(ENVS.built_in, "Toy/Baselines-v0", "toys:TownEnv")
    gym.register("Toy/Baselines-v0", entry_point="toys:TownEnv")
    try:
        found = baselines("Toy/Baselines-v0")
        assert found.expert is None, "nobody demonstrates"
        asked = drawn(TownEnv().tasks, QUESTIONS)
        usual = Counter(task.answers[0] for task in drawn(TownEnv().tasks, REMEMBERED)).most_common(1)[0][0]
        assert found.majority == sum(usual in task.answers for task in asked) / QUESTIONS
        assert found.closed_book == 1.0, "it has no held-out split, so memory knows all"
    finally:
        del gym.registry["Toy/Baselines-v0"]


def test_members_of_a_mixture_count_by_weight_and_what_one_of_them_hides_is_unknown(capsys, wide_terminal):
    first, second = "ARPO/SearchMini-v0", "ARPO/DeepSearchSolver-v0"
    one, two = baselines(first), baselines(second, {"hops": 1})
    options = {"envs": {first: 3, second: 1}, "arguments": {second: {"hops": 1}}}
    found = baselines("ARPO/Mixture-v0", options)
    assert one.majority != two.majority
    assert found.majority == pytest.approx((3 * (one.majority or 0) + (two.majority or 0)) / 4)
    assert found.closed_book == pytest.approx((3 * (one.closed_book or 0) + (two.closed_book or 0)) / 4)
    assert (found.expert, found.questions) == (1.0, 2 * QUESTIONS)
    gym.register("Toy/Hidden-v0", entry_point="toys:TownEnv")
    try:
        assert main(["envs", f"Toy/Hidden-v0,{first}"]) == 0
        assert re.search(r"expert +│ – +│ unknown: no demonstrator knows all", capsys.readouterr().out)
    finally:
        del gym.registry["Toy/Hidden-v0"]


def test_memory_prefers_rare_words_and_then_what_came_first():
    seen = [
        Task("a", "What is the capital of Peru?", ("Lima",)),
        Task("b", "What is the capital of Chad?", ("N'Djamena",)),
        Task("c", "Name Quito's country.", ("Ecuador",)),
    ]
    memory = Memory(seen)
    assert memory.recall("What is the capital of Kenya?") == "Lima"
    assert memory.recall("Is it the capital: Chad?") == "N'Djamena"
    assert memory.recall("Quito?") == "Ecuador"
    assert memory.recall("?") == "Lima"
