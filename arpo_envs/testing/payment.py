"""Whether what an environment pays is a finite number: NaN or infinity would spoil every advantage of its batch."""

from collections.abc import Iterator
from typing import Any

from ..members import FORFEIT
from .bench import Bench, Script
from .laws import Law
from .report import Finding
from .runs import Env
from .scripts import speaking

_LARGEST = 1e18
"""In size; `collect` takes no larger one: its square overflows in single precision."""
_ODD_ANSWERS = ("", "0", "-1", "1/0", "nan", "-inf", "1e999", "9" * 5000, "x", "(" * 50, "🙂")
_HINT = "A reward rule pays a finite number for whatever a model wrote; an answer with NaN or infinity is a wrong answer."


def numbers(bench: Bench) -> Iterator[Finding]:
    """Every reward and success in the given episodes and, where answers can be given, for odd answers and right ones."""
    for seed, actions, _ in bench.episodes():
        yield from _paid(bench, seed, actions)
    seed, actions, _ = next(bench.episodes())
    for script in _answers(bench, seed):
        yield from _paid(bench, seed, script)
        yield from _paid(bench, seed, (*actions[:1], *script))


def _answers(bench: Bench, seed: int) -> list[Script]:
    with bench.env() as env:
        env.reset(seed=seed)
        base = speaking(env)
        if base is None:
            return []
        return [(base.dialect.answer(text),) for text in (*getattr(base.task, "answers", ()), *_ODD_ANSWERS)]


def _paid(bench: Bench, seed: int, actions: Script) -> Iterator[Finding]:
    with bench.env() as env:
        env.reset(seed=seed)
        for number, action in enumerate(actions, start=1):
            where = f"step {number}, seed {seed}, after the action {_short(action)}"
            try:
                _, reward, terminated, truncated, info = env.step(action)
                forfeit = _forfeit(env)
            except Exception as error:  # noqa: BLE001  # whatever it is, nothing was paid
                happened = f"{type(error).__name__} was raised: {str(error)[:200]}; {where}"
                yield Finding(Law.NUMBERS, happened, "a reward", _HINT)
                return
            for what, value in (("the reward", reward), ("forfeit()", forfeit)):
                if not _lies_in(value, -_LARGEST, _LARGEST):
                    happened = f"{what} is {_short(value)}; {where}"
                    yield Finding(Law.NUMBERS, happened, f"a finite number between -{_LARGEST:g} and {_LARGEST:g}", _HINT)
            success = info.get("success")
            if success is not None and not _lies_in(success, 0.0, 1.0):
                hint = "Success is the share of a right answer that this one is, whatever the reward."
                yield Finding(Law.NUMBERS, f"info['success'] is {_short(success)}; {where}", "a number from 0 to 1", hint)
            if terminated or truncated:
                return


def _forfeit(env: Env) -> Any:
    """Returns what the environment would pay if the episode ended here without an answer; 0 if it does not say."""
    paid = FORFEIT.of(env.unwrapped)()
    return 0.0 if paid is None else paid


def _lies_in(value: Any, least: float, most: float) -> bool:
    if isinstance(value, str | bytes):
        return False
    try:
        return least <= float(value) <= most
    except (TypeError, ValueError, OverflowError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
