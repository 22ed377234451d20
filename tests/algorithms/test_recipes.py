"""Named algorithms: the published numbers, the same code beneath, and mistakes that are told."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import pytest
from rollout_toys import Plan, calls_then_answer, grow, varied

import algorithms
from algorithms import Algorithm, make, names
from algorithms.advantages.entropy_aware import EntropyAware
from algorithms.advantages.gae import GeneralisedAdvantage
from algorithms.advantages.gigpo import GroupInGroup
from algorithms.advantages.hard import HardAttribution
from algorithms.advantages.soft import SoftAttribution
from algorithms.branching import Bernoulli, BranchingStrategy, EntropyBranching, NoBranching, RandomBranching, Threshold
from algorithms.branching.balanced import BalancedBranching
from algorithms.branching.entropy_tree import EntropyTree
from algorithms.branching.expansion import RandomExpansion
from algorithms.branching.segments import SegmentBranching
from algorithms.cli.docstrings import argument_docs, first_sentence
from algorithms.losses.clip import ClipLoss
from algorithms.losses.gspo import SequenceClipLoss
from algorithms.metrics import fork_depths, summarise
from algorithms.options import accepts
from algorithms.recipes import recipe
from algorithms.rewards import OverlongPenalty
from arpo_envs.errors import ConfigError


def test_names() -> None:
    wanted = "aepo arpo cispo dapo dr_grpo fixed_branching gigpo grpo gspo ppo random_branching reinforce_plus_plus"
    wanted += " reinforce_plus_plus_baseline rloo spo_tree tree_grpo tree_po tree_rl"
    assert names() == wanted.split()


def test_the_published_numbers_are_the_defaults() -> None:
    arpo = make("arpo")
    assert arpo.branching == EntropyBranching(8, Bernoulli(0.5, 0.2), probe=20, siblings=1, normalisation="nats")
    assert (arpo.rollouts, arpo.aggregation, arpo.needs, arpo.keep) == (16, "token", frozenset(), None)
    assert arpo.advantages == SoftAttribution(shared_once=False)
    assert arpo.loss == ClipLoss(0.2, 0.2, 0.0)
    grpo = make("grpo")
    assert (grpo.branching, grpo.rollouts, grpo.advantages, grpo.loss) == (NoBranching(), 16, arpo.advantages, arpo.loss)
    assert make("aepo").branching == BalancedBranching(Bernoulli(0.5, 0.2), balance=0.5, penalty=0.05, probe=20)
    assert make("aepo").advantages == EntropyAware(0.2)
    assert (make("dapo").loss, make("dapo").rollouts) == (ClipLoss(0.2, 0.28), 16)
    assert make("dapo").reward_terms == (OverlongPenalty(20480, 4096),)
    assert (make("dr_grpo").rollouts, make("dr_grpo").aggregation) == (8, 3000)
    assert (make("gspo").loss, make("gspo").aggregation) == (SequenceClipLoss(3e-4, 4e-4), "sequence")
    assert (make("gigpo").rollouts, make("gigpo").advantages) == (8, GroupInGroup(1.0, 0.95, "none"))
    assert (make("tree_grpo").rollouts, make("tree_grpo").branching) == (6, RandomExpansion(2, picks=2))
    assert (make("tree_rl").rollouts, make("tree_rl").branching) == (30, EntropyTree(6, places=2, siblings=2))
    assert make("tree_po").branching == SegmentBranching((2,) * 14, 512, fallback=True)
    assert (make("tree_po").rollouts, make("tree_po").loss) == (16, ClipLoss(0.2, 0.28, dual=10.0))
    assert (make("spo_tree").rollouts, make("spo_tree").branching) == (216, SegmentBranching((6, 6, 6), 30))
    assert make("ppo").advantages == GeneralisedAdvantage(1.0, 0.95)
    control = make("random_branching")
    assert control.branching == RandomBranching(8, probability=0.5, siblings=1)
    assert (control.rollouts, control.advantages, control.loss) == (arpo.rollouts, arpo.advantages, arpo.loss)


def test_every_option_does_what_it_says() -> None:
    arpo = make("arpo", rollouts=6, roots=2, probe=4, siblings=3, alpha=0.1, beta=0.7, tau=0.4, normalisation="vocabulary",
                attribution="hard", shared_once=True, clip=0.3, kl=0.01)  # fmt: skip
    assert arpo.branching == EntropyBranching(2, Threshold(0.4, 0.1, 0.7), 4, 3, "vocabulary")
    assert arpo.advantages == HardAttribution(shared_once=True)
    assert arpo.loss == ClipLoss(0.3, 0.3, 0.01)
    assert arpo.needs == {"reference"}


@pytest.mark.parametrize("name", names())
def test_recipes_are_values_with_sources(name: str) -> None:
    algorithm = make(name)
    assert isinstance(algorithm, Algorithm)
    assert algorithm == make(name)
    assert algorithm.name == name
    assert "arXiv" in algorithm.source
    assert isinstance(algorithm.branching, BranchingStrategy)
    if "kl" in inspect.signature(recipe(name)).parameters:
        values = {"values"} if name == "ppo" else set()
        assert make(name, kl=0.1).needs == {"reference"} | values
        assert make(name, kl=0.0).needs == values, "no reference model is run for a coefficient of 0"


@pytest.mark.parametrize("name", names())
def test_every_option_is_explained_and_the_first_line_says_what_it_is(name: str) -> None:
    function = recipe(name)
    assert argument_docs(function.__doc__).keys() == inspect.signature(function).parameters.keys()
    assert first_sentence(function.__doc__).startswith("Returns ")
    assert "Source:" in (function.__doc__ or "")
    for option in inspect.signature(function).parameters.values():
        assert option.kind is option.KEYWORD_ONLY
        assert accepts(option.annotation, option.default)


@dataclass(frozen=True)
class Settings:
    size: int = 1


class Makes(Protocol):
    def make(self) -> None: ...


@pytest.mark.parametrize(
    ("annotation", "taken", "refused"),
    [
        (int, 1, True),
        (float, 1, True),
        (float, np.float64(0.5), "0.5"),
        (bool, False, 0),
        (Literal["a", "b"], "a", "c"),
        (tuple[int, ...], (1, 2), (1, 2.5)),
        (tuple[int, float], (1, 2), (1,)),
        (Literal["a"] | tuple[int, ...] | None, None, 2),
        (Settings, Settings(), {"size": 1}),
        (Callable[[int], int], abs, 3),
    ],
)
def test_values_are_taken_as_annotated_and_never_converted(annotation: Any, taken: object, refused: object) -> None:
    assert accepts(annotation, taken)
    assert not accepts(annotation, refused)


@pytest.mark.parametrize("annotation", [Any, inspect.Parameter.empty, "Unknown", Makes])
def test_an_annotation_that_is_not_understood_allows_everything(annotation: Any) -> None:
    assert accepts(annotation, object())


def test_unknown_names_are_told_the_closest_match() -> None:
    with pytest.raises(ConfigError, match=r"Unknown algorithm 'grp'.*Known: .*arpo.*Did you mean 'grpo'\?"):
        make("grp")


@pytest.mark.parametrize(
    ("name", "option"), [("grpo", "roots"), ("grpo", "probe"), ("random_branching", "beta"), ("arpo", "sibling")]
)
def test_options_that_would_do_nothing_are_refused(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} does not take '{option}'"):
        make(name, **{option: 1})


@pytest.mark.parametrize("name", ["arpo", "random_branching", "fixed_branching"])
def test_contradictions_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"roots \(N\) = 9 exceeds rollouts \(M\) = 8"):
        make(name, rollouts=8, roots=9)
    with pytest.raises(ConfigError, match="leaves no budget for forks; that is 'grpo'"):
        make(name, rollouts=8, roots=8)
    with pytest.raises(ConfigError, match="at least 2"):
        make("grpo", rollouts=1)


def test_a_threshold_at_alpha_is_refused_by_the_recipe_too() -> None:
    with pytest.raises(ConfigError, match=r"beta = 0\.2 would do nothing"):
        make("arpo", tau=0.5)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("arpo", {"beta": 0.0}, "that is 'random_branching'"),
        ("arpo", {"beta": 0.0, "implementation": "reference"}, "that is 'random_branching'"),
        ("arpo", {"beta": 0.0, "tau": 0.7}, "that is 'random_branching'"),
        ("aepo", {"gamma": 0.0}, "that is 'random_branching'"),
        ("aepo", {"rollouts": 2}, "one to watch, one root, one fork"),
        ("random_branching", {"probability": 0.0}, "at 0 it is NoBranching"),
        *[
            (name, {"kl": kl}, "at least 0 and finite")
            for name in ("arpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "cispo", "gspo", "ppo")
            for kl in (-0.1, float("inf"), float("nan"))
        ],
        ("reinforce_plus_plus", {"discount": 1.5}, "discount must lie in"),
        ("reinforce_plus_plus", {"discount": -1.0}, "discount must lie in"),
        ("arpo", {"baseline": "leafs"}, "takes baseline = 'leaves' or 'tree' or 'siblings', got 'leafs'"),
        ("arpo", {"attribution": "firm"}, "takes attribution = 'soft' or 'hard'"),
        ("arpo", {"rollouts": "16"}, "takes rollouts = a whole number, got '16'"),
        ("arpo", {"rollouts": True}, "takes rollouts = a whole number"),
        ("arpo", {"aggregation": "mean"}, "takes aggregation = 'token' or 'sequence' or a whole number"),
        ("arpo", {"aggregation": 0}, "a number of tokens to divide every path by, got 0"),
        ("arpo", {"implementation": "reference", "attribution": "hard"}, "does not take tau, normalisation, attribution"),
        ("arpo", {"implementation": "reference", "tau": 0.7}, "leave them out"),
        ("arpo", {"implementation": "reference", "baseline": "siblings"}, "leave them out"),
        ("fixed_branching", {"at": (1.5,)}, "takes at = whole numbers"),
        ("fixed_branching", {"at": ()}, "at must name tool calls"),
        ("dapo", {"overlong": (10, 20)}, "0 < cache <= longest"),
        ("dapo", {"overlong": (10,)}, r"takes overlong = \(a whole number, a whole number\) or None"),
        ("dapo", {"refills": -1}, "refills"),
        ("dr_grpo", {"length": 0}, "number of tokens"),
        ("rloo", {"rollouts": 1}, "compare siblings"),
        ("gigpo", {"step_weight": 0.0}, "without it GiGPO is 'grpo'"),
        ("tree_grpo", {"rollouts": 7}, "cannot be grown evenly"),
        ("tree_rl", {"rollouts": 31}, "cannot be grown evenly"),
        ("tree_po", {"depth": 1}, "two numbers or more"),
        ("spo_tree", {"rollouts": 6}, "spo_tree does not take 'rollouts'"),
        ("spo_tree", {"fan_outs": (6,)}, "two numbers or more"),
        ("ppo", {"rollouts": 0}, "at least 1"),
        ("cispo", {"cap": 0.9}, "floor < 1 < cap"),
        ("gspo", {"level": "path"}, "takes level = 'sequence' or 'token'"),
    ],
)
def test_inert_and_contradictory_settings_are_refused_with_the_reason(name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make(name, **options)


def test_an_algorithm_refuses_what_contradicts_itself() -> None:
    with pytest.raises(ConfigError, match="replaces trees that `keep` drops"):
        replace(make("grpo"), refills=1)
    with pytest.raises(ConfigError, match="needs may name 'reference' and 'values'"):
        replace(make("grpo"), needs=frozenset({"rewards"}))  # type: ignore[arg-type]
    assert make("ppo", rollouts=1).rollouts == make("reinforce_plus_plus").rollouts == 1


def test_lists_are_taken_for_tuples() -> None:
    assert make("fixed_branching", at=[1, 2]).branching.at == (1, 2)  # type: ignore[attr-defined]


def test_public_names_exist() -> None:
    for name in algorithms.__all__:
        assert getattr(algorithms, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = algorithms.nonsense
    assert inspect.iscoroutinefunction(algorithms.collect)


def test_the_three_grow_different_trees_from_the_same_code() -> None:
    trees = {
        name: grow(plan=Plan(make(name, rollouts=16).branching, 16), script=calls_then_answer(3))
        for name in ("arpo", "grpo", "random_branching")
    }  # type: ignore[arg-type]
    told = {name: summarise(some) for name, some in trees.items()}
    assert {name: some["answered"] for name, some in told.items()} == dict.fromkeys(told, 1.0)
    assert told["grpo"]["inherited_tool_calls_per_prompt"] == told["grpo"]["forks_per_prompt"] == 0.0
    assert told["grpo"]["executed_tool_calls_per_prompt"] == 48.0
    for name in ("arpo", "random_branching"):
        m = told[name]
        assert m["executed_tool_calls_per_prompt"] + m["inherited_tool_calls_per_prompt"] == 48.0
        assert m["forks_per_prompt"] + m["backfills_per_prompt"] == 8.0
        assert m["forks_per_prompt"] > 0
        assert set(fork_depths(trees[name])) <= {1, 2, 3}


def test_metrics_of_nothing_are_finite() -> None:
    assert summarise([])["reward"] == 0.0
    assert summarise(grow(script=varied, prompts=2))["answered"] == 1.0
