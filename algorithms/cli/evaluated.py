"""What `arpo eval` says of an evaluation: a flat record for machines, and a table for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.table import Table
from rich.text import Text

from ..evaluation import COSTS, Attempt, Difference, Estimate, Prices, estimates
from ..rollout import GROWN_AGAIN
from .results import Value

_NAMES = {"em": "exact match", "f1": "F1"}
_NAMES |= {f"closed_book/{name}": f"{_NAMES.get(name, name)} without tools" for name in ("success", "em", "f1", "judge")}
_TESTS = {"mcnemar": "exact McNemar test", "sign_flip": "sign-flip permutation test"}


class Measured(Protocol):
    """The options that a result names."""

    @property
    def policy(self) -> str:
        """What was measured."""
        ...

    @property
    def samples(self) -> int:
        """Answers per question."""
        ...

    @property
    def temperature(self) -> float:
        """That they were sampled at."""
        ...

    @property
    def seed(self) -> int:
        """Of the sampling and of the intervals."""
        ...

    @property
    def prices(self) -> Prices:
        """What reading, sampling and calling cost."""
        ...


def summary(config: Measured, env: str, words: Sequence[str], attempts: Sequence[Attempt], seconds: float) -> dict[str, Value]:
    """Returns the result as a flat record; NAME_low and NAME_high are the ends of the 95% interval of NAME."""
    ends = Counter(one.status for one in attempts)
    envs = sorted({one.env for one in attempts} - {""})
    return {
        "policy": str(config.policy),
        "env": env,
        "args": " ".join(words),
        "questions": len({one.question for one in attempts}),
        "samples": config.samples,
        "temperature": config.temperature,
        "seed": config.seed,
        **{key: value for name, found in estimates(attempts, seed=config.seed).items() for key, value in _flat(name, found)},
        **{name: value for one in envs for name, value in _of_member(one, attempts, config.seed).items()},
        **_cost(config.prices, attempts),
        **{f"ended_{status}": count for status, count in sorted(ends.items())},
        "seconds": round(seconds, 1),
    }


def _cost(prices: Prices, attempts: Sequence[Attempt]) -> dict[str, Value]:
    """Returns what the answers cost, if anything has a price."""
    if prices == Prices() or not attempts:
        return {}
    cost = prices.of(attempts)
    return {"cost": cost, "cost_per_rollout": cost / len(attempts)}


def _flat(name: str, found: Estimate) -> list[tuple[str, Value]]:
    return [(name, found.mean), (f"{name}_low", found.low), (f"{name}_high", found.high)]


def _of_member(env: str, attempts: Sequence[Attempt], seed: int) -> dict[str, Value]:
    """Returns what a mixture's record says of one of its environments."""
    own = [one for one in attempts if one.env == env]
    found = estimates(own, seed=seed)
    nothing = Estimate(0.0, 0.0, 1.0)
    success, reward = (found.get(name, nothing) for name in ("success", "reward"))
    return {
        f"questions/{env}": len({one.question for one in own}),
        f"success/{env}": success.mean,
        f"success_low/{env}": success.low,
        f"success_high/{env}": success.high,
        f"reward/{env}": reward.mean,
    }


def of_differences(against: str, found: Mapping[str, Difference]) -> dict[str, Value]:
    """Returns what a record says of the comparison with another evaluation.

    Args:
        against: its file.
        found: the difference of each score.
    """
    record: dict[str, Value] = {"against": against}
    for name, one in found.items():
        key = f"difference/{name}"
        record |= {key: one.mean, f"{key}_low": one.low, f"{key}_high": one.high, f"{key}_p": one.p, f"{key}_test": one.test}
        record |= {f"{key}_questions": one.questions, f"{key}_better": one.better, f"{key}_worse": one.worse}
    return record


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a result."""
    title = f"{record['policy']} on {record['env']} {record['args']}"
    drawn = "greedy" if record["temperature"] == 0 else f"temperature {record['temperature']:g}"
    shown = Table(title=Text(title), title_justify="left", show_header=False, caption_justify="left")
    shown.caption = Text(f"{record['questions']} questions × {record['samples']}, {drawn}, seed {record['seed']}")
    shown.add_column(style="dim")
    shown.add_column()
    shown.add_row("success", f"[bold]{record['success']:.3f}[/]   {_interval(record, 'success')}")
    for env in [name.removeprefix("success/") for name in record if name.startswith("success/")]:
        asked = f"{record[f'questions/{env}']} questions"
        shown.add_row(f"  {env}", f"{record[f'success/{env}']:.3f}   {_interval(record, 'success', f'/{env}')}   {asked}")
    for name in record:
        if f"{name}_low" in record and _is_shown(name, int(record["samples"] or 1)):
            label = _NAMES.get(name, name.removeprefix("env/").replace("_", " ")) if name != "reward" else "mean reward"
            shown.add_row(Text(label), f"{record[name]:.3f}   {_interval(record, name)}")
    for name in COSTS:
        if name in record:
            shown.add_row(name.replace("_", " "), f"{record[name]:.{1 if name.startswith('sampled') else 2}f}")
    for name in GROWN_AGAIN:
        if name in record:
            shown.add_row(name.replace("_", " "), str(record[name]))
    if "cost" in record:
        shown.add_row("cost", f"{record['cost']:.4g}   {record['cost_per_rollout']:.3g} per rollout")
    shown.add_section()
    for name, count in record.items():
        if name.startswith("ended_"):
            shown.add_row(name.removeprefix("ended_").replace("_", " "), str(count))
    shown.add_section()
    shown.add_row("time", f"{record['seconds']:.1f} s")
    return shown


def _is_shown(name: str, samples: int) -> bool:
    """Whether a measure has a row with its interval: of pass@k, only powers of two and the last."""
    if name == "success" or name in COSTS or name.startswith("difference/"):
        return False
    k = name.removeprefix("pass@")
    return k == name or int(k) in (samples, *(2**power for power in range(samples.bit_length())))


def _interval(record: Mapping[str, Value], name: str, of: str = "") -> str:
    return f"95% interval {record[f'{name}_low{of}']:.3f} – {record[f'{name}_high{of}']:.3f}"


def differences(against: str, found: Mapping[str, Difference]) -> Table:
    """Returns the table of a comparison with another evaluation; see `of_differences`."""
    shown = Table(title=Text(f"Against {against}"), title_justify="left", show_header=False)
    shown.add_column(style="dim")
    shown.add_column()
    for name, one in found.items():
        sure = f"95% interval {one.low:+.3f} – {one.high:+.3f}   p = {one.p:.3g} ({_TESTS[one.test]})"
        told = f"better on {one.better} and worse on {one.worse} of {one.questions} questions"
        shown.add_row(_NAMES.get(name, name), f"[bold]{one.mean:+.3f}[/]   {sure}   {told}")
    return shown
