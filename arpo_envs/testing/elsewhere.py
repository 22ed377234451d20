"""Laws about where and how long an environment works: in any thread, and no longer than a tool may take."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..core import ToolEnv
from ..forking import ForkLevel, clone
from .bench import Bench, Script
from .report import Finding, SkippedLaw
from .runs import Env, Step, act, start
from .threading_laws import Played, Run, any_thread
from .timeouts import TELLING, Timed, overruns


def threads(bench: Bench) -> Iterator[Finding]:
    """Every step in a different thread from the one before, a clone's too; then several episodes at once."""
    for seed in bench.seeds:
        actions = next(actions for other, actions, _ in bench.episodes() if other == seed)
        yield from any_thread(partial(_forked, bench, seed, actions), partial(_whole, bench, seed, actions))


def _forked(bench: Bench, seed: int, actions: Script, run: Run) -> Played:
    cut = len(actions) // 2
    env: Env = run(bench.make)
    try:
        played = [("reset", vars(run(start, env, seed))), *_steps("the original", env, actions[:cut], run)]
        if played[-1][1]["terminated"] or played[-1][1]["truncated"]:
            return played
        if bench.level is not ForkLevel.NONE:
            twin: Env = run(clone, env)
            played += _steps("a clone", twin, actions[cut:], run)
            run(twin.close)
        played += _steps("the original", env, actions[cut:], run)
    finally:
        run(env.close)
    return played


def _steps(who: str, env: Env, actions: Sequence[Any], run: Run) -> Played:
    played: list[tuple[str, Mapping[str, Any]]] = []
    for action in actions:
        step: Step = run(act, env, [action])[0]
        played.append((f"{who}, stepped with {str(action)[:60]!r}", vars(step)))
        if step.over:
            break
    return played


def _whole(bench: Bench, seed: int, actions: Script) -> Played:
    _, trace = bench.reference(seed, actions)
    return [(f"step {number}", vars(step)) for number, step in enumerate(trace, start=1)]


def on_time(bench: Bench) -> Iterator[Finding]:
    """Every step that runs a tool returns within `tool_timeout`.

    Raises:
        SkippedLaw: no step takes long enough to tell, or the environment is not a `ToolEnv`.
    """
    told = False
    for seed, actions, _ in bench.episodes():
        with bench.env() as env:
            base = env.unwrapped
            if not isinstance(base, ToolEnv):
                raise SkippedLaw("only a ToolEnv says how long a tool may take")
        found, telling = overruns(partial(_timed, bench, seed, actions), base.tool_timeout)
        yield from found
        if found:
            return
        told = told or telling
    if not told:
        raise SkippedLaw(f"no tool took longer than {TELLING} s, and no other shows its timeout")


def _timed(bench: Bench, seed: int, actions: Script) -> tuple[list[Timed], Callable[[], object]]:
    env = bench.make()
    start(env, seed)

    def step(action: object, seconds: float) -> bool:
        env.unwrapped.tool_timeout = seconds  # type: ignore[attr-defined]  # a ToolEnv's
        try:
            *_, info = env.step(action)
        except Exception:  # noqa: BLE001  # other laws find it
            return False
        return bool(info.get("tool"))

    return [Timed(f"step {i}, {str(action)[:60]!r},", partial(step, action)) for i, action in enumerate(actions, 1)], env.close
