"""How `arpo plan` shows a plan: what a step and a run cost, the bottleneck, layouts, deaths, and comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..cluster.planning import Deaths, Layout, Losses, Setting, Split, Step, mean_step
from .planned import Comparison
from .results import Value

_SHOWN_SPLITS = 5
_LEAST_GAIN = 0.05
"""What saves less is not worth a word."""


@dataclass(frozen=True)
class Planned:
    """A plan.

    Args:
        about: where the constants are from.
        setting: what was simulated.
        run_steps: steps of the run.
        steps: what each simulated step costs.
        gains: what a part at twice the speed would save; see `cluster.plan.gains`.
        devices: for which layouts were compared.
        splits: ways to use them, the fastest first.
        deaths: how often workers die.
        losses: what that costs.
    """

    about: str
    setting: Setting
    run_steps: int
    steps: Sequence[Step]
    gains: Mapping[str, float]
    devices: int | None
    splits: Sequence[Split]
    deaths: Deaths
    losses: Losses | None

    @property
    def step(self) -> Step:
        """The mean step."""
        return mean_step(self.steps)

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.step.seconds * self.run_steps / 3600.0


def print_plan(console: Console, planned: Planned) -> None:
    """Prints a plan."""
    work, layout = planned.setting.workload, planned.setting.layout
    forks = f", forks after {work.fork:.0%} of results" if work.fork else ""
    asked = f"{_many(work.prompts, 'prompt')} × {_many(work.rollouts, 'rollout')}"
    console.print(Text(f"{asked}, {work.roots} from the prompt{forks}", "bold"))
    console.print(Text(f"{in_words(layout)}; {planned.about}", "dim"), soft_wrap=True)
    console.print(_of_a_step(planned))
    console.print(_of_the_run(planned))
    console.print(Text(bottleneck(planned)), soft_wrap=True)
    if planned.splits:
        console.print(_of_layouts(planned))
    if planned.losses is not None:
        console.print(Text(of_deaths(planned.losses, planned.deaths)), soft_wrap=True)


def in_words(layout: Layout) -> str:
    """Returns a layout in words.

    >>> in_words(Layout(engines=6, learners=2, ahead=1))
    '6 engines and 2 learners on 8 devices, rolling out one step ahead'
    """
    engines, learners = _many(layout.engines, "engine"), _many(layout.learners, "learner")
    how = ", taking turns" if layout.shared else ", rolling out one step ahead" if layout.ahead else ", one after the other"
    return f"{engines} and {learners} on {_many(layout.devices, 'device')}{how}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _of_a_step(planned: Planned) -> Table:
    """Returns the table of a step's phases."""
    step, table = planned.step, Table(title="One step", title_justify="left")
    table.add_column("phase")
    for heading in ("seconds", "lowest – highest", "share"):
        table.add_column(heading, justify="right")
    for name, label in (("rollout", "rollouts"), ("update", "update"), ("load", "loading weights"), ("seconds", "whole step")):
        values = [getattr(one, name) for one in planned.steps]
        mean = getattr(step, name)
        if name == "seconds":
            table.add_section()
        share = f"{mean / step.seconds:.0%}" if step.seconds else ""
        table.add_row(label, _seconds(mean), f"{_seconds(min(values))} – {_seconds(max(values))}", share)
    processes = "the processes in which trees grow" if planned.setting.layout.processes else "the controlling process"
    table.caption = f"Engines work {step.engines_busy:.0%} of the rollouts, {processes} {step.controller_busy:.0%}."
    table.caption_justify = "left"
    return table


def _of_the_run(planned: Planned) -> Table:
    step, table = (
        planned.step,
        Table(title=f"The run of {_many(planned.run_steps, 'step')}", title_justify="left", show_header=False),
    )
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("hours", f"{planned.hours:,.2f}")
    table.add_row("device hours", f"{planned.hours * planned.setting.layout.devices:,.2f}")
    table.add_row("sampled tokens", f"{step.tokens * planned.run_steps:,.0f}")
    table.add_row("sampled tokens per second", f"{step.tokens / max(step.seconds, 1e-9):,.0f}")
    table.add_row("tool calls executed", f"{step.executed * planned.run_steps:,.0f}")
    table.add_row("tool calls inherited", f"{step.inherited * planned.run_steps:,.0f}")
    return table


def bottleneck(planned: Planned) -> str:
    """Returns a sentence that names what to make faster."""
    (first, gain), *others = planned.gains.items()
    also = [f"{name} {share:.0%}" for name, share in others if share >= _LEAST_GAIN]
    more = f" ({'; '.join(also)})" if also else ""
    return f"The bottleneck is {first}: at twice the speed, a step would take {gain:.0%} less{more}."


def _of_layouts(planned: Planned) -> Table:
    """Returns the table of the best layouts."""
    table = Table(title=f"The fastest ways to use {_many(planned.devices or 0, 'device')}", title_justify="left")
    table.add_column("layout")
    for heading in ("step", "rollouts", "update", "engines work"):
        table.add_column(heading, justify="right")
    for number, split in enumerate(planned.splits[:_SHOWN_SPLITS]):
        step = split.step
        cells = (_seconds(step.seconds), _seconds(step.rollout), _seconds(step.update), f"{step.engines_busy:.0%}")
        table.add_row(in_words(split.layout), *cells, style="bold" if not number else "")
    return table


def of_deaths(losses: Losses, deaths: Deaths) -> str:
    """Returns sentences about what dying workers cost."""
    return (
        f"If {deaths.per_hour:.3g} of {_many(losses.engines, 'engine')} died per hour ({losses.deaths_per_hour:,.1f} deaths), "
        f"about {losses.retries_per_hour:,.0f} trees per hour would be grown again, {losses.lost_tokens:.3%} of all tokens "
        f"drawn twice, and steps would take at most {losses.slower:.2%} longer: "
        f"{_seconds(losses.step_seconds * losses.slower)} s of {_seconds(losses.step_seconds)} s, "
        f"with {_many(losses.trees, 'tree')}."
    )


def print_comparisons(console: Console, found: Sequence[Comparison]) -> None:
    """Prints what was predicted and measured of runs."""
    table = Table(title="A step in seconds: predicted and measured", title_justify="left", caption_justify="left")
    table.add_column("run")
    for heading in ("rollouts", "measured", "update", "measured", "error"):
        table.add_column(heading, justify="right")
    for one in found:
        cells = [_seconds(value) for value in (*one.rollout, *one.update)]
        table.add_row(one.name + " *" * one.own_paths, *cells, f"{one.error:+.0%}")
    if any(one.own_paths for one in found):
        table.caption = "* The lengths of its paths are its own: no --run has paths like these."
    console.print(table)
    console.print(f"Largest error: {max(abs(one.error) for one in found):.0%}.")


def flat(planned: Planned) -> dict[str, Value]:
    """Returns the plan as a flat record."""
    found: dict[str, Value] = {f"step {name}": value for name, value in asdict(planned.step).items()}
    found |= {
        "step lowest": min(one.seconds for one in planned.steps),
        "step highest": max(one.seconds for one in planned.steps),
    }
    found |= {
        "steps": planned.run_steps,
        "hours": planned.hours,
        "device_hours": planned.hours * planned.setting.layout.devices,
    }
    found |= {"tokens_per_second": planned.step.tokens / max(planned.step.seconds, 1e-9), "constants": planned.about}
    found |= {f"gain {name}": share for name, share in planned.gains.items()}
    for number, split in enumerate(planned.splits, 1):
        found |= {f"layout {number}": in_words(split.layout), f"layout {number} seconds": split.step.seconds}
    if planned.losses is not None:
        found |= {f"deaths {name}": value for name, value in asdict(planned.losses).items()}
    return found | {f"constant {name}": value for name, value in asdict(planned.setting.machine).items()}


def _seconds(value: float) -> str:
    """Returns seconds with three digits.

    >>> [_seconds(value) for value in (0.01234, 12.34, 1234.5)]
    ['0.0123', '12.3', '1,234']
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
