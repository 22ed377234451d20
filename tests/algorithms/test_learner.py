"""The learner: exact against naive loops, whatever the micro-batches; in float64, within the rounding measured here."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import tiny_model
from rollout_toys import build, node
from rounding import Numbers, check_equal, rounding, toy_nats

from algorithms import make
from algorithms.advantages import Credit, Scores
from algorithms.advantages.soft import SoftAttribution
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses import LossInputs, LossOutput
from algorithms.losses.clip import ClipLoss
from algorithms.packing.flat import pad, rows_of
from algorithms.rewards import shuffle_rewards
from algorithms.tree import NO_PARENT, RolloutTree, Status
from arpo_envs.errors import ConfigError

pytestmark = pytest.mark.numeric

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


def toy() -> Any:
    return tiny_model(vocabulary=64, dtype=torch.float64)


def learner(
    budget: int = 10**6, *, model: Any = None, temperature: float = 1.0, reference: bool = False, **config: Any
) -> TorchLearner:
    model = toy() if model is None else model
    settings = LearnerConfig(micro_batch_tokens=budget, learning_rate=1e-2, **config)
    return TorchLearner(model, settings, temperature=temperature, reference=reference)


def gradients(model: Any) -> Numbers:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def parameters(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def updated(trees: list[RolloutTree], *, budget: int = 10**6, loss: Any = ClipLoss(), aggregation: Any = "token",
            needs: frozenset[str] = NONE, **options: Any) -> tuple[TorchLearner, dict[str, float]]:  # fmt: skip
    trained = learner(budget, reference=bool(needs), gradient_clip=1e9, **options)
    scores = trained.score(trees, needs)
    credit = SoftAttribution()(trees, scores)
    return trained, dict(trained.update(trees, credit, scores, loss, aggregation))


# --- micro-batches -----------------------------------------------------------------------------------------


@pytest.mark.turns("aggregation")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_micro_batches_change_nothing(trees: list[RolloutTree], aggregation: str, kl: float, dtype: torch.dtype) -> None:
    needs = frozenset({"reference"}) if kl else NONE

    def run(model: Any, budget: int) -> Numbers:
        trained, metrics = updated(
            trees, model=model, budget=budget, loss=ClipLoss(kl=kl), aggregation=aggregation, needs=needs
        )
        del metrics["sharing_ratio"]  # that one does depend on what fits into a micro-batch
        # AdamW makes steps of float32's noise; in float64 its epsilon is above the noise
        moved = dict(trained.model.named_parameters(prefix="moved")) if dtype == torch.float64 else {}
        return gradients(trained.model) | moved | {name: torch.tensor(value, dtype=dtype) for name, value in metrics.items()}

    model = tiny_model(vocabulary=64, dtype=dtype)
    one = run(copy.deepcopy(model), 1)
    rounded = rounding(lambda moved: run(moved, 1), model)
    for budget in (64, 10**6):
        check_equal(one, run(copy.deepcopy(model), budget), rounded)


# --- against naive loops -----------------------------------------------------------------------------------


CAP = 1.3


def naive(
    model: Any,
    trees: list[RolloutTree],
    aggregation: str,
    temperature: float = 1.0,
    importance: str = "none",
) -> Numbers:
    """The gradient, path by path and token by token, on a model without batches."""
    credit = SoftAttribution()(trees, Scores())
    terms, counts = [], []
    for row in rows_of(trees, credit):
        ids = torch.tensor(row.tokens)
        logits = model(input_ids=ids[None]).logits[0] / temperature
        counted = [t for t in range(1, len(ids)) if row.weight[t] > 0]
        logps = [torch.log_softmax(logits[t - 1], -1)[ids[t]] for t in counted]
        apart = [float(logp.detach()) - float(row.behaviour_logp[t]) for t, logp in zip(counted, logps, strict=True)]
        losses = []
        for t, logp, difference in zip(counted, logps, apart, strict=True):
            advantage = float(row.advantage[t])
            if importance == "none":
                ratio = (logp - float(row.behaviour_logp[t])).exp()
                losses.append(-torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage))
            else:  # at the weights that begin the update, the slope of the ratio is that of the log-probability
                exponent = difference if importance == "token" else sum(apart)
                losses.append(-min(math.exp(exponent), CAP) * advantage * logp)
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


@pytest.mark.turns("aggregation")
@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("importance", ["none", "token", "sequence"])
def test_the_gradient_is_that_of_a_naive_loop(
    trees: list[RolloutTree], aggregation: str, temperature: float, importance: str
) -> None:
    trained, metrics = updated(
        trees, aggregation=aggregation, temperature=temperature, importance=importance, importance_cap=CAP
    )

    def compute(model: Any) -> Numbers:
        gradient = naive(model, trees, aggregation, temperature, importance)
        return {**gradient, "norm": torch.stack([one.norm() for one in gradient.values()]).norm()}

    wanted = compute(toy())
    assert max(float(one.abs().max()) for one in wanted.values()) > 1e-4
    norm = torch.tensor(metrics["gradient_norm"], dtype=torch.float64)
    check_equal({**gradients(trained.model), "norm": norm}, wanted, rounding(compute, toy()))


def test_rows_that_are_skipped_would_have_added_nothing(trees: list[RolloutTree]) -> None:
    trained, metrics = updated(trees)
    assert metrics["skipped_rows"] == 4.0, "the equal group, and the leaf whose reward is its group's mean"
    scores = Scores()
    credit = SoftAttribution()(trees, scores)
    tiny = Credit(tuple(tuple(a + 1e-30 for a in rows) for rows in credit.advantages), credit.weights)

    def compute(model: Any) -> Numbers:
        everything = learner(model=model, gradient_clip=1e9)
        all_rows = everything.update(trees, tiny, scores, ClipLoss(), "token")
        assert all_rows["skipped_rows"] == 0.0
        return gradients(everything.model)

    check_equal(gradients(trained.model), compute(toy()), rounding(compute, toy()))


def test_a_batch_that_teaches_nothing_moves_nothing() -> None:
    flat = [random_tree(np.random.default_rng(0), (1.0, 1.0, 1.0))]
    before = parameters(toy())
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
    rounded = rounding(lambda model: gradients(updated(trees, model=model)[0].model), toy())
    poisoned, scores = learner(gradient_clip=1e9), Scores()
    credit = SoftAttribution()(trees, scores)
    bad = [
        [np.where(w > 0, a, 1e3) for a, w in zip(*pair, strict=True)]
        for pair in zip(credit.advantages, credit.weights, strict=True)
    ]
    poisoned.update(trees, Credit(tuple(map(tuple, bad)), credit.weights), scores, ClipLoss(), "token")
    check_equal(gradients(poisoned.model), gradients(clean.model), rounded)


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
    model = toy()
    trained = learner(budget, model=copy.deepcopy(model), reference=True, temperature=0.7)
    credit = SoftAttribution()(trees, Scores())
    trained.update(trees, credit, Scores(), ClipLoss(), "token")  # the trained model moves away
    scores = trained.score(trees, frozenset({"reference"}))
    assert scores.reference is not None
    for tree, rows in zip(trees, scores.reference, strict=True):
        for leaf, row in zip(tree.leaves(), rows, strict=True):
            ids = torch.tensor([tree.tokens(leaf)])
            wanted = torch.log_softmax(model(input_ids=ids).logits[0, :-1] / 0.7, -1).gather(1, ids[0, 1:, None])[:, 0]
            sampled = [s for n, stop in tree.path(leaf) for s in tree.nodes[n].sampled[:stop]]
            mine = [p for p, drawn in zip(row, sampled, strict=True) if drawn]
            theirs = [p for p, drawn in zip(wanted.tolist(), sampled[1:], strict=True) if drawn]
            assert mine == pytest.approx(theirs, abs=toy_nats(temperature=0.7))


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
    assert first["reference_kl"] == pytest.approx(0.0, abs=toy_nats()), "reference and model are the same"


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


@pytest.mark.parametrize("older", [False, True])
def test_state_goes_on_exactly(older: bool, trees: list[RolloutTree], tmp_path: Path) -> None:
    credit = SoftAttribution()(trees, Scores())
    through = learner()
    for _ in range(4):
        through.update(trees, credit, Scores(), ClipLoss(), "token")
    first = learner()
    for _ in range(2):
        first.update(trees, credit, Scores(), ClipLoss(), "token")
    second = learner()
    second.model.load_state_dict(first.weights())
    if older:  # as it once was saved
        counts = [first._updates, first._batches, first._bad]
        state = {"reference": None, "value_head": None, "adapters": {}, "optimizer": first.optimizer.state_dict()}
        torch.save(state | {"counts": counts}, tmp_path / "learner.pt")
    else:
        first.save(tmp_path / "learner")
    second.load(tmp_path / "learner")
    for _ in range(2):
        second.update(trees, credit, Scores(), ClipLoss(), "token")
    assert torch.equal(parameters(second.model), parameters(through.model))


def test_gradients_are_clipped(trees: list[RolloutTree]) -> None:
    trained = learner(gradient_clip=1e-3)
    metrics = trained.update(trees, SoftAttribution()(trees, Scores()), Scores(), ClipLoss(), "token")
    assert metrics["gradient_norm"] > 1e-3
    clipped = torch.cat([gradient.flatten() for gradient in gradients(trained.model).values()]).norm()
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3), "torch adds 1e-6 to the norm it divides by"


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
