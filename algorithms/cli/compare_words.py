"""A comparison in words: its table, and what it shows or does not show."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..evaluation import Contrast, interquartile_interval, interquartile_mean, pairs_needed
from .compare_results import SUCCESS, Comparison, Values

LEVEL = 0.05
_UNITS = {"calls": "tool calls", "tokens": "sampled tokens", "seconds": "seconds"}


def markdown(found: Comparison) -> str:
    """Returns the page of a comparison: the verdict, then the table."""
    return "\n".join([*verdict(found), "", *table(found), "", *_notes(found)])


def verdict(found: Comparison) -> list[str]:
    """Returns for each measure what is shown, as Markdown."""
    lines = []
    for name, contrasts in found.contrasts().items():
        lines.append(f"{_title(name, found)}:")
        lines += ["", *(f"- {sentence(one)}" for one in contrasts), ""]
    if warning := too_few(len(found.arms) - 1, len(found.seeds) * len(found.envs)):
        lines.append(warning)
    return lines if lines[-1] else lines[:-1]


def sentence(one: Contrast) -> str:
    """Returns what a contrast shows.

    >>> sentence(Contrast("arpo", "grpo", 0.02, 0.01, 0.03, 0.0156, 0.0312, 7))
    'arpo is above grpo by 0.020 (95% interval 0.010 to 0.030, p = 0.031 after Holm).'
    """
    if one.pairs == 1:
        return f"{one.first} less {one.other} is {_signed(one.difference)} in the only pair of runs, which shows nothing."
    if np.isinf(one.high):
        why = f"one pair of runs in some environment, so no interval; p = {one.adjusted:.3f} after Holm over {one.pairs} pairs"
        return f"{one.first} less {one.other} is {_signed(one.difference)} ({why})."
    if one.adjusted <= LEVEL and not one.low <= 0.0 <= one.high:
        above = one.difference > 0
        ends = sorted(abs(end) for end in (one.low, one.high))
        interval = f"95% interval {ends[0]:.3f} to {ends[1]:.3f}, p = {one.adjusted:.3f} after Holm"
        return f"{one.first} is {'above' if above else 'below'} {one.other} by {abs(one.difference):.3f} ({interval})."
    interval = f"95% interval {_signed(one.low)} to {_signed(one.high)}, p = {one.adjusted:.3f} after Holm"
    return f"No difference between {one.first} and {one.other} is shown: {_signed(one.difference)} ({interval})."


def too_few(comparisons: int, pairs: int) -> str | None:
    """Returns a warning if no difference could be shown, however large; None if one could.

    >>> too_few(2, 7)
    >>> too_few(2, 5)
    'With 5 pairs of runs no difference can be shown, however large: that takes 7.'
    """
    needed = pairs_needed(comparisons, LEVEL)
    if pairs >= needed:
        return None
    return f"With {pairs} pair{'s' * (pairs > 1)} of runs no difference can be shown, however large: that takes {needed}."


def table(found: Comparison) -> list[str]:
    """Returns a table of the arms, over all environments and then of each one, as lines of Markdown."""
    measures = found.measures()
    held_out = {"before": "before", SUCCESS: SUCCESS, "greedy": "greedy"}
    titles = ["arm", "held-out before", "after", "greedy after", *(f"reward by {name}" for name in found.costs)]
    titles += ["steps", *(_UNITS[cost] for cost in ("calls", "tokens", "seconds"))]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for envs in [found.envs, *([[env] for env in found.envs] if len(found.envs) > 1 else [])]:
        for arm in found.arms:
            runs = [run for run in found.runs if run.arm == arm and run.env in envs]
            named = arm if envs == found.envs else f"{arm}, {envs[0]}"
            cells = [
                _spread([[getattr(r, field) for r in runs if r.env == env] for env in envs]) for field in held_out.values()
            ]
            cells += [
                _spread(_strata(measures[f"reward_by_{c}"], arm, envs)) if f"reward_by_{c}" in measures else "–"
                for c in found.costs
            ]
            cells += [f"{np.mean([len(run.rewards) for run in runs]):,.1f}"]
            cells += [f"{np.mean([run.total(cost) for run in runs]):,.0f}" for cost in ("calls", "tokens", "seconds")]
            lines.append(f"| {named} | {' | '.join(cells)} |")
    return lines


def _strata(values: Values, arm: str, envs: Sequence[str]) -> list[list[float]]:
    return [[value for (own, _), value in values[arm].items() if own == env] for env in envs]


def _spread(strata: Sequence[Sequence[float]]) -> str:
    middle = float(interquartile_mean([value for own in strata for value in own]))
    low, high = interquartile_interval(strata)
    return f"{middle:.3f}" if np.isinf(high) else f"{middle:.3f} ({low:.3f} – {high:.3f})"


def _title(name: str, found: Comparison) -> str:
    seeds = f"{len(found.seeds)} seed{'s' * (len(found.seeds) > 1)}"
    where = f"{seeds} of {len(found.envs)} environments" if len(found.envs) > 1 else seeds
    if name == SUCCESS:
        return f"Held-out success after {found.budget:,} executed tool calls, {where}"
    cost = name.removeprefix("reward_by_")
    ends = " and ".join(f"{found.common(env, cost):,.0f}" for env in found.envs)
    return f"Mean reward in training over the first {ends} {_UNITS[cost]}, {where}"


def _notes(found: Comparison) -> Iterator[str]:
    yield (
        "Values are interquartile means over seeds with 95% intervals; steps and costs are means. A run ends with the step "
        "that reaches its budget, so that it may spend a part of a step more. Rewards are those of paths that were drawn "
        "as if nothing were forked."
    )
    short = [run for run in found.runs if run.total("calls") < found.budget]
    for run in short:
        yield f"\n{run.arm}, seed {run.seed}: its steps ran out after {run.total('calls'):,.0f} tool calls, before the budget."
    if not found.alone:
        yield "\nSome runs ran side by side, so that their seconds say nothing and are not compared."


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
