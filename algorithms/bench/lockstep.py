"""The scheduler that others use: all paths generate, all wait; all tools run, all wait.

It is the baseline of a benchmark. It makes the same calls in the same order on the same parts as `collect` without
forks, and its tools run concurrently too; only the two barriers per round differ.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .. import seeds
from ..policies import Policy, Sampling
from ..rendering.renderer import Renderer
from ..rollout import Limits, MakeEnv, Start, TextEnv


@dataclass
class _Path:
    """One episode in progress."""

    env: TextEnv
    context: list[int]
    seed: int
    turn: int = 0


async def collect_lockstep(
    make_env: MakeEnv, tasks: Sequence[Start], policy: Policy, renderer: Renderer, *, seed: int, limits: Limits = Limits()
) -> list[list[int]]:
    """Plays one path per task, a round at a time; returns each path's token ids, prompt included.

    Args:
        make_env: as for `collect`.
        tasks: the episodes.
        policy: draws the actions.
        renderer: speaks the environment's dialect and the policy's tokens.
        seed: of the draws.
        limits: longest action, threads and temperature are used.

    Source: the rollout loop of ARPO's reference code: generate for all active paths, run all tools, repeat.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(min(limits.threads, len(tasks))) as threads:

        def begin(index: int) -> _Path:
            env = make_env()
            options = tasks[index].options
            text, _ = env.reset(seed=tasks[index].seed, options=dict(options) if options is not None else None)
            tokens = renderer.start(env.get_wrapper_attr("instructions"), str(text), env.get_wrapper_attr("tool_specs"))
            return _Path(env, list(tokens), seeds.derive(seed, index))

        def act(path: _Path, tokens: Sequence[int]) -> bool:
            """Takes a step; returns whether the episode continues."""
            observation, _, terminated, truncated, _ = path.env.step(renderer.action(renderer.text(tokens)))
            path.context += tokens
            if terminated or truncated:
                path.env.close()
                return False
            room = policy.context_length - len(path.context) - limits.answer_reserve
            seen = renderer.observation(str(observation), room)
            path.context += seen.tokens
            path.turn += 1
            if not seen.fits:
                path.env.close()
            return seen.fits

        paths = await asyncio.gather(*(loop.run_in_executor(threads, begin, index) for index in range(len(tasks))))
        stop = tuple(paths[0].env.get_wrapper_attr("dialect").stop)
        params = Sampling(limits.action_tokens, limits.temperature, stop, renderer.stop_tokens)
        live = list(paths)
        while live:
            drawn = await asyncio.gather(
                *(policy.generate(path.context, params, seed=seeds.derive(path.seed, path.turn)) for path in live)
            )
            going = await asyncio.gather(
                *(loop.run_in_executor(threads, act, path, action.tokens) for path, action in zip(live, drawn, strict=True))
            )
            live = [path for path, goes in zip(live, going, strict=True) if goes]
    return [path.context for path in paths]
