"""The first prompt of an episode: its tokens, and whether they leave room for an answer."""

from collections.abc import Sequence

from arpo_envs import ConfigError, members

from ..policies import Policy
from ..rendering import Renderer
from .limits import Limits, MakeEnv, Start, TextEnv

_LOOKED_AT = 4


def prompt(env: TextEnv, text: str, renderer: Renderer) -> tuple[int, ...]:
    """Returns the tokens of an episode's first prompt."""
    instructions = str(members.INSTRUCTIONS.through(env) or "")
    return tuple(renderer.start(instructions, text, tuple(members.TOOL_SPECS.through(env) or ())))


def too_long(length: int, reserve: int, context_length: int) -> ConfigError | None:
    """Returns what to say about a prompt that leaves no room for an answer; None about one that does.

    Args:
        length: of the prompt, in tokens.
        reserve: tokens that no observation may fill.
        context_length: of the policy, in tokens.
    """
    if length + reserve <= context_length:
        return None
    return ConfigError(
        f"The prompt has {length} tokens and {reserve} are reserved for the answer, but the policy's "
        f"context holds {context_length}. Shorten the instructions, or use a longer context."
    )


def require_prompts(
    make_env: MakeEnv, tasks: Sequence[Start], policy: Policy, renderer: Renderer, limits: Limits = Limits()
) -> None:
    """Finds out, before the long work, whether prompts fit into the context: one of the first few must.

    Args:
        make_env: see `collect`, like all that follow.
        tasks: episodes to look at; of many, the first few are enough.
        policy: has the context.
        renderer: writes the prompts.
        limits: with the tokens to reserve.

    Raises:
        ConfigError: none fits.
    """
    long: ConfigError | None = None
    for start in tasks[:_LOOKED_AT]:
        env = make_env()
        try:
            text, _ = env.reset(seed=start.seed, options=dict(start.options) if start.options is not None else None)
            tokens = prompt(env, str(text), renderer)
        finally:
            env.close()
        long = too_long(len(tokens), limits.answer_reserve, policy.context_length)
        if long is None:
            return
    if long is not None:
        raise long
