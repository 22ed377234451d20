"""One tree from its first prompt to its last leaf: opens the episode, plants what the strategy plans, closes everything.

Also the first prompt itself: its tokens, and whether they leave room for an answer.
"""

from collections.abc import Sequence
from typing import Any

from arpo_envs import ConfigError, ForkLevel, fork_level, members

from ..branching.strategy import Grow
from ..policies import Policy
from ..rendering.renderer import CALLS, WITH_INSTRUCTIONS, Renderer
from ..rendering.text import require_dialect
from ..tree import NO_PARENT, Origin, RolloutTree, Status
from . import door
from .growth import Growth
from .run import Limits, MakeEnv, Run, Start, TextEnv, split_evenly
from .trajectory import Trajectory

_LOOKED_AT = 4


async def grow(growth: Growth) -> None:
    """Grows a tree to its budget, or until the strategy plans no more, and freezes it."""
    clock = growth.run.clock
    try:
        if await _open(growth):
            plans = 0
            while growth.left > 0:
                await clock.tick((growth.index,))
                plan = _planned(growth, plans)
                if not plan:
                    break
                for wish in plan:
                    await _plant(growth, wish, _origin(wish, first=plans == 0))
                plans += 1
                if growth.running:
                    async with clock.away():
                        await growth.quiet()
    finally:
        async with clock.away():
            await growth.environments.close()
        growth.tree = growth.tree.freeze()
        growth.report()


async def _open(growth: Growth) -> bool:
    """Starts the episode and adds the prompt; if that fails, adds only failed leaves and returns False."""
    run = growth.run
    try:
        env, text, info = await growth.environments.open()
    except Exception as error:  # noqa: BLE001  # an environment may fail in any way; the other prompts go on
        growth.add("prompt", (), NO_PARENT, 0, ())
        growth.give_up(Status.TOOL_TIMEOUT if isinstance(error, TimeoutError) else Status.TOOL_FAULT, error)
        return False
    text, growth.tree.task = door.writable(text), door.writable(str(info.get("task", "")))
    growth.agent = door.writable(str(members.AGENT.through(env)))
    if (member := members.MEMBER.through(env)) is not None:
        growth.tree.meta["env"] = door.writable(member)
    tokens: tuple[int, ...] = ()
    fault: tuple[Status, Exception] | None = None
    _require_fit(run, env)
    try:
        growth.tree.meta |= door.writable_value(_provenance(env) | spoken(env, run.renderer))
        tokens = prompt(env, text, run.renderer)
    except Exception as error:  # noqa: BLE001  # on this text; others may work
        fault = Status.RENDERER_FAULT, error
    else:
        long = too_long(len(tokens), run.limits.answer_reserve, run.policy.context_length)
        if long is not None:
            tokens, fault = (), (Status.PROMPT_TOO_LONG, long)
    growth.add("prompt", (), NO_PARENT, 0, tokens, text=text)
    if fault is not None:
        growth.give_up(*fault)
    return fault is None


def _provenance(env: TextEnv) -> dict[str, Any]:
    """Returns what is known of where an episode's task is from, so that a tree says by itself whether it may be passed on."""
    member = members.MIXED.through(env).get(str(members.MEMBER.through(env)), env)
    source, task = members.TASKS.through(member), members.TASK.through(member)
    found: dict[str, Any] = {"source": str(source.name)} if hasattr(source, "name") else {}
    found |= members.PROVENANCE.of(source)(task) if task is not None else {}
    return {name: found[name] for name in ("tasks", "source", "benchmark", "gated") if name in found}


def _require_fit(run: Run, env: TextEnv) -> None:
    """Refuses an environment that the renderer or the strategy cannot work with.

    Raises:
        ConfigError: it speaks another dialect, or cannot be cloned for a strategy that forks.
    """
    dialect = members.DIALECT.through(env)
    if dialect is not None:
        require_dialect(run.renderer, dialect)
    if run.branching.forks and fork_level(env) is ForkLevel.NONE:
        raise ConfigError(f"{env} cannot be cloned, but {run.branching} forks. Use an algorithm without forks.")


def _planned(growth: Growth, plans: int) -> list[Grow]:
    """Returns where to grow next; if the strategy fails, adds failed leaves and returns nothing."""
    branching = growth.run.branching
    try:
        plan = [wish for wish in branching.plan(growth.tree, growth.left, growth.generator("plan", plans)) if wish.count > 0]
        for wish in plan:
            _require_place(wish, growth.tree, inside=branching.keeps == "action")
    except Exception as error:  # noqa: BLE001  # a strategy may fail in any way; the other trees go on
        growth.give_up(Status.BRANCHING_FAULT, error)
        return []
    return plan


def _require_place(wish: Grow, tree: RolloutTree, *, inside: bool) -> None:
    """Refuses a place where nothing can grow.

    Args:
        wish: of the strategy.
        tree: so far.
        inside: whether snapshots are kept, from which a tree can grow inside.

    Raises:
        ConfigError: there is no such place.
    """
    if not 0 <= wish.node < len(tree.nodes):
        raise ConfigError(f"{wish}: the tree has {len(tree.nodes)} nodes.")
    node = tree.nodes[wish.node]
    if wish.node != 0 and not inside:
        raise ConfigError(f"{wish}: to grow inside a tree, a strategy must declare keeps='action'.")
    within = node.kind == "action" and 0 < wish.at < len(node.tokens)
    if not within and (node.kind == "action" or wish.at != len(node.tokens)):
        raise ConfigError(f"{wish}: grow after the whole prompt or observation, or strictly inside an action.")


def _origin(wish: Grow, *, first: bool) -> Origin:
    """Returns how the trajectories of a plan come to be."""
    if wish.node != 0:
        return "branch"
    return "root" if first or wish.fresh else "backfill"


async def _plant(growth: Growth, wish: Grow, origin: Origin) -> None:
    """Launches the trajectories of one `Grow`, each in the state before the action that it begins or continues."""
    tree = growth.tree
    base = wish.node
    while tree.nodes[base].kind == "action":
        base = tree.nodes[base].parent
    keys = growth.allot(wish.node, min(wish.count, growth.left))
    envs = await growth.environments.after(base, [growth.seed(key, "env") for key in keys])
    context = tree.tokens_before(wish.node, wish.at)
    forced = tuple(context[len(tree.tokens(base)) :])
    quotas = split_evenly(growth.left, len(keys)) if origin == "root" else [0] * len(keys)
    for key, env, quota in zip(keys, envs, quotas, strict=True):
        Trajectory(
            growth, key=key, parent=wish.node, parent_at=wish.at, origin=origin, quota=quota, context=[*context], prefix=forced
        ).launch(env)


# --- the first prompt -------------------------------------------------------------------------------------


def prompt(env: TextEnv, text: str, renderer: Renderer) -> tuple[int, ...]:
    """Returns the tokens of an episode's first prompt."""
    asked = str(members.INSTRUCTIONS.through(env) or ""), text, tuple(members.TOOL_SPECS.through(env) or ())
    examples = members.EXAMPLES.through(env)
    return tuple(renderer.start(*asked, examples) if examples else renderer.start(*asked))


def spoken(env: TextEnv, renderer: Renderer) -> dict[str, Any]:
    """Returns what it takes to read a tree's actions later, as JSON values; nothing where no dialect is spoken.

    Args:
        env: gives the dialect and the tools.
        renderer: says whether the model was shown the instructions, and whether it writes calls in a format of its own.
    """
    dialect = members.DIALECT.through(env)
    if dialect is None:
        return {}
    found = {"dialect": dialect.name, "tools": [spec.function() for spec in members.TOOL_SPECS.through(env) or ()]}
    if (calls := CALLS.of(renderer)) is not None:
        found["calls"] = calls.name
    if WITH_INSTRUCTIONS.of(renderer) and (instructions := str(members.INSTRUCTIONS.through(env) or "")):
        found["instructions"] = instructions
    return found


def too_long(length: int, reserve: int, context_length: int) -> ConfigError | None:
    """Returns the error for a prompt that leaves no room for an answer; None if it does leave room.

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
    """Checks, before the long work, that prompts fit into the context: at least one of the first few must.

    Args:
        make_env: as for `collect`, like the other arguments.
        tasks: episodes; only the first few are checked.
        policy: gives the length of the context.
        renderer: writes the prompts.
        limits: give the number of tokens to reserve.

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
