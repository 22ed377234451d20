"""The plot of a comparison: reward against each cost, with a band over seeds, and the differences in held-out success."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .compare_results import SUCCESS, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by people who see fewer colours, too. Source: M. Okabe, K. Ito (2008), Color Universal Design."""
_AXES = {"calls": "executed tool calls", "tokens": "sampled tokens", "seconds": "seconds"}


def plot(file: Path, found: Comparison) -> None:
    """Draws a comparison: a row for each environment, and the differences below.

    Args:
        file: PNG to write.
        found: at least one run per arm.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps state and draws into windows
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows, columns = len(found.envs), len(found.costs)
    below = 0.9 + 0.34 * (len(found.arms) - 1)
    figure = Figure(figsize=(4.4 * columns, 3.1 * rows + below + 0.9), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    panels = figure.add_gridspec(rows + 1, columns, height_ratios=[*[3.1] * rows, below])
    for row, env in enumerate(found.envs):
        first = None
        for column, cost in enumerate(found.costs):
            first = axes = figure.add_subplot(panels[row, column], sharey=first)
            _curves(axes, found, env, cost)
            if column == 0:
                axes.set_ylabel("reward in training")
                axes.set_title(env, loc="left", fontsize=10)
            if (row, column) == (0, 0):
                axes.legend(frameon=False, loc="best", fontsize=9)
    _differences(figure.add_subplot(panels[rows, :]), found)
    seeds = f"{len(found.seeds)} seed{'s' * (len(found.seeds) > 1)}"
    title = f"Equal cost: interquartile means of {seeds}, with 95% bands"  # the arms, however many, are in the legend
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    figure.savefig(file, dpi=130)


def _curves(axes: "Axes", found: Comparison, env: str, cost: str) -> None:
    if not found.common(env, cost) > 0:
        axes.set_axis_off()
        return
    edges, arms = found.curves(env, cost)
    middles = (edges[:-1] + edges[1:]) / 2
    for place, ((arm, (reward, low, high)), colour) in enumerate(zip(arms.items(), _cycled(arms), strict=True)):
        if np.isfinite(low).all():
            axes.fill_between(middles, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(middles, reward, color=colour, linewidth=1.8, label=arm, zorder=3 - place / len(arms))  # the first one on top
    axes.set_xlim(0, edges[-1])
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(_AXES[cost])
    _plain(axes)


def _differences(axes: "Axes", found: Comparison) -> None:
    """Draws the first arm less each of the others."""
    contrasts = found.contrasts()[SUCCESS]
    colours = _cycled(found.arms)[1:]
    for place, (one, colour) in enumerate(zip(contrasts, colours, strict=True)):
        if np.isfinite(one.high):
            axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
        axes.plot([one.difference], [place], marker="o", markersize=7, color=colour)
    farthest = max([abs(end) for one in contrasts for end in (one.low, one.high, one.difference) if np.isfinite(end)])
    axes.set_xlim(-1.15 * max(farthest, 0.01), 1.15 * max(farthest, 0.01))
    axes.axvline(0, color="#888888", linewidth=1, zorder=0)
    axes.set_yticks(range(len(contrasts)), [f"{one.first} − {one.other}" for one in contrasts])
    axes.set_ylim(len(contrasts) - 0.5, -0.5)
    axes.set_title(
        f"held-out success after {found.budget:,} tool calls; on the right, {found.arms[0]} is above", loc="left", fontsize=10
    )
    _plain(axes)


def _cycled(names: Sequence[str] | dict[str, Any]) -> list[str]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(len(names))]


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
