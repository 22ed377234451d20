"""Forks spread over the episode: where they are, what is remembered, and that a resumed run goes on as if undisturbed."""

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from golden import player, uncertainty
from rollout_toys import CountEnv, CountTool, Plan, calls_then_answer, grow, results
from test_cli_train import KILLED, arguments, assert_equal_runs
from test_trainer import trainer

from algorithms import make
from algorithms.branching import BranchPoint, EntropyBranching, RandomBranching, SpreadBranching
from algorithms.branching.adaptation import Adaptation
from algorithms.branching.entropy import Bernoulli
from algorithms.checkpoint import latest
from algorithms.cli import main
from algorithms.metrics import fork_depths
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.testing import check_algorithm
from algorithms.tree import RolloutTree, Status
from arpo_envs.errors import ConfigError

AUTO = {"arpo": {"alpha": "auto", "probe": 3}, "random_branching": {"probability": "auto"}}
CALLS = 20


def small(name: str):
    return make(name, rollouts=4, roots=2, **AUTO[name])


@pytest.mark.parametrize("name", AUTO)
def test_it_is_an_algorithm_like_any_other(name) -> None:
    assert check_algorithm(small(name), seeds=(0,), prompts=2).ok


def test_recipes_have_one_rule_for_both_and_refuse_what_contradicts_it() -> None:
    assert make("arpo", alpha="auto").branching == SpreadBranching(8, 0.2, probe=20)
    assert make("random_branching", probability="auto").branching == SpreadBranching(8, 0.0, probe=0)
    for options, reason in (
        ({"tau": 0.3}, "there is none"),
        ({"implementation": "reference"}, "does not take"),
        ({"roots": 16}, "no budget for forks"),
    ):
        with pytest.raises(ConfigError, match=reason):
            make("arpo", alpha="auto", **options)
    with pytest.raises(ConfigError, match="alpha = a number or 'auto', got 'fast'"):
        make("arpo", alpha="fast")
    for wrong in ({"roots": 0}, {"probe": 0}, {"siblings": 0}, {"window": 0}, {"alpha": float("nan")}):
        with pytest.raises(ConfigError):
            SpreadBranching(**{"roots": 2} | wrong)


def test_with_the_published_alpha_it_decides_as_arpo_and_its_control_do() -> None:
    pairs = [
        (SpreadBranching(2, 0.2, 4, 3), EntropyBranching(2, Bernoulli(0.5, 0.2), 4, 3)),
        (SpreadBranching(2, 0.0, 0), RandomBranching(2, 0.5)),
    ]
    for spread, usual in pairs:
        for probe in ((), (0.0,), (2.5, 1.5), (9.0,)):
            point = BranchPoint((0, 0), 1, 0, (1.0, 1.0), probe, 9, 100)
            assert spread.weigh(point).probability == usual.weigh(point).probability
            for seed in range(8):
                rngs = (np.random.default_rng(seed), np.random.default_rng(seed))
                assert spread.on_result(point, rngs[0]) == usual.on_result(point, rngs[1])


# --- where the forks are -----------------------------------------------------------------------------------


def after_two_steps(algorithm, script, entropy, prompts: int = 2) -> tuple[list[RolloutTree], Adaptation]:
    """Returns the trees of the second step, which knows the first one."""
    adaptation, trees = Adaptation(), []
    for step in range(2):
        plan = Plan(adaptation.adapted(algorithm.branching, algorithm.rollouts), algorithm.rollouts)
        policy = ScriptedPolicy(script, entropy)
        env = lambda: CountEnv(max_turns=CALLS + 5, max_tool_calls=CALLS + 5)  # noqa: E731
        trees = grow(plan=plan, script=policy, prompts=prompts, step=step, env=env)
        adaptation.remember(algorithm.branching, trees, policy.vocabulary_size)
    return trees, adaptation


def wavering(before: str, seed: int) -> list[float]:
    """Is more uncertain after most results than at the start, so that beta·ΔH alone forks far too often."""
    return [2.5 * np.random.default_rng(seed).random() if results(before) else 0.5] * 3


@pytest.mark.parametrize("name", AUTO)
def test_in_long_episodes_forks_are_all_over_and_not_at_the_first_two_results(name) -> None:
    published = make(name, rollouts=8, roots=4, **({"probe": 3} if name == "arpo" else {}))
    auto = make(name, rollouts=8, roots=4, **AUTO[name])
    early, _ = after_two_steps(published, calls_then_answer(CALLS), wavering)
    spread, adaptation = after_two_steps(auto, calls_then_answer(CALLS), wavering)
    assert len(fork_depths(early)) == 2 * 4, "the whole budget"
    assert max(fork_depths(early)) <= 4
    depths = fork_depths(spread)
    assert len(depths) > 3
    assert np.mean(depths) > 7
    assert max(depths) > 15
    assert {len(path) for path in adaptation.memory} == {CALLS}
    alpha = adaptation.adapted(auto.branching, 8).alpha
    assert alpha < 0.0 if name == "arpo" else alpha == pytest.approx(2 ** (1 / CALLS) - 1)


# --- what is remembered ------------------------------------------------------------------------------------


def test_only_what_first_roots_went_through_is_remembered() -> None:
    strategy = SpreadBranching(3, 0.2, probe=4, alpha=0.3)
    trees = grow(plan=Plan(strategy, 9), script=ScriptedPolicy(player, uncertainty), prompts=3, seed=7)
    origins = {node.origin for tree in trees for node in tree.nodes}
    assert origins == {"", "root", "branch", "backfill"}
    memory = strategy.remember(None, trees, 0x110000)
    wanted = []
    for tree in trees:
        for root in range(3):
            leaf = next(leaf for leaf in tree.leaves() if own(tree, leaf) and tree.nodes[leaf].key[0] == root)
            decisions = [node.decision for n, _ in tree.path(leaf) if (node := tree.nodes[n]).decision is not None]
            wanted.append([pytest.approx(d.after - d.before, abs=1e-5) for d in decisions])
    assert len(memory) == 9
    assert memory == wanted
    assert any(memory)


def own(tree: RolloutTree, leaf: int) -> bool:
    return {tree.nodes[n].origin for n, _ in tree.path(leaf)} <= {"", "root"}


def test_paths_that_failed_are_left_out_and_the_oldest_are_forgotten() -> None:
    def fails(history: tuple[str, ...]) -> None:
        if len(history) == 2 and history[0].endswith(("1", "3", "5", "7", "9")):
            raise RuntimeError("down")

    strategy = SpreadBranching(6, 0.0, probe=0, window=4)
    trees = grow(CountTool(hook=fails), Plan(strategy, 7), calls_then_answer(3))
    failed = sum(own(tree, leaf) and tree.nodes[leaf].status == Status.TOOL_FAULT for tree in trees for leaf in tree.leaves())
    assert failed > 0
    seen = [[0.0] * 3] * (6 - failed)
    assert strategy.remember([], trees, 9) == seen[-4:]
    assert strategy.remember([[1.0], [2.0], [3.0], [4.0]], trees, 9) == [[1.0], [2.0], [3.0], [4.0], *seen][-4:]
    assert strategy.adapted([], 9) == strategy, "nothing was seen"


def test_other_strategies_remember_nothing() -> None:
    adaptation, usual = Adaptation(), RandomBranching(2)
    adaptation.remember(usual, grow(plan=Plan(usual, 4)), 9)
    assert adaptation.memory is None
    assert adaptation.adapted(usual, 4) is usual


# --- going on --------------------------------------------------------------------------------------------------


@pytest.mark.numeric
def test_a_step_depends_on_the_memory_which_survives_json() -> None:
    async def steps(some, numbers) -> list[str]:
        return [tree.to_json() for step in numbers for tree in (await some.step(step)).trees]

    whole, again = trainer(5, small("arpo")), trainer(5, small("arpo"))
    first = asyncio.run(steps(whole, range(1)))
    assert asyncio.run(steps(again, range(1))) == first
    assert len(whole.adaptation.memory) == 2 * 2, "two prompts, two roots"
    resumed = replace(again, adaptation=Adaptation())
    resumed.adaptation.memory = json.loads(json.dumps(again.adaptation.memory))
    after = asyncio.run(steps(whole, range(1, 2)))
    assert asyncio.run(steps(resumed, range(1, 2))) == after
    assert whole.adaptation.memory == resumed.adaptation.memory
    for some in (whole, again):
        asyncio.run(some.policy.close())


@pytest.mark.slow
@pytest.mark.usefixtures("wide_terminal")
def test_a_run_that_is_killed_and_resumed_has_the_bytes_of_one_that_was_not(tiny_policy, tmp_path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    more = ("--algorithm-args", "alpha=auto", "--checkpoint-every", "1")
    assert main(arguments(tiny_policy, whole, *more, steps=3)) == 0
    words = [sys.executable, "-c", KILLED, *arguments(tiny_policy, killed, *more, "--wait-for-checkpoints", steps=3)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(latest(killed).state["branching"]) == 4 * 3, "four prompts, three roots"
    assert main(["train", "--resume", str(killed)]) == 0
    assert_equal_runs(whole, killed)
