"""Named algorithms: the published numbers, the same code beneath, and mistakes that are told."""

import inspect

import pytest
from rollout_toys import Plan, calls_then_answer, grow, varied

import algorithms
from algorithms import Algorithm, make, names
from algorithms.advantages.hard import HardAttribution
from algorithms.advantages.soft import SoftAttribution
from algorithms.branching import Bernoulli, BranchingStrategy, EntropyBranching, NoBranching, RandomBranching, Threshold
from algorithms.losses.clip import ClipLoss
from algorithms.metrics import fork_depths, summarise
from arpo_envs.errors import ConfigError


def test_names() -> None:
    assert {"arpo", "grpo", "random_branching"} <= set(names())
    assert names() == sorted(names())


def test_the_published_numbers_are_the_defaults() -> None:
    arpo = make("arpo")
    assert arpo.branching == EntropyBranching(8, Bernoulli(0.5, 0.2), probe=20, siblings=1, normalisation="nats")
    assert (arpo.rollouts, arpo.aggregation, arpo.needs, arpo.keep) == (16, "token", frozenset(), None)
    assert arpo.advantages == SoftAttribution(shared_once=False)
    assert arpo.loss == ClipLoss(0.2, 0.2, 0.0)
    grpo = make("grpo")
    assert (grpo.branching, grpo.rollouts, grpo.advantages, grpo.loss) == (NoBranching(), 16, arpo.advantages, arpo.loss)
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
    assert make(name, kl=0.1).needs == {"reference"}
    assert make(name, kl=0.0).needs == frozenset()


def test_unknown_names_are_told_the_closest_match() -> None:
    with pytest.raises(ConfigError, match=r"Unknown algorithm 'grp'.*Known: .*arpo.*Did you mean 'grpo'\?"):
        make("grp")


@pytest.mark.parametrize(
    ("name", "option"), [("grpo", "roots"), ("grpo", "probe"), ("random_branching", "beta"), ("arpo", "sibling")]
)
def test_options_that_would_do_nothing_are_refused(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} does nothing with '{option}'"):
        make(name, **{option: 1})


@pytest.mark.parametrize("name", ["arpo", "random_branching"])
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
