"""What a run will cost: seconds, tokens, calls and device hours of a step, its bottleneck, the best layout, and deaths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from arpo_envs import ConfigError

from ... import seeds
from .machine import Deaths, Layout, Machine, Tools
from .simulate import Rolled, roll_out
from .update import update_seconds
from .work import Shape, Workload


@dataclass(frozen=True)
class Step:
    """What one step costs.

    Args:
        rollout: seconds.
        update: seconds.
        load: seconds to give engines the new weights.
        seconds: of the step; with `Layout.ahead`, the rollouts of the next step hide the update, or the other way round.
        tokens: that the policy draws.
        executed: tool calls that run.
        inherited: tool calls on shared prefixes, which need not run again.
        engines_busy: share of the rollouts in which an engine works, mean over engines.
        controller_busy: share in which a controlling process works, mean over these.
    """

    rollout: float
    update: float
    load: float
    seconds: float
    tokens: float
    executed: float
    inherited: float
    engines_busy: float
    controller_busy: float


@dataclass(frozen=True)
class Setting:
    """Everything that a plan depends on.

    Args:
        machine: how long things take.
        workload: what a step has to do.
        layout: how many engines and learners there are.
        tools: how long they take to answer.
        seed: of what is drawn.
        steps: how many are simulated, each with trees of its own.
    """

    machine: Machine
    workload: Workload
    layout: Layout = Layout()
    tools: Tools = Tools()
    seed: int = 1
    steps: int = 3

    def __post_init__(self) -> None:
        """Checks the number of steps."""
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}.")

    def shapes(self, step: int) -> list[Shape]:
        """Returns the trees of a step; they depend on the workload only, so that settings are compared on equal work."""
        return self.workload.draw(seeds.derive(self.seed, "step", step))


def predict(setting: Setting) -> Step:
    """Returns what a step costs, the mean of those that are simulated."""
    return mean_step([_step(setting, number) for number in range(setting.steps)])


def predict_each(setting: Setting) -> list[Step]:
    """Returns what each simulated step costs: how far steps differ by chance."""
    return [_step(setting, number) for number in range(setting.steps)]


def mean_step(steps: Sequence[Step]) -> Step:
    """Returns the mean of some steps, number by number."""
    return Step(**{name: fmean(getattr(step, name) for step in steps) for name in Step.__dataclass_fields__})


def _step(setting: Setting, number: int) -> Step:
    shapes = setting.shapes(number)
    return cost(shapes, _rolled(setting, number, shapes, setting.layout), setting.machine, setting.layout)


def _rolled(setting: Setting, number: int, shapes: Sequence[Shape], layout: Layout, deaths: Deaths = Deaths()) -> Rolled:
    """Returns the rollouts of a step; latencies are the same in every layout."""
    seed = seeds.derive(setting.seed, "roll", number)
    return roll_out(shapes, setting.machine, layout, setting.tools, deaths, seed=seed)


def cost(shapes: Sequence[Shape], rolled: Rolled, machine: Machine, layout: Layout) -> Step:
    """Returns what a step costs, given its rollouts."""
    update = update_seconds(shapes, machine, layout.learners)
    both = max(rolled.seconds, update) if layout.ahead else rolled.seconds + update
    whole = max(rolled.seconds, 1e-12)
    return Step(
        rollout=rolled.seconds,
        update=update,
        load=machine.load_seconds,
        seconds=both + machine.load_seconds,
        tokens=float(rolled.sampled),
        executed=float(rolled.executed),
        inherited=float(sum(shape.inherited for shape in shapes)),
        engines_busy=rolled.spent.busy / whole / layout.engines,
        controller_busy=rolled.controller_seconds / whole / max(1, layout.processes),
    )


# --- the bottleneck ---------------------------------------------------------------------------------------

PARTS: Mapping[str, tuple[str, ...]] = {
    "decoding": ("round_seconds", "row_seconds", "request_seconds"),
    "reading prompts and results": ("prefill_seconds",),
    "the controlling process": ("turn_seconds", "fork_seconds"),
    "the update": ("update_seconds", "token_seconds", "packed_seconds", "join_seconds"),
    "loading weights": ("load_seconds",),
}
"""What can be made faster, and the constants that say how fast it is."""
TOOLS, THREADS = "waiting for tools", "waiting for a tool thread"


def gains(setting: Setting) -> dict[str, float]:
    """Returns the share of a step that would be saved if each part were twice as fast, the largest first.

    The first one is the bottleneck: seconds cannot be divided among things that happen at the same time, but each can be
    made faster in turn. Tool threads count as twice as fast if there are twice as many.
    """
    tools, layout = setting.tools, setting.layout
    faster = {
        THREADS: replace(setting, layout=replace(layout, threads=2 * layout.threads)),
        TOOLS: replace(setting, tools=replace(tools, latency=tools.latency / 2)),
    }
    for name, constants in PARTS.items():
        known = {one: getattr(setting.machine, one) for one in constants}
        halves = {one: value / 2 for one, value in known.items() if value}
        faster[name] = replace(setting, machine=replace(setting.machine, **halves))
    base = predict(setting).seconds
    found = {name: 1.0 - predict(one).seconds / base for name, one in faster.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


# --- the best layout --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """A way to use devices, and what a step costs with it."""

    layout: Layout
    step: Step


def splits(setting: Setting, devices: int, *, most: int = 12) -> list[Split]:
    """Returns ways to use some devices, the fastest first: engines and learners apart, in turn or at once, or sharing all.

    Args:
        setting: its layout gives the devices that one engine and one learner need.
        devices: how many there are.
        most: numbers of engines to simulate; with many devices they lie evenly on a logarithmic scale at both ends.

    Raises:
        ConfigError: there are too few devices for an engine or a learner.
    """
    own = setting.layout
    most_engines = (devices - own.learner_devices) // own.engine_devices
    alone = min(devices // own.engine_devices, devices // own.learner_devices)
    if alone < 1:
        raise ConfigError(
            f"{devices} devices are too few: an engine needs {own.engine_devices}, a learner {own.learner_devices}."
        )
    all_engines, all_learners = devices // own.engine_devices, devices // own.learner_devices
    layouts = [replace(own.with_engines(all_engines), learners=all_learners, shared=True, ahead=0)]
    for engines in spaced(most_engines, most):
        learners = (devices - engines * own.engine_devices) // own.learner_devices
        apart = replace(own.with_engines(engines), learners=learners, shared=False)
        layouts += [replace(apart, ahead=0), replace(apart, ahead=1)]
    shapes = [setting.shapes(number) for number in range(setting.steps)]
    rolled: dict[int, list[Rolled]] = {}
    found = []
    for layout in layouts:
        if layout.engines not in rolled:  # learners change nothing in the rollouts
            rolled[layout.engines] = [_rolled(setting, number, own, layout) for number, own in enumerate(shapes)]
        both = zip(shapes, rolled[layout.engines], strict=True)
        found.append(Split(layout, mean_step([cost(own, one, setting.machine, layout) for own, one in both])))
    return sorted(found, key=lambda split: (split.step.seconds, split.layout.ahead, not split.layout.shared))


def spaced(top: int, most: int) -> list[int]:
    """Returns at most about `most` numbers from 1 to `top`: all of them, or dense at both ends.

    >>> spaced(3, 12), spaced(63, 8)
    ([1, 2, 3], [1, 2, 6, 13, 51, 58, 62, 63])
    """
    if top <= most:
        return list(range(1, top + 1))
    half = most // 2
    steps = [round((top / 2) ** (i / half)) for i in range(half)]
    return sorted({*steps, *(top + 1 - step for step in steps)})


# --- deaths -----------------------------------------------------------------------------------------------


_ENFORCED = 10
"""Engines that die in a simulated step, at least: in a single step, deaths are rare, and most of them hit nothing."""


@dataclass(frozen=True)
class Losses:
    """What dying workers cost.

    Args:
        engines: how many there are.
        trees: of a simulated step.
        deaths_per_hour: of engines.
        retries_per_hour: trees that are grown again.
        lost_tokens: share of all tokens that are drawn twice.
        step_seconds: of a step in which nothing dies.
        slower: share by which steps take longer at most, updates that are repeated included.
    """

    engines: int
    trees: int
    deaths_per_hour: float
    retries_per_hour: float
    lost_tokens: float
    step_seconds: float
    slower: float


def losses(setting: Setting, deaths: Deaths, *, engines: int, trees: int | None = None) -> Losses:
    """Returns what it costs that workers die.

    Where fewer than `_ENFORCED` engines would die in a step, so many are made to. Requests and tokens that are lost are then
    scaled back. A step with one death is taken to be as slow as one with so many, which is too pessimistic.

    Args:
        setting: its layout gives the learners; engines are taken to be processes.
        deaths: how often, and what follows.
        engines: how many there are.
        trees: of a step; by default as many for each engine as the setting has.

    Raises:
        ConfigError: there is no engine, or no tree.
    """
    own = setting.layout
    layout = replace(own, engines=engines, elsewhere=engines)
    prompts = setting.workload.prompts * engines // own.engines if trees is None else trees
    large = replace(setting, workload=replace(setting.workload, prompts=prompts), layout=layout)
    rate = deaths.per_hour * engines / 3600.0
    calm_seconds = slower = retries = lost = drawn = 0.0
    for number in range(setting.steps):
        shapes = large.shapes(number)
        calm = _rolled(large, number, shapes, layout)
        update = update_seconds(shapes, large.machine, own.learners) + large.machine.load_seconds
        calm_seconds += calm.seconds + update
        expected = rate * calm.seconds
        if expected:
            scale = max(1.0, _ENFORCED / expected)
            hit = _rolled(large, number, shapes, layout, replace(deaths, per_hour=deaths.per_hour * scale))
            slower += max(0.0, hit.seconds - calm.seconds) * min(1.0, expected)
            retries, lost = retries + hit.retries / scale, lost + hit.lost / scale
        repeated = deaths.per_hour * own.learners * update / 3600.0
        slower += repeated * (deaths.restart_seconds + update / 2)
        drawn += calm.spent.drawn
    return Losses(
        engines=engines,
        trees=prompts,
        deaths_per_hour=deaths.per_hour * engines,
        retries_per_hour=retries / (calm_seconds / 3600.0),
        lost_tokens=lost / drawn,
        step_seconds=calm_seconds / setting.steps,
        slower=slower / calm_seconds,
    )
