"""How `arpo entropy` shows a profile: tables with sparklines, a plot, and a record for machines."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..evaluation import Average, EntropyProfile, ToolProfile

_SHARE = 0.05
"""Positions that fewer of a tool's results reach are not drawn: an interval over two questions hides all others."""
_IN_A_ROW = 3
"""Entries of the legend side by side: it stands below the plot, where it hides no line."""
_LONGEST_TITLE = 96
"""Characters of a title that fit above the plot."""
_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = ("#08519c", "#e6550d", "#31a354", "#756bb1", "#636363", "#d6616b", "#8c6d31", "#17becf")


def table(profile: EntropyProfile, title: str) -> list[Table]:
    """Returns a table of the tools, and one of the rounds."""
    k, before = profile.tokens, [value.mean for tool in profile.tools.values() for value in tool.at.values()]
    highest = max(before, default=0.0)
    shown = Table(
        title=Text(title), title_justify="left", caption_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )
    shown.caption = Text(
        f"nats per token, 95% intervals over questions; up to {k} tokens before (upper row) and after a result; at the bottom "
        "all tokens, and the first of a rollout"
    )
    for heading in ("tool", "before, after", "first token", f"ΔH of the first {k}"):
        shown.add_column(heading, justify="left" if heading in ("tool", "before, after") else "right", no_wrap=True)
    for name, tool in profile.tools.items():
        sides = [[value.mean for at, value in tool.at.items() if (at > 0) == after] for after in (False, True)]
        rows = "\n".join(sparkline(side, highest) for side in sides)  # one above the other: a terminal has 80 columns
        shown.add_row(Text(f"{name}\n{_results(tool)}"), rows, _below(tool.at.get(1)), _below(tool.change, "+"))
    shown.add_row("all tokens", "", _below(profile.average), "")
    shown.add_row(f"first {k}", "", _below(profile.start), "")
    rounds = Table(title=Text(f"mean of the first {k} tokens, by round"), title_justify="left")
    for heading in ("tool", "round", "entropy", "tokens"):
        rounds.add_column(heading, justify="left" if heading == "tool" else "right")
    for name, tool in profile.tools.items():
        for number, value in tool.rounds.items():
            rounds.add_row(Text(name), str(number), interval(value), f"{value.count:,}")
    return [shown, rounds]


def _results(tool: ToolProfile) -> str:
    return f"{tool.results:,} result{'' if tool.results == 1 else 's'}"


def sparkline(values: list[float], highest: float) -> str:
    """Returns bars for values between 0 and `highest`.

    >>> sparkline([0.0, 1.0, 2.0], 2.0)
    '▁▅█'
    """
    return "".join(_BARS[min(7, round(7 * value / highest + 1e-9))] if highest > 0 else _BARS[0] for value in values)


def interval(value: Average | None, sign: str = "") -> str:
    """Returns a mean with its interval; without one if a single question gave it."""
    if value is None:
        return "–"
    if value.questions < 2:
        return f"{value.mean:{sign}.3f}"
    return f"{value.mean:{sign}.3f} ({value.low:{sign}.3f} – {value.high:{sign}.3f})"


def _below(value: Average | None, sign: str = "") -> str:
    """Returns a mean with its interval on a second line, for narrow columns."""
    return interval(value, sign).replace(" (", "\n(", 1)


def written(profile: EntropyProfile) -> dict[str, Any]:
    """Returns the profile as a record for JSON; positions and rounds are its keys."""
    return {name: _named(value) for name, value in asdict(profile).items()}


def _named(value: Any) -> Any:
    return {str(name): _named(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def draw(file: Path, profile: EntropyProfile, title: str) -> None:
    """Draws a line with its band for each tool, beside the average of all tokens."""
    from matplotlib.figure import Figure  # quicker to import than pyplot, and draws into files by itself
    from matplotlib.ticker import MaxNLocator

    rows = -(-(len(profile.tools) + 1) // _IN_A_ROW)
    figure = Figure(figsize=(9, 4.4 + 0.22 * rows))
    bottom = (0.62 + 0.22 * rows) / figure.get_figheight()
    axis = figure.subplots(gridspec_kw={"left": 0.075, "right": 0.98, "bottom": bottom, "top": 0.88})
    shown = title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
    figure.suptitle(shown, x=0.01, ha="left", fontweight="bold", fontsize=11)
    for number, (name, tool) in enumerate(profile.tools.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        is_one = all(value.questions < 2 for value in tool.at.values())  # then it has no intervals, and says little
        look: dict[str, Any] = {"linestyle": ":", "linewidth": 1.0, "alpha": 0.6} if is_one else {"linewidth": 1.8}
        for side in (-1, 1):
            part = {at: value for at, value in tool.at.items() if at * side > 0 and value.count >= _SHARE * tool.results}
            label = f"{name} ({_results(tool)}{', one question' if is_one else ''})" if side > 0 else None
            axis.plot(list(part), [v.mean for v in part.values()], color=colour, label=label, marker=".", **look)
            axis.fill_between(
                list(part),
                [v.low for v in part.values()],
                [v.high for v in part.values()],
                color=colour,
                alpha=0.18,
                linewidth=0,
            )
    axis.axhline(profile.average.mean, color="#969696", linestyle="--", linewidth=1, label="average of all sampled tokens")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.axvline(0, color="#252525", linewidth=0.8)
    axis.annotate("result", (0, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9)
    axis.set(
        xlabel=f"tokens before the call's end and after the result, where at least {_SHARE:.0%} of the results have one",
        ylabel="entropy, nats per token",
        ylim=(0, None),
    )
    figure.legend(loc="lower left", bbox_to_anchor=(0.065, 0.0), ncols=_IN_A_ROW, frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
