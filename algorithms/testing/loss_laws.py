"""Laws about the loss: what it may depend on, and in which direction it pushes."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from arpo_envs.testing import Finding, SkippedLaw

from ..losses import LossInputs, LossOutput
from .laws import AlgorithmLaw as Law
from .playground import Playground

if TYPE_CHECKING:
    import torch

_ROWS, _TOKENS = 4, 6
_CLOSE = 1e-6


def inputs(ground: Playground, *, drift: float = 0.0, advantage: float = 1.0, reference: float = 0.0) -> LossInputs:
    """Returns a batch in double precision: rows with advantages of both signs, and columns that do not count.

    Args:
        ground: determines what is needed.
        drift: how far the policy has moved since it sampled, nats.
        advantage: what the advantages are multiplied by.
        reference: how far the reference is from the policy, nats.

    Raises:
        SkippedLaw: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise SkippedLaw("torch is not installed") from error
    generator = torch.Generator().manual_seed(7)

    def drawn() -> "torch.Tensor":
        return torch.rand(_ROWS, _TOKENS, generator=generator, dtype=torch.float64)

    logp_BT = -0.5 - 2.0 * drawn()
    moved_BT = drift * (drawn() - 0.5)
    advantage_BT = advantage * torch.tensor([1.0, -0.5, 2.0, -1.5], dtype=torch.float64)[:, None].repeat(1, _TOKENS)
    weight_BT = torch.ones_like(logp_BT)
    weight_BT[:, 2], weight_BT[1, 4:] = 0.0, 0.0
    values, needs = drawn(), ground.algorithm.needs
    return LossInputs(
        (logp_BT + moved_BT).requires_grad_(),
        logp_BT,
        advantage_BT,
        weight_BT,
        logp_BT + moved_BT + reference if "reference" in needs else None,
        values.clone().requires_grad_() if "values" in needs else None,
        values if "values" in needs else None,
        values + 0.5 if "values" in needs else None,
    )


def gradients(ground: Playground, given: LossInputs) -> tuple["torch.Tensor", "torch.Tensor | None"]:
    """Returns the gradient of a loss's weighted sum with respect to log-probabilities and to values, [B, T] each."""
    (ground.algorithm.loss(given).loss_BT * given.weight_BT).sum().backward()  # type: ignore[no-untyped-call]
    by_logp_BT, by_value_BT = given.logp_BT.grad, given.value_BT.grad if given.value_BT is not None else None
    return given.logp_BT.detach() * 0.0 if by_logp_BT is None else by_logp_BT, by_value_BT


def loss(ground: Playground) -> Iterator[Finding]:
    """Shapes, finite numbers, a gradient; also where the policy has moved far."""
    hint = "Return LossOutput(loss_BT, metrics) without summing anything: the learner weights and divides."
    for drift in (0.0, 0.3, 20.0):
        given = inputs(ground, drift=drift)
        output = ground.algorithm.loss(given)
        if not isinstance(output, LossOutput):
            yield Finding(Law.LOSS, f"the loss returned {type(output).__name__}", "a LossOutput", hint)
            return
        for name, value in {"loss_BT": output.loss_BT, **output.metrics}.items():
            if value.shape != given.logp_BT.shape:
                yield Finding(Law.LOSS, f"{name} has the shape {tuple(value.shape)}", f"{(_ROWS, _TOKENS)}", hint)
                return
        if not output.loss_BT.isfinite().all():
            happened = f"the loss is not finite where log-probabilities moved by up to {drift / 2:g} nats"
            yield Finding(Law.LOSS, happened, "finite numbers", "Bound ratios before they are multiplied.")
        if not output.loss_BT.requires_grad:
            hint = "Use logp_BT, which carries the gradient; detach() and item() cut it off."
            yield Finding(Law.LOSS, "the loss has no gradient", "one in logp_BT", hint)
            return
    yield from _far(ground)


def _far(ground: Playground) -> Iterator[Finding]:
    """Single precision, in which e^89 overflows, and a token that learner or reference consider impossible."""
    import torch

    hint = (
        "Form ratios with losses.bounded(losses.difference(new, old)).exp(): one token must not spoil the gradient of a batch."
    )
    for nats in (120.0, -120.0, 1000.0, -1000.0, -torch.inf):
        for which in ("logp_BT", "reference_logp_BT"):
            given = _in_single_precision(inputs(ground))
            moved_BT = getattr(given, which)
            if moved_BT is None:
                continue
            moved_BT = moved_BT.detach().clone()
            moved_BT[:, 0] += nats
            given = replace(given, **{which: moved_BT.requires_grad_(which == "logp_BT")})
            value_BT = ground.algorithm.loss(given).loss_BT.detach()
            if not gradients(ground, given)[0].isfinite().all() or (nats > -torch.inf and not value_BT.isfinite().all()):
                whose = "the policy's" if which == "logp_BT" else "the reference's"
                happened = f"loss or gradient is not finite where {whose} log-probability of a token moved by {nats:g} nats"
                yield Finding(Law.LOSS, happened, "finite numbers in float32", hint)
                return


def _in_single_precision(given: LossInputs) -> LossInputs:
    return _changed(given, lambda one_BT: one_BT.detach().float().requires_grad_(one_BT.requires_grad))


def direction(ground: Playground) -> Iterator[Finding]:
    """On the policy's own samples, the sum of each row's gradient."""
    given = inputs(ground)
    by_logp_BT, _ = gradients(ground, given)
    for slope, advantage in zip(by_logp_BT.sum(dim=1).tolist(), given.advantage_BT[:, 0].tolist(), strict=True):
        if (advantage > 0 and not slope < 0) or (advantage < 0 and slope < 0):
            happened = f"where the advantage is {advantage:g}, the slope of the loss in the log-probability is {slope:.3g}"
            expected = "below 0: the loss is minimised" if advantage > 0 else "0 or above"
            yield Finding(Law.DIRECTION, happened, expected, "Is a minus sign missing, or was logp_BT detached?")


def silent(ground: Playground) -> Iterator[Finding]:
    """All advantages 0, and a reference equal to the policy."""
    by_logp_BT, _ = gradients(ground, inputs(ground, advantage=0.0))
    worst = float(by_logp_BT.detach().abs().max())
    if worst > _CLOSE:
        hint = "Terms without advantages are the learner's entropy_bonus, or a KL penalty to the reference."
        yield Finding(Law.SILENT, f"without advantage the slope is up to {worst:.3g}", "0", hint)


def rows(ground: Playground) -> Iterator[Finding]:
    """Row by row, with more padding, and with different numbers where nothing counts."""
    whole = inputs(ground, drift=0.3)  # without torch, this skips the law
    import torch

    counts_BT = whole.weight_BT > 0
    wanted_BT = ground.algorithm.loss(whole).loss_BT
    alone = [ground.algorithm.loss(_changed(whole, lambda x, i=i: x[i : i + 1])).loss_BT for i in range(_ROWS)]
    noise_BT = torch.where(counts_BT, 0.0, -3.0)
    cases = {
        "computed row by row": torch.cat(alone),
        "padded": ground.algorithm.loss(_changed(whole, lambda x: torch.nn.functional.pad(x, (0, 3)))).loss_BT[:, :_TOKENS],
        "given other log-probabilities where the weight is 0": ground.algorithm.loss(
            replace(whole, logp_BT=whole.logp_BT + noise_BT)
        ).loss_BT,
    }
    for what, seen_BT in cases.items():
        worst = float((seen_BT - wanted_BT).detach()[counts_BT].abs().max())
        if worst > _CLOSE:
            happened = f"the loss of a token changed by up to {worst:.3g} when the batch was {what}"
            hint = "Sum over a row only with weight_BT, never over rows: memory decides how a batch is cut into micro-batches."
            yield Finding(Law.ROWS, happened, "the same loss", hint)


def _changed(whole: LossInputs, change: Any) -> LossInputs:
    values: dict[str, Any] = {one.name: getattr(whole, one.name) for one in fields(whole)}
    changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in values.items()}
    return LossInputs(**changed)


def needs(ground: Playground) -> Iterator[Finding]:
    """What is computed for the algorithm changes its result."""
    algorithm = ground.algorithm
    if not algorithm.needs:
        raise SkippedLaw("it needs nothing besides log-probabilities")
    near, far = (gradients(ground, inputs(ground, drift=0.3, reference=reference)) for reference in (0.0, 0.7))
    if "reference" in algorithm.needs and (near[0] - far[0]).abs().max() <= _CLOSE:
        trees = ground.batches[0]
        one, other = (algorithm.credit(trees, ground.scores(trees, reference=x)) for x in (0.0, 0.7))
        rows = [(a, b) for pair in zip(one.advantages, other.advantages, strict=True) for a, b in zip(*pair, strict=True)]
        if all(abs(a - b).max(initial=0.0) <= _CLOSE for a, b in rows):
            happened = "neither credit nor loss changed with the reference's log-probabilities"
            yield Finding(Law.NEEDS, happened, "a use for them", "Leave 'reference' out of needs: it costs a second model.")
    if "values" in algorithm.needs and (near[1] is None or near[1].abs().max() <= _CLOSE):
        hint = "Train the head in the loss (see losses.value), or leave 'values' out of needs."
        yield Finding(Law.NEEDS, "the loss has no gradient in value_BT", "one: nothing else trains the value head", hint)
