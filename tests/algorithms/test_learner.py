"""The learner: exact against naive loops, whatever the micro-batches."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import tiny_model
from rollout_toys import build, node

from algorithms import make
from algorithms.advantages import Credit, Scores
from algorithms.advantages.soft import SoftAttribution
from algorithms.controls import shuffle_rewards
from algorithms.flat import pad, rows_of
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses import LossInputs, LossOutput
from algorithms.losses.clip import ClipLoss
from algorithms.mismatch import TruncatedImportanceSampling
from algorithms.tree import NO_PARENT, RolloutTree, Status
from arpo_envs.errors import ConfigError

DONE, E = Status.ANSWERED, "observation"
NONE: frozenset[str] = frozenset()


def random_tree(rng: np.random.Generator, rewards: Sequence[float] = (1.0, 0.0, 2.0), scale: int = 8) -> RolloutTree:
    """One call shared by two leaves and a leaf of its own, tokens and lengths drawn."""

    def drawn(n: int) -> list[int]:
        return rng.integers(0, 60, size=n).tolist()

    sizes = rng.integers(2, scale, size=5).tolist()
    tree = build(
        node((), NO_PARENT, drawn(4)),
        node((0,), 0, drawn(sizes[0]), tool="count", reward=0.0),
        node((0, 0), 1, drawn(sizes[1]), kind=E),
        node((0, 0, 0), 2, drawn(sizes[2]), status=DONE, reward=rewards[0]),
        node((0, 0, 1), 2, drawn(sizes[3]), status=DONE, reward=rewards[1]),
        node((1,), 0, drawn(sizes[4]), status=DONE, reward=rewards[2]),
    )
    for i, n in enumerate(tree.nodes):  # log-probabilities of another policy, so that ratios differ from 1
        tree.nodes[i] = replace(n, logprobs=tuple(rng.normal(-4.0, 0.3, len(n.tokens)) * n.sampled[0]))
    return tree


@pytest.fixture
def trees() -> list[RolloutTree]:
    rng = np.random.default_rng(0)
    return [random_tree(rng), random_tree(rng, (0.5, 0.5, -1.0), 20), random_tree(rng, (1.0, 1.0, 1.0))]


def learner(budget: int = 10**6, *, temperature: float = 1.0, reference: bool = False, **config: Any) -> TorchLearner:
    model = tiny_model(vocabulary=64)
    settings = LearnerConfig(token_budget=budget, learning_rate=1e-2, **config)
    return TorchLearner(model, settings, temperature=temperature, reference=reference)


def gradients(model: Any) -> torch.Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])


def parameters(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def updated(trees: list[RolloutTree], *, budget: int = 10**6, loss: Any = ClipLoss(), aggregation: Any = "token",
            needs: frozenset[str] = NONE, **options: Any) -> tuple[TorchLearner, dict[str, float]]:  # fmt: skip
    trained = learner(budget, reference=bool(needs), gradient_clip=1e9, **options)
    scores = trained.score(trees, needs)
    credit = SoftAttribution()(trees, scores)
    return trained, dict(trained.update(trees, credit, scores, loss, aggregation))


# --- micro-batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_micro_batches_change_nothing(trees: list[RolloutTree], aggregation: str, kl: float) -> None:
    needs = frozenset({"reference"}) if kl else NONE
    runs = [
        updated(trees, budget=budget, loss=ClipLoss(kl=kl), aggregation=aggregation, needs=needs) for budget in (1, 64, 10**6)
    ]
    for other, metrics in runs[1:]:
        assert (gradients(other.model) - gradients(runs[0][0].model)).abs().max() < 3e-6  # float32, gradients up to 0.3
        assert (parameters(other.model) - parameters(runs[0][0].model)).abs().max() < 1e-4  # Adam divides tiny by tiny
        same = {"sharing_ratio": 0.0}  # that one does depend on what fits into a micro-batch
        assert metrics | same == pytest.approx(runs[0][1] | same, abs=1e-5)


# --- against naive loops -----------------------------------------------------------------------------------


TOKEN, SEQUENCE = TruncatedImportanceSampling(cap=1.3), TruncatedImportanceSampling("sequence", cap=1.3)


def naive(
    trees: list[RolloutTree], aggregation: str, temperature: float = 1.0, correction: TruncatedImportanceSampling | None = None
) -> torch.Tensor:
    """The gradient, path by path and token by token, on a model without batches."""
    model = tiny_model(vocabulary=64)
    credit = SoftAttribution()(trees, Scores())
    terms, counts = [], []
    for row in rows_of(trees, credit):
        ids = torch.tensor(row.tokens)
        logits = model(input_ids=ids[None]).logits[0].float() / temperature
        counted = [t for t in range(1, len(ids)) if row.weight[t] > 0]
        logps = [torch.log_softmax(logits[t - 1], -1)[ids[t]] for t in counted]
        apart = [float(logp.detach()) - float(row.behaviour_logp[t]) for t, logp in zip(counted, logps, strict=True)]
        losses = []
        for t, logp, difference in zip(counted, logps, apart, strict=True):
            advantage = float(row.advantage[t])
            if correction is None:
                ratio = (logp - float(row.behaviour_logp[t])).exp()
                losses.append(-torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage))
            else:  # at the weights that begin the update, the slope of the ratio is that of the log-probability
                exponent = difference if correction.level == "token" else sum(apart)
                losses.append(-min(math.exp(exponent), correction.cap) * advantage * logp)
        if losses:
            terms.append(torch.stack(losses).sum())
            counts.append(len(losses))
    total = (
        sum(terms) / sum(counts)
        if aggregation == "token"
        else sum(t / n for t, n in zip(terms, counts, strict=True)) / len(terms)
    )
    total.backward()  # type: ignore[union-attr]
    return gradients(model)


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("correction", [None, TOKEN, SEQUENCE], ids=["to the sampler", "token", "sequence"])
def test_the_gradient_is_that_of_a_naive_loop(
    trees: list[RolloutTree], aggregation: str, temperature: float, correction: TruncatedImportanceSampling | None
) -> None:
    trained, metrics = updated(trees, aggregation=aggregation, temperature=temperature, correction=correction)
    wanted = naive(trees, aggregation, temperature, correction)
    largest = float(wanted.abs().max())
    assert largest > 1e-4
    assert (gradients(trained.model) - wanted).abs().max() < min(1e-5, 1e-2 * largest)
    assert metrics["gradient_norm"] == pytest.approx(float(wanted.norm()), rel=1e-4)


def test_rows_that_are_skipped_would_have_added_nothing(trees: list[RolloutTree]) -> None:
    trained, metrics = updated(trees)
    assert metrics["skipped_rows"] == 4.0, "the equal group, and the leaf whose reward is its group's mean"

    def unskippable(inputs: LossInputs) -> LossOutput:
        return ClipLoss()(inputs)

    everything, scores = learner(gradient_clip=1e9), Scores()
    credit = SoftAttribution()(trees, scores)
    tiny = Credit(tuple(tuple(a + 1e-30 for a in rows) for rows in credit.advantages), credit.weights)
    all_rows = everything.update(trees, tiny, scores, unskippable, "token")
    assert all_rows["skipped_rows"] == 0.0
    assert (gradients(everything.model) - gradients(trained.model)).abs().max() < 1e-6


def test_a_batch_that_teaches_nothing_moves_nothing() -> None:
    flat = [random_tree(np.random.default_rng(0), (1.0, 1.0, 1.0))]
    before = parameters(tiny_model(vocabulary=64))
    trained, metrics = updated(flat)
    assert torch.equal(parameters(trained.model), before)
    assert (metrics["gradient_norm"], metrics["skipped_rows"]) == (0.0, 3.0)


# --- the mask ----------------------------------------------------------------------------------------------


def test_prompt_and_observation_tokens_get_no_gradient(trees: list[RolloutTree]) -> None:
    seen: list[LossInputs] = []

    def spy(inputs: LossInputs) -> LossOutput:
        inputs.logp_BT.retain_grad()
        seen.append(inputs)
        return ClipLoss()(inputs)

    trained = learner()
    credit = SoftAttribution()(trees[:1], Scores())
    trained.update(trees[:1], credit, Scores(), spy, "token")
    lines = {}
    for inputs in seen:
        assert inputs.logp_BT.grad is not None
        for weight, slope in zip(inputs.weight_BT, inputs.logp_BT.grad, strict=True):
            assert not slope[weight == 0].any()
            lines[tuple(weight.tolist())] = slope
    rows = rows_of(trees[:1], credit)
    sampled = [[s for n, stop in trees[0].path(leaf) for s in trees[0].nodes[n].sampled[:stop]] for leaf in trees[0].leaves()]
    assert [(row.weight > 0).tolist() for row in rows] == sampled


def test_what_stands_where_nothing_was_sampled_does_not_matter(trees: list[RolloutTree]) -> None:
    """Poisoned advantages and log-probabilities under the mask leave the gradient alone."""
    clean, _ = updated(trees)
    poisoned, scores = learner(gradient_clip=1e9), Scores()
    credit = SoftAttribution()(trees, scores)
    bad = [
        [np.where(w > 0, a, 1e3) for a, w in zip(*pair, strict=True)]
        for pair in zip(credit.advantages, credit.weights, strict=True)
    ]
    poisoned.update(trees, Credit(tuple(map(tuple, bad)), credit.weights), scores, ClipLoss(), "token")
    assert (gradients(poisoned.model) - gradients(clean.model)).abs().max() < 1e-6


def test_padding_is_weightless_and_position_zero_too(trees: list[RolloutTree]) -> None:
    credit = SoftAttribution()(trees, Scores())
    ones = Credit(credit.advantages, tuple(tuple(np.ones_like(w) for w in rows) for rows in credit.weights))
    rows = rows_of(trees, ones)
    batch = pad(rows, torch.device("cpu"))
    assert batch.ids_BT.shape == (9, max(len(r.tokens) for r in rows))
    for line, row in zip(batch.weight_BT, rows, strict=True):
        assert line[0] == 0
        assert line[1 : len(row.tokens)].all()
        assert not line[len(row.tokens) :].any()


def test_credit_must_fit_the_trees(trees: list[RolloutTree]) -> None:
    credit = SoftAttribution()(trees[:2], Scores())
    with pytest.raises(ValueError, match="Tree 0 has 3 leaves, credit has 2"):
        rows_of(trees[:1], Credit((credit.advantages[0][:2],), (credit.weights[0][:2],)))


# --- reference ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 10**6])
def test_reference_scores_are_the_initial_models(trees: list[RolloutTree], budget: int) -> None:
    trained = learner(budget, reference=True, temperature=0.7)
    credit = SoftAttribution()(trees, Scores())
    trained.update(trees, credit, Scores(), ClipLoss(), "token")  # the trained model moves away
    scores = trained.score(trees, frozenset({"reference"}))
    assert scores.reference is not None
    model = tiny_model(vocabulary=64)
    for tree, rows in zip(trees, scores.reference, strict=True):
        for leaf, row in zip(tree.leaves(), rows, strict=True):
            ids = torch.tensor([tree.tokens(leaf)])
            wanted = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float() / 0.7, -1).gather(1, ids[0, 1:, None])[:, 0]
            sampled = [s for n, stop in tree.path(leaf) for s in tree.nodes[n].sampled[:stop]]
            mine = [p for p, drawn in zip(row, sampled, strict=True) if drawn]
            assert mine == pytest.approx([p for p, drawn in zip(wanted.tolist(), sampled[1:], strict=True) if drawn], abs=1e-4)


def test_at_kl_zero_the_reference_never_runs(trees: list[RolloutTree], monkeypatch: pytest.MonkeyPatch) -> None:
    trained = learner(reference=True)
    assert trained.reference is not None
    monkeypatch.setattr(trained.reference, "forward", lambda *a, **k: pytest.fail("the reference ran"))
    algorithm = make("arpo", kl=0.0)
    assert trained.score(trees, algorithm.needs) == Scores()
    credit = algorithm.advantages(trees, Scores())
    trained.update(trees, credit, Scores(), algorithm.loss, algorithm.aggregation)


def test_a_reference_that_was_not_kept_is_asked_for(trees: list[RolloutTree]) -> None:
    with pytest.raises(ConfigError, match="reference=True"):
        learner().score(trees, frozenset({"reference"}))


def test_a_penalty_trains_rows_without_advantage() -> None:
    flat = [random_tree(np.random.default_rng(0), (1.0, 1.0, 1.0))]
    _, first = updated(flat, loss=ClipLoss(kl=0.1), needs=frozenset({"reference"}))
    assert first["skipped_rows"] == 0.0
    assert first["reference_kl"] == pytest.approx(0.0, abs=1e-6)


def test_prompts_that_never_began_are_scored_and_skipped(trees: list[RolloutTree]) -> None:
    empty = build(node((), NO_PARENT, []), *(node((i,), 0, [], status=Status.TOOL_FAULT) for i in range(3)))
    for budget in (1, 10**6):
        trained = learner(budget, reference=True)
        scores = trained.score([empty, *trees], frozenset({"reference"}))
        credit = SoftAttribution()([empty, *trees], scores)
        metrics = trained.update([empty, *trees], credit, scores, ClipLoss(kl=0.1), "token")
        assert metrics["skipped_rows"] == 3.0
        assert np.isfinite(list(metrics.values())).all()


# --- state -------------------------------------------------------------------------------------------------


def test_training_needs_a_temperature() -> None:
    with pytest.raises(ConfigError, match="temperature above 0"):
        learner(temperature=0.0)


def test_state_goes_on_exactly(trees: list[RolloutTree]) -> None:
    credit = SoftAttribution()(trees, Scores())
    through = learner()
    for _ in range(4):
        through.update(trees, credit, Scores(), ClipLoss(), "token")
    first = learner()
    for _ in range(2):
        first.update(trees, credit, Scores(), ClipLoss(), "token")
    second = learner()
    second.model.load_state_dict(first.weights())
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.update(trees, credit, Scores(), ClipLoss(), "token")
    assert torch.equal(parameters(second.model), parameters(through.model))


def test_gradients_are_clipped(trees: list[RolloutTree]) -> None:
    trained = learner(gradient_clip=1e-3)
    metrics = trained.update(trees, SoftAttribution()(trees, Scores()), Scores(), ClipLoss(), "token")
    assert metrics["gradient_norm"] > 1e-3
    assert float(gradients(trained.model).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_shuffled_rewards_are_the_same_rewards_elsewhere(trees: list[RolloutTree]) -> None:
    failed = random_tree(np.random.default_rng(5), (4.0, 5.0, 6.0))
    at = failed.leaves()[1]
    failed.nodes[at] = replace(failed.nodes[at], status=Status.TOOL_FAULT, reward=None)
    shuffled = shuffle_rewards([*trees, failed], np.random.default_rng(0))

    def ends(some: list[RolloutTree]) -> list[float | None]:
        return [t.nodes[leaf].reward for t in some for leaf in t.leaves()]

    before, after = ends([*trees, failed]), ends(shuffled)
    assert sorted(x for x in after if x is not None) == sorted(x for x in before if x is not None)
    assert after != before
    assert shuffled[3].nodes[at].reward is None, "a path that failed has no reward to give or take"
    assert all(t.frozen for t in shuffled)
