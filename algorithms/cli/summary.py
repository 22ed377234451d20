"""What a run tells people at its end: a table, what to try next, a plot and a flat summary."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from arpo_envs import members

from ..checkpoint import BEST, Best
from .config import TrainConfig
from .environments import arguments_of, env_maker
from .mixtures import env_arguments
from .results import write_json

_LAST = 10
_MOSTLY = 0.8
"""If a larger share of prompts has equal rewards, the report says so."""


def report(
    config: TrainConfig,
    run: Path,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    closed_book: float | None,
    seconds: float,
    console: Console,
    kept: Best | None = None,
) -> None:
    """Writes summary.json and training.png into the run's folder and prints the table.

    Args:
        config: resolved.
        run: folder of the run.
        before: held-out success and intervals before training.
        after: the same after training.
        closed_book: held-out success without tools, sampled.
        seconds: how long the run took, including cold start and evaluations.
        console: where to print.
        kept: the best policy; None if none was kept.
    """
    metrics = _logged(run / "metrics.jsonl") if config.steps else []
    summary = summarise(config, before, after, closed_book, majority(config), metrics, seconds)
    if kept is not None:
        summary |= {"best_step": kept.step, "success_best_sampled": kept.success}
    write_json(run / "summary.json", summary)
    if metrics:
        plot(run / "training.png", metrics, summary)
    console.print(table(before, after, summary))
    for line in advice(summary, arguments_of(config.env)):
        console.print(f"• {line}", highlight=False)
    folders = "policy/" if kept is None else f"policy/, {BEST}/"
    console.print(f"\n{run}/: summary.json, training.png, metrics.jsonl, trees.jsonl.zst, {folders}", highlight=False)


def _logged(file: Path) -> list[dict[str, float]]:
    """Returns the metrics of all steps, with NaN where the file has null."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{name: math.nan if value is None else value for name, value in line.items()} for line in lines]


def summarise(
    config: TrainConfig,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    closed_book: float | None,
    majority_share: float | None,
    metrics: Sequence[Mapping[str, float]],
    seconds: float,
) -> dict[str, Any]:
    """Returns the flat summary; rollout figures are means over all steps."""
    held_out = (("before", before), ("after", after))

    def is_measure(name: str) -> bool:
        return name.startswith(("sampled_env/", "greedy_env/"))  # with its interval

    def mean(name: str) -> float:
        return float(np.mean([m[name] for m in metrics])) if metrics else 0.0

    return {
        "success_before_sampled": before["sampled"],
        "success_before_greedy": before["greedy"],
        "success_after_sampled": after["sampled"],
        "success_after_greedy": after["greedy"],
        **{f"success_after_{name}/{env}": after[f"{name}/{env}"] for env in envs_in(after) for name in ("sampled", "greedy")},
        **{f"{name}_{when}": given[name] for when, given in held_out for name in given if is_measure(name)},
        "success_closed_book": closed_book,
        "success_majority": majority_share,
        "executed_tool_calls_per_prompt": mean("executed_tool_calls_per_prompt"),
        "inherited_tool_calls_per_prompt": mean("inherited_tool_calls_per_prompt"),
        "forks_per_prompt": mean("forks_per_prompt"),
        "equal_reward_groups": mean("equal_reward_groups"),
        "seconds": round(seconds, 1),
        "algorithm": config.algorithm + ("-shuffled" if config.shuffle_rewards else ""),
        "seed": config.seed,
    }


def envs_in(measured: Mapping[str, Any]) -> list[str]:
    """Returns the environments of a mixture of which a held-out success was measured."""
    return [name.removeprefix("sampled/") for name in measured if name.startswith("sampled/")]


def majority(config: TrainConfig) -> float | None:
    """Returns the success of always giving the best single answer; None if the tasks cannot tell."""
    words = (*config.env_args, *config.eval_args)
    env = env_maker(config.env, env_arguments(config.env, words))()  # whatever it would tell a policy
    found = members.MAJORITY_BASELINE.of(members.TASKS.through(env))()
    env.close()
    return None if found is None else float(found)


def table(before: Mapping[str, Any], after: Mapping[str, Any], summary: Mapping[str, Any]) -> Table:
    """Returns the table of a run."""
    shown = Table(title=f"{summary['algorithm']}, seed {summary['seed']}: held-out success", title_justify="left")
    for heading in ("", "before", "after", "95% interval after"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for name in ("sampled", "greedy"):
        low, high = after[f"{name}_interval"]
        shown.add_row(name, f"{before[name]:.3f}", f"[bold]{after[name]:.3f}[/]", f"{low:.3f} – {high:.3f}")
        for env in envs_in(after):
            (low, high), was = after[f"{name}_interval/{env}"], before.get(f"{name}/{env}")
            cells = "–" if was is None else f"{was:.3f}", f"{after[f'{name}/{env}']:.3f}", f"{low:.3f} – {high:.3f}"
            shown.add_row(f"  {env}", *cells, style="dim")
    if "best_step" in summary:
        shown.add_row(f"best, sampled (step {summary['best_step']})", "", f"{summary['success_best_sampled']:.3f}", "")
    for name, key in (("without tools", "success_closed_book"), ("majority answer", "success_majority")):
        shown.add_row(name, "", "–" if summary[key] is None else f"{summary[key]:.3f}", "")
    shown.add_section()
    executed, inherited = summary["executed_tool_calls_per_prompt"], summary["inherited_tool_calls_per_prompt"]
    shown.add_row("tool calls per prompt", "", f"{executed:.1f} run", f"{inherited:.1f} inherited")
    shown.add_row("forks per prompt", "", f"{summary['forks_per_prompt']:.1f}", "")
    shown.add_row("time", "", f"{summary['seconds']:.0f} s", "")
    return shown


def advice(summary: Mapping[str, Any], takes: Collection[str]) -> list[str]:
    """Returns what to try next, depending on what happened.

    Args:
        summary: of the run, see `summarise`.
        takes: names of the environment's arguments.
    """
    lines = []
    equal = summary["equal_reward_groups"]
    if equal > _MOSTLY:
        where = "every prompt" if equal == 1.0 else f"{equal:.0%} of the prompts"
        lines += [
            f"For {where}, all rollouts earned the same, and equal rewards teach nothing: can the reward tell good from bad?",
            "Read some with `arpo eval --show 3`. More --rollouts, a higher --temperature or other tasks vary the rewards.",
        ]
    if summary["success_after_greedy"] < summary["success_before_greedy"] + 0.05 and "shuffled" not in summary["algorithm"]:
        easier = "easier tasks (--env-args hops=1)" if "hops" in takes else "easier tasks"
        lines.append(f"Little was learned: try more --steps, a higher --learning-rate, or {easier}.")
    if summary["algorithm"] == "arpo":
        lines.append("Is it the entropy? Compare with --algorithm random_branching and --algorithm grpo with the same seed.")
    lines.append("Is it the reward? Run again with --shuffle-rewards: nothing should be learned.")
    if "world" in takes:
        lines.append("Is it memory? Train with --env-args world=counterfactual, where what a model remembers is wrong.")
    return lines


def plot(file: Path, metrics: Sequence[Mapping[str, float]], summary: Mapping[str, Any]) -> None:
    """Draws the run: success, tool calls, entropy, before and after."""
    from matplotlib.figure import Figure  # quicker to import than pyplot, and draws into files by itself

    steps = [m["step"] for m in metrics]
    figure = Figure(figsize=(10, 6.4))
    margins = {"left": 0.05, "right": 0.98, "bottom": 0.075, "top": 0.9, "wspace": 0.12, "hspace": 0.32}
    axes = figure.subplots(2, 2, gridspec_kw=margins)  # what a layout engine finds takes longer than the drawing
    figure.suptitle(f"{summary['algorithm']}, seed {summary['seed']}", x=0.01, ha="left", fontweight="bold")
    curve, calls, doubt, bars = axes.flat
    success = np.array([m["success"] for m in metrics])
    curve.plot(steps, success, color="#9ecae1", linewidth=1, label="of each step")
    curve.plot(steps, _smooth(success), color="#08519c", linewidth=2, label=f"mean of the last {_LAST} steps")
    held_out = [(m["step"], m["held_out/sampled"]) for m in metrics if "held_out/sampled" in m]
    if held_out:
        asked, reached = zip(*held_out, (steps[-1] + 1, summary["success_after_sampled"]), strict=True)
        curve.plot(asked, reached, "o-", color="#e6550d", markersize=4, label="held-out questions, sampled")
    curve.legend(loc="lower right", frameon=False)
    curve.set(title="success while training", xlabel="step", ylim=(0, 1.02))
    executed = np.array([m["executed_tool_calls_per_prompt"] for m in metrics])
    inherited = np.array([m["inherited_tool_calls_per_prompt"] for m in metrics])
    calls.stackplot(steps, executed, inherited, labels=["executed", "inherited by forks"], colors=["#e6550d", "#fdd0a2"])
    calls.legend(loc="upper left", frameon=False)
    highest = 1.3 * float((executed + inherited).max()) or None  # room for the legend
    calls.set(title="tool calls per prompt", xlabel="step", ylim=(0, highest))
    doubt.plot(steps, [m["entropy"] for m in metrics], color="#31a354", label="entropy, nats per token")
    doubt.plot(steps, [m["forks_per_prompt"] / 10 for m in metrics], color="#756bb1", label="forks per prompt / 10")
    doubt.legend(frameon=False)
    doubt.set(title="uncertainty and forks", xlabel="step", ylim=(0, None))
    for offset, when, colour in ((-0.2, "before", "#bdbdbd"), (0.2, "after", "#08519c")):
        heights = [summary[f"success_{when}_{name}"] for name in ("sampled", "greedy")]
        drawn = bars.bar(np.arange(2) + offset, heights, width=0.38, label=when, color=colour)
        bars.bar_label(drawn, fmt="%.3f", padding=2)
    bars.set_xticks(range(2), ["sampled", "greedy"])
    bars.legend(loc="upper left", frameon=False)
    bars.set(title="held-out success", ylim=(0, 1.15))
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)


def _smooth(values: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Returns the mean over the last few steps."""
    return np.array([values[max(0, i - _LAST + 1) : i + 1].mean() for i in range(len(values))])
