"""A mixture trains and evaluates as one environment: each prompt has its member's words, and numbers are split by member."""

import asyncio
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import gymnasium as gym
import pytest
from rollout_toys import CountEnv, calls_then_answer
from test_cli_train import SUMMARY, assert_equal_runs, exit_status, logged, said, summary

from algorithms.checkpoint import latest
from algorithms.cli import main
from algorithms.cli.config import TrainConfig
from algorithms.cli.environments import arguments_of, env_maker
from algorithms.cli.game import Game
from algorithms.cli.mixtures import env_arguments, members_in
from algorithms.cli.parts import training_starts
from algorithms.evaluation import evaluate
from algorithms.metrics import by_env, summarise, summarise_envs
from algorithms.models.demonstrations.expert import demonstrations, demonstrator
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.recipes import make
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import MakeEnv, Start, collect
from algorithms.tracking.trees import read_trees
from algorithms.tree import RolloutTree
from arpo_envs import ConfigError, ToolSpec

MINI, FULL = "ARPO/SearchMini-v0", "ARPO/Search-v0"
MIXED = f"{MINI}=3,{FULL}=1"
EASY, HARD = "Counted/Easy-v0", "Counted/Hard-v0"
SMALL = ["--env", MIXED, "--env-args", "cities_per_country=4", f"{FULL}:results=1"]
SHORT = [*SMALL, "--prompts", "6", "--rollouts", "4", "--eval-questions", "8", "--checkpoint-every", "1", "--steps", "2"]

pytestmark = pytest.mark.usefixtures("wide_terminal")


class Told(ScriptedRenderer):
    """Puts the instructions and the names of the tools in front of the question."""

    def start(self, instructions: str, task: str, tools: Sequence[ToolSpec]) -> tuple[int, ...]:
        return tuple(map(ord, f"{instructions}|{[spec.name for spec in tools]}|{task}\n"))


def hard() -> CountEnv:
    """Returns an environment with other instructions that needs another answer."""
    env = CountEnv(guidance="These are hard.")
    pays = env.reward
    env.reward = lambda task, outcome: type(pays(task, outcome))(0.0, 0.0)
    return env


@pytest.fixture
def toys() -> Iterator[MakeEnv]:
    gym.register(EASY, entry_point=CountEnv)
    gym.register(HARD, entry_point=hard)
    yield env_maker(f"{EASY}=2,{HARD}=1", {})
    del gym.registry[EASY], gym.registry[HARD]


def grown(make_env: MakeEnv, algorithm: str, prompts: int = 12) -> list[RolloutTree]:
    starts = [Start(seed) for seed in range(prompts)]
    policy = ScriptedPolicy(calls_then_answer(2))
    return asyncio.run(collect(make_env, starts, policy, Told(), make(algorithm), seed=1))


# --- in a rollout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["arpo", "grpo"])
def test_every_tree_begins_with_its_members_own_instructions_and_tools(toys: MakeEnv, algorithm: str) -> None:
    trees = grown(toys, algorithm)
    assert {tree.meta["env"] for tree in trees} == {EASY, HARD}
    for tree in trees:
        prompt = "".join(map(chr, tree.nodes[0].tokens))
        assert prompt.startswith("These are hard.") == (tree.meta["env"] == HARD)
        assert "|['count']|" in prompt
        assert tree.task.startswith(f"{tree.meta['env']}/")
        ends = [tree.nodes[leaf] for leaf in tree.leaves()]
        assert {end.success for end in ends} == {float(tree.meta["env"] == EASY)}, "forks stay in their member"
    assert any(node.origin == "branch" for tree in trees for node in tree.nodes) == (algorithm == "arpo")


def test_which_member_a_prompt_has_is_a_function_of_run_step_and_place() -> None:
    make_env = env_maker(MIXED, {"cities_per_country": 4})

    def drawn(seed: int, step: int) -> list[str]:
        starts = training_starts(TrainConfig(seed=seed, prompts=12), step)
        return [make_env().reset(seed=start.seed)[1]["task"] for start in starts]

    assert drawn(1, 0) == drawn(1, 0)
    assert len({tuple(drawn(seed, step)) for seed in (1, 2) for step in (0, 1)}) == 4


# --- its numbers ------------------------------------------------------------------------------------------


def test_metrics_of_the_members_add_up_to_those_of_the_whole(toys: MakeEnv) -> None:
    trees = grown(toys, "arpo")
    whole, parts = summarise(trees), summarise_envs(trees)
    assert sum(parts[f"prompts/{env}"] for env in (EASY, HARD)) == len(trees)
    assert (parts[f"success/{EASY}"], parts[f"success/{HARD}"]) == (1.0, 0.0)
    for name in ("success", "reward", "answered", "executed_tool_calls_per_prompt", "equal_reward_groups"):
        mixed = sum(parts[f"{name}/{env}"] * parts[f"prompts/{env}"] for env in (EASY, HARD)) / len(trees)
        assert math.isclose(mixed, whole[name], rel_tol=1e-12), name
    only = [tree for tree in trees if tree.meta["env"] == EASY]
    assert not any(name.endswith(HARD) for name in summarise_envs(only)), "no prompt, no numbers"


def test_trees_of_a_single_environment_have_no_parts() -> None:
    trees = grown(CountEnv, "grpo", prompts=2)
    assert "env" not in trees[0].meta
    assert (summarise_envs(trees), by_env(trees)) == ({}, {})


def test_an_evaluation_judges_every_member(toys: MakeEnv) -> None:
    starts = [Start(seed) for seed in range(20)]
    policy = ScriptedPolicy(calls_then_answer(1))
    found = asyncio.run(evaluate(toys, starts, policy, ScriptedRenderer(), seed=1, samples=2))
    assert {env: own.success for env, own in found.by_env.items()} == {EASY: 1.0, HARD: 0.0}
    counts = {env: len(own.trees) for env, own in found.by_env.items()}
    assert sum(counts.values()) == 20
    assert found.success == pytest.approx(counts[EASY] / 20)
    assert found.by_env[EASY].interval[1] == pytest.approx(1.0)
    assert found.by_env[HARD].interval[0] == 0.0


# --- what the embedded policy learns from -----------------------------------------------------------------


def test_demonstrations_use_the_tools_of_their_member_in_the_mixtures_proportions() -> None:
    browser = "ARPO/Browser-v0"
    make_env = env_maker(f"{MINI}=1,{browser}=1", {"cities_per_country": 4})
    shown = demonstrations(make_env, 60, seed=0, perfect=True)
    by_search = [one for one in shown if any("<search>" in action for action, _ in one.turns)]
    by_clicks = [one for one in shown if any("<browser.open>" in action for action, _ in one.turns)]
    assert not {id(one) for one in by_search} & {id(one) for one in by_clicks}
    assert len(by_search) > 12, "of 60 fair draws, 12 or fewer have a probability of 2e-6"
    assert len(by_clicks) > 12
    assert {"browser.open" in one.instructions for one in by_search} == {False}
    assert {"browser.open" in one.instructions for one in by_clicks} == {True}
    assert len(demonstrator(make_env()).lexicon()) > 100


# --- the commands -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished_mixture(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("mixture") / "run"
    assert main(["train", "--policy", str(tiny_policy), "--output", str(run), *SHORT]) == 0
    return run


def test_a_run_splits_its_numbers_by_member(finished_mixture: Path) -> None:
    split = {name for name in summary(finished_mixture) if "/" in name}
    assert split == {f"success_after_{how}/{env}" for how in ("sampled", "greedy") for env in (MINI, FULL)}
    assert set(summary(finished_mixture)) - split == SUMMARY
    trees = list(read_trees(finished_mixture / "trees.jsonl.zst"))
    for line in logged(finished_mixture):
        own = by_env([tree for tree in trees if tree.meta["step"] == line["step"]])
        assert {env: line[f"prompts/{env}"] for env in own} == {env: len(some) for env, some in own.items()}
    before = json.loads((finished_mixture / "before.json").read_text(encoding="utf-8"))
    assert 0.0 <= before[f"sampled/{MINI}"] <= 1.0
    assert json.loads((finished_mixture / "config.json").read_text(encoding="utf-8"))["env"] == MIXED


def test_a_run_that_was_broken_off_goes_on_exactly(finished_mixture: Path, tmp_path: Path) -> None:
    run = tmp_path / "again"
    shutil.copytree(finished_mixture, run, symlinks=True)
    shutil.rmtree(run / "checkpoints" / "step-000002")
    for name in ("after.json", "summary.json"):
        (run / name).unlink()
    assert latest(run).step == 1
    assert main(["train", "--resume", str(run)]) == 0
    assert_equal_runs(finished_mixture, run)


def test_an_evaluation_reports_every_member(finished_mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "eval.json"
    assert main(["eval", "--policy", str(finished_mixture), "--questions", "8", "--temperature", "0", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["env"] == MIXED
    assert record["success"] == summary(finished_mixture)["success_after_greedy"]
    assert sum(record[f"questions/{env}"] for env in (MINI, FULL)) == 8
    text = said(capsys)
    for env in (MINI, FULL):
        assert record[f"success/{env}"] == summary(finished_mixture)[f"success_after_greedy/{env}"]
        assert f"{env} │ {record[f'success/{env}']:.3f}" in text


def test_a_dry_run_explains_the_mixture(tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--dry-run", "--policy", str(tiny_policy), "--output", str(tmp_path / "run"), *SHORT]) == 0
    text = said(capsys)
    assert f"{MINI} 75%, {FULL} 25%" in text
    assert "Nothing was trained" in text


def test_a_dry_run_finds_the_member_whose_prompts_never_fit(
    tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ["--env", f"{MINI}=1000,{FULL}=1", "--env-args", "cities_per_country=4", f"{FULL}:tasks={tmp_path / 'long.jsonl'}"]
    line = {"id": "a", "question": "why " * 900, "answers": ["x"]}
    (tmp_path / "long.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    own = ["--train-args", f"{MINI}:split=train", "--eval-args", f"{MINI}:split=test"]
    assert exit_status(["train", "--dry-run", "--policy", str(tiny_policy), *long, *own]) == 2
    assert "reserved for the answer" in said(capsys)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (f"--env {MINI}=3,ARPO/Serch-v0=1", "Did you mean 'ARPO/Search-v0'?"),
        (f"--env {MINI}=0,{FULL}=1", "must be a number above 0"),
        (f"--env {MINI}=inf,{FULL}=1", "must be a number above 0"),
        (f"--env {MINI}=much", f"The weight of {MINI} must be a number, got 'much'"),
        (f"--env {MINI},{MINI}", "in the mixture twice"),
        (f"--env {MINI}=1,", "an id is missing"),
        (f"--env {MIXED} --env-args ARPO/Serch-v0:hops=1", "Did you mean 'ARPO/Search-v0'?"),
        (f"--env {MIXED} --env-args {FULL}:hop=1", "Did you mean 'hops'?"),
        (f"--env {MIXED} --env-args {FULL}:hops", "Expected NAME=VALUE, got 'hops'"),
        (f"--env {MIXED} --env-args {FULL}:dialect=json", "need the same dialect"),
        (f"--env {MINI} --env-args {MINI}:hops=1", "Expected NAME=VALUE"),
    ],
)
def test_a_mistake_is_explained_before_any_work(
    words: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_status(["train", *words.split()]) == 2
    assert hint in said(capsys)
    assert list(tmp_path.iterdir()) == []


def test_later_arguments_replace_earlier_ones_also_those_of_one_member() -> None:
    words = ["hops=1", f"{FULL}:hops=2", f"{FULL}:split=train", "split=test"]
    assert env_arguments(MIXED, words) == {"hops": 1, "split": "test", "arguments": {FULL: {"hops": 2}}}
    assert members_in(MIXED, words) == {MINI: {"hops": 1, "split": "test"}, FULL: {"hops": 2, "split": "test"}}
    assert env_arguments("package:Its/Town-v0=1", ["package:Its/Town-v0:size=3"]) == {
        "arguments": {"package:Its/Town-v0": {"size": 3}}
    }
    assert members_in(MINI, ["hops=1"]) == {MINI: {"hops": 1}}
    assert {"hops", "difficulty"} <= arguments_of(f"{MINI},ARPO/Python-v0").keys()
    with pytest.raises(ConfigError, match="Unknown environment of the mixture"):
        env_arguments(MIXED, ["ARPO/Python-v0:hops=1"])


def test_a_mixture_is_played_like_any_environment() -> None:
    make_env = env_maker(f"{MINI},ARPO/Browser-v0", {"cities_per_country": 4})
    game = Game(make_env, seed=0, task=None)
    again = Game(make_env, seed=0, task=game.current.info["task"])
    assert again.question == game.question
    assert set(game.tools) in ({"search"}, {"browser.open", "browser.find"})
    assert game.answers()
    for one in (game, again):
        one.close()
