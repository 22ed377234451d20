"""What a tree records of the decisions after tool results: of those to fork, and of those not to."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from golden import player, trees_of, uncertainty
from hypothesis import given
from hypothesis import strategies as st
from rollout_toys import CountEnv, CountTool, Plan, grow
from small_recipes import small

from algorithms.branching.balanced import BalancedBranching
from algorithms.branching.blind import FixedBranching, RandomBranching
from algorithms.branching.entropy import Bernoulli, EntropyBranching, Threshold
from algorithms.branching.reference import ReferenceBranching
from algorithms.branching.strategy import BranchPoint, weighed
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.tree import NO_PARENT, Decision, Node, RolloutTree

OLD = Path(__file__).parents[1] / "golden" / "grpo.jsonl"
POINT = BranchPoint((1, 0), 1, 0, (0.5, 0.5, 9.0), (2.0, 1.0), 3, 100, consecutive=2, actions=((0.5,), (1.5, 2.5)))


def grown(strategy: object, rollouts: int = 6) -> list[RolloutTree]:
    tool = CountTool()
    policy = ScriptedPolicy(player, uncertainty)
    return grow(tool, Plan(strategy, rollouts), policy, prompts=2, seed=7, env=lambda: CountEnv(tool))


def test_what_is_recorded_is_what_the_rule_says():
    ask = EntropyBranching(2, Bernoulli(0.5, 0.2), probe=2)
    assert weighed(ask, POINT, 2) == weighed(ask, POINT, 99)
    assert (weighed(ask, POINT, 2).before, weighed(ask, POINT, 2).after) == (0.5, 1.5)
    assert weighed(ask, POINT, 2).probability == pytest.approx(0.7), "0.5 + 0.2 (1.5 − 0.5)"
    assert weighed(replace(ask, rule=Threshold(0.6)), POINT, 2).probability == 1.0
    assert weighed(replace(ask, rule=Threshold(0.8)), POINT, 2).probability == 0.0
    balanced = BalancedBranching(Bernoulli(0.5, 0.2), penalty=0.05, probe=2)
    assert weighed(balanced, POINT, 2).probability == pytest.approx(0.63), "0.7 (1 − 0.05 · 2)"
    assert weighed(balanced, replace(POINT, key=(0, 0)), 2).probability == 0.0, "the watched path never forks"
    assert weighed(RandomBranching(2, 0.3), POINT, 0).probability == 0.3
    assert [weighed(FixedBranching(2, (n,)), POINT, 0).probability for n in (1, 2)] == [1.0, 0.0]
    reference = weighed(ReferenceBranching(2), POINT, 0)
    assert (reference.before, reference.after) == (0.5, 2.0)
    assert reference.probability == pytest.approx(0.5 + 0.2 * 3.5 / np.log(100)), "it compares sums"


@given(st.floats(-50, 50), st.floats(0, 1), st.floats(-2, 2), st.floats(0, 1), st.integers(0, 99))
def test_a_rule_forks_as_often_as_its_probability_says(change, alpha, beta, factor, seed):
    rule = Bernoulli(alpha, beta)
    drawn = np.random.default_rng(seed).random()
    assert rule.forks(change, np.random.default_rng(seed), factor=factor) == (drawn < rule.probability(change, factor=factor))


def test_every_tool_result_has_its_decision_and_forks_are_those_granted():
    for tree in grown(EntropyBranching(2, Bernoulli(0.5, 0.2), probe=4)):
        for index, node in enumerate(tree.nodes):
            below = [child for child in tree.nodes if child.parent == index]
            if node.decision is None:
                assert node.kind != "observation" or not tree.nodes[node.parent].tool
                continue
            assert node.kind == "observation"
            assert sum(child.origin == "branch" for child in below) == node.decision.granted <= node.decision.asked
        assert any(node.decision is not None and not node.decision.granted for node in tree.nodes)


def test_a_strategy_of_somebody_else_says_nothing_and_its_probe_is_recorded():
    @dataclass(frozen=True)
    class Silent:
        inner: EntropyBranching

        def __getattr__(self, name: str) -> object:
            if name == "weigh":
                raise AttributeError(name)
            return getattr(self.inner, name)

    inner = EntropyBranching(2, Bernoulli(1.0, 0.0), probe=4)
    for told, silent in zip(grown(inner), grown(Silent(inner)), strict=True):
        pairs = list(zip(told.nodes, silent.nodes, strict=True))
        assert all((a.decision is None) == (b.decision is None) for a, b in pairs)
        assert {a.decision._replace(probability=None) == b.decision for a, b in pairs if a.decision and b.decision} == {True}


def test_what_grows_trees_afterwards_considers_nothing_at_results():
    for name in ("grpo", "tree_grpo", "tree_rl"):
        assert not any(node.decision for tree in trees_of(small(name)) for node in tree.nodes)


def test_decisions_survive_the_file_and_older_files_have_none():
    for tree in grown(RandomBranching(2, 0.5)):
        assert RolloutTree.from_json(tree.to_json()) == tree
    old = [json.loads(line) for line in OLD.read_text(encoding="utf-8").splitlines()]
    assert not any("decision" in node for tree in old for node in tree["nodes"])
    assert all(node.decision is None for node in RolloutTree.from_json(json.dumps(old[0])).nodes)


def test_only_results_of_a_growing_tree_are_decided():
    tree = RolloutTree("t")
    tree.add(Node((), NO_PARENT, 0, "prompt", (1,), (False,), (0.0,), (0.0,)))
    with pytest.raises(ValueError, match="observations of a tree that still grows"):
        tree.decide(0, Decision(None, None, 0.5, 0, 0))


def test_decisions_cost_little_on_disk():
    decision = Decision(0.123456, 1.234567, 0.654321, 1, 1)
    assert len(json.dumps({"decision": decision})) < 100, "a node of 100 tokens may have 1,200 bytes"
