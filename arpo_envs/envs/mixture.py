"""`ARPO/Mixture-v0`: several environments as one; each episode belongs to one of them, drawn by weight."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.wrappers import TimeLimit

from .. import members
from ..errors import ArpoError, ConfigError, unknown_name
from ..forking import ForkLevel, clone, fork_level, layers, reseed, stack_identity
from ..tasks import TaskSource
from ..tasks.mixture import drawn, mixed, named, parted
from ..tools import ToolResult
from .named import arguments_of, make_env, require_env

USUAL: Mapping[str, float] = {"ARPO/SearchMini-v0": 1.0, "ARPO/Python-v0": 1.0}

_Env = gym.Env[Any, Any]


class Mixture(gym.Env[str, str]):
    r"""Draw each episode from one of several environments, in proportion to their weights.

    An episode is that of a member: question, tools, instructions, reward and limits are its own. `info["env"]` says which
    member it is, and the ids of its tasks begin with the member's id. Before the first episode, the tools and instructions are
    those of all members.

    Args:
        envs: a weight above 0 for the id of each member; default `ARPO/SearchMini-v0` and `ARPO/Python-v0`, equally often.
        arguments: arguments for single members: a mapping from ids to keyword arguments.
        render_mode: None, "ansi", or "human"; the members', which do it.
        common: arguments that every member is made with.

    Raises:
        ConfigError: an id, a weight or an argument is wrong, or members differ in their spaces or their dialect.

    >>> common = {"cities_per_country": 10, "split": "test", "result_characters": 75, "render_mode": "ansi"}
    >>> env = Mixture(envs={"ARPO/Search-v0": 3, "ARPO/Browser-v0": 1}, **common)
    >>> question, info = env.reset(options={"task": "ARPO/Search-v0/city-2886242/country/capital"})
    >>> info["env"], [spec.name for spec in env.tool_specs]
    ('ARPO/Search-v0', ['search'])
    >>> for action in ("<search>Germany</search>", "<answer>Berlin</answer>"):
    ...     result, reward, *_ = env.step(action)
    >>> print(env.render().replace("\n\n", "\n"))
    What is the capital of the country of Köln?
    <search>Germany</search>
    <result>Germany: country in Europe; capital Berlin; currency Euro; calling code 49;… [cut: 395 more characters]</result>
    <answer>Berlin</answer>
    >>> reward
    1.0
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"], "render_fps": 1}  # type: ignore[misc]  # Gymnasium declares it on instances
    shared: ClassVar[frozenset[str]] = frozenset({"weights", "tasks", "spec"})
    configuration: ClassVar[frozenset[str]] = shared | {"render_mode"}

    def __init__(
        self,
        *,
        envs: Mapping[str, float] | None = None,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        render_mode: str | None = None,
        **common: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode must be None, 'ansi' or 'human', got {render_mode!r}.")
        self.weights = _weights(USUAL if envs is None else envs)
        own = {_id(name): dict(given) for name, given in (arguments or {}).items()}
        for name in own:
            if name not in self.weights:
                raise unknown_name("environment of the mixture in arguments=", name, self.weights)
        self.render_mode = render_mode
        shown = {} if render_mode is None else {"render_mode": render_mode}
        self.mixed: dict[str, _Env] = {}
        try:
            for name in self.weights:
                self.mixed[name] = _made(name, {**shown, **common}, own.get(name, {}))
            self._require_agreement()
        except BaseException:
            self.close()
            raise
        first = next(iter(self.mixed.values()))
        self.observation_space = copy.deepcopy(first.observation_space)
        self.action_space = copy.deepcopy(first.action_space)
        sources: dict[str, TaskSource | None] = {name: members.TASKS.through(env) for name, env in self.mixed.items()}
        known = {name: source for name, source in sources.items() if source is not None}
        self.tasks = mixed(known, self.weights) if len(known) == len(sources) else None
        self.member: str | None = None
        self._last: tuple[Any, dict[str, Any]] = ("", {})

    def _require_agreement(self) -> None:
        (first, env), *others = self.mixed.items()
        for name, other in others:
            pairs: dict[str, tuple[object, object]] = {
                "observation space": (env.observation_space, other.observation_space),
                "action space": (env.action_space, other.action_space),
                "dialect": (_dialect_name(env), _dialect_name(other)),
            }
            for what, (one, two) in pairs.items():
                if one != two:
                    raise ConfigError(
                        f"The environments of a mixture need the same {what}: {first} has {one}, {name} has {two}. "
                        "Give them equal arguments, or leave one out."
                    )

    # --- Gymnasium's interface ----------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Draws a member, and starts an episode in it.

        Args:
            seed: as in Gymnasium; it decides both.
            options: the member's; `{"task": "ID/TASK"}` asks for one task of one member instead.

        Raises:
            ConfigError: no member has that task, or the member does not know an option.
        """
        super().reset(seed=seed)
        name, of_member = drawn(self.weights, self.np_random), int(self.np_random.integers(2**31))
        if options and "task" in options:
            name, task = parted(str(options["task"]), self.mixed)
            options = {**options, "task": task}
        before, env = self.member, self.mixed[name]
        observation, info = env.reset(seed=of_member, options=options)  # what it refuses ends no episode
        if before not in (None, name):
            members.RELEASE.of(self.mixed[before].unwrapped)()
        self.member = name
        return self._returned(observation, info)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Takes one action in the episode's member.

        Raises:
            ResetNeeded: the episode has ended, or never began.
        """
        observation, reward, terminated, truncated, info = self._running.step(action)
        observation, info = self._returned(observation, info)
        return observation, reward, terminated, truncated, info

    def render(self) -> Any:
        """Returns what the episode's member renders.

        Raises:
            ResetNeeded: no episode was started.
        """
        return self._running.render()

    def close(self) -> None:
        """Closes every member."""
        for env in self.mixed.values():
            env.close()

    # --- what a renderer, a trainer and wrappers need: the episode's member's own ----------------------

    @property
    def instructions(self) -> str:
        """How an action of this episode must be written; before the first, what all members say."""
        return "\n\n".join(dict.fromkeys(str(members.INSTRUCTIONS.through(env)) for env in self._asked()))

    @property
    def tool_specs(self) -> tuple[Any, ...]:
        """The tools of this episode; before the first, those of all members, one of each name."""
        specs = [spec for env in self._asked() for spec in members.TOOL_SPECS.through(env)]
        return tuple({spec.name: spec for spec in reversed(specs)}.values())[::-1]

    @property
    def dialect(self) -> Any:
        """How this episode's actions are read; before the first, the first member's."""
        return members.DIALECT.through(self._asked()[0])

    @property
    def task(self) -> Any:
        """The task of the episode, with the id that it has in the mixture."""
        task = members.TASK.through(self._running)
        return task if task is None or self.tasks is None else named(str(self.member), task)

    @property
    def max_turns(self) -> float:
        """Actions until this episode is truncated; before the first, the most of any member."""
        return max(_turns(env) for env in self._asked())

    @property
    def max_tool_calls(self) -> int:
        """Calls that are executed in this episode; before the first, the most of any member."""
        return max(int(env.get_wrapper_attr("max_tool_calls")) for env in self._asked())

    @property
    def tool_timeout(self) -> float:
        """Seconds that one call may take in this episode; before the first, the most of any member."""
        return max(members.TOOL_TIMEOUT.through(env) for env in self._asked())

    @property
    def tools(self) -> tuple[Any, ...]:
        """The tools of all members."""
        return tuple(tool for env in self.mixed.values() for tool in members.TOOLS.of(env.unwrapped))

    @property
    def withhold(self) -> Callable[[str, ToolResult], None] | None:
        """What makes the next step return a result for a call; None where a member that is asked for has no such method."""
        found = [members.WITHHOLD.through(env) for env in self._asked()]
        return found[0] if None not in found else None

    @property
    def agent(self) -> str:
        """Whose side of a game this episode is; empty where it is no game, and before the first."""
        return "" if self.member is None else members.AGENT.through(self._running)

    def measures(self) -> Mapping[str, float]:
        """Returns the numbers that tell how the episode went so far, as its member measures it."""
        return members.MEASURES.through(self._running)()

    def forfeit(self) -> float | None:
        """Returns what the episode would pay if it ended now without an answer."""
        return members.FORFEIT.through(self._running)()

    def anchor(self) -> str | None:
        """Returns the member's name of the state, after the member's id."""
        state = None if self.member is None else members.ANCHOR.through(self._running)()
        return None if state is None else f"{self.member}/{state}"

    # --- what forking needs ---------------------------------------------------------------------------

    @property
    def fork_level(self) -> ForkLevel:
        """The lowest level of the members; each episode forks as its member does."""
        return min(fork_level(env) for env in self.mixed.values())

    @property
    def sessions(self) -> Mapping[Any, Any]:
        """The sessions of the running episode, some of which its member may have opened since it began."""
        return {} if self.member is None else members.SESSIONS.of(self._running.unwrapped)

    @property
    def sub_envs(self) -> Mapping[str, _Env]:
        """The members, in each of which `restore` goes back."""
        return self.mixed

    @property
    def replayed_calls(self) -> int:
        """Tool calls that were run again to make this episode."""
        return 0 if self.member is None else int(members.REPLAYED_CALLS.of(self._running.unwrapped))

    def last(self) -> tuple[Any, dict[str, Any]]:
        """Returns the observation and info that the last reset or step returned."""
        return copy.deepcopy(self._last)

    def identity(self) -> str:
        """Returns the weights and the identity of every member."""
        return " + ".join(f"{self.weights[name]}*{name}{stack_identity(env)}" for name, env in self.mixed.items())

    def release(self) -> None:
        """Closes the sessions of the running episode."""
        if self.member is not None:
            members.RELEASE.of(self.mixed[self.member].unwrapped)()

    def reseed(self, seed: int) -> None:
        """Makes the draw of later members, and all that is random in the running episode, a function of `seed`."""
        own, of_member = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
        self.np_random, _ = seeding.np_random(own)
        if self.member is not None:
            reseed(self._running, of_member)

    def copied_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Returns a copy of all attributes: shared ones by reference, every member as a stack of its own.

        Raises:
            CloneError: a session of the running episode could not be cloned.
        """
        state = {name: value for name, value in vars(self).items() if name in self.shared}
        own = [name for name in vars(self) if name not in {*self.shared, "mixed"}]
        state |= {name: copy.deepcopy(vars(self)[name], memo) for name in own}
        # last: nothing can fail after the running one, and leak its sessions
        order = sorted(self.mixed, key=lambda name: name == self.member)
        copies = {name: _copied(self.mixed[name], memo) for name in order}
        state["mixed"] = {name: copies[name] for name in self.mixed}
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> "Mixture":
        """Makes a user's own `copy.deepcopy` correct, too."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(self.copied_state(memo))
        return twin

    # --- in pieces ------------------------------------------------------------------------------------

    @property
    def _running(self) -> _Env:
        if self.member is None:
            raise gym.error.ResetNeeded("Call reset() before anything else: it draws the environment.")
        return self.mixed[self.member]

    def _asked(self) -> list[_Env]:
        """Returns the member of the episode, or all of them before the first."""
        return [*self.mixed.values()] if self.member is None else [self._running]

    def _returned(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Says in info which member it was, and remembers a copy of what is returned."""
        info = {**info, "env": self.member}
        if "task" in info:
            info["task"] = f"{self.member}/{info['task']}"
        self._last = copy.deepcopy((observation, info))
        return observation, info


def _id(name: str) -> str:
    """Returns the id of an environment, whose package may be named before it."""
    return name.rpartition(":")[2]


def _weights(envs: Mapping[str, float]) -> dict[str, float]:
    """Returns the weights by id, after importing the packages of the environments.

    Raises:
        ConfigError: there is no environment, an id is unknown or given twice, or a weight is no number above 0.
    """
    if not isinstance(envs, Mapping) or not envs:
        raise ConfigError(f"envs must map environment ids to weights, e.g. {dict(USUAL)}, got {envs!r}.")
    found: dict[str, float] = {}
    for name, weight in envs.items():
        known = require_env(name)
        if known in found:
            raise ConfigError(f"{known} is in the mixture twice. Add its weights up.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ConfigError(
                f"The weight of {name} must be a number above 0, got {weight!r}. Leave it out if it must not occur."
            )
        found[known] = float(weight)
    return found


def _made(name: str, common: Mapping[str, Any], own: Mapping[str, Any]) -> _Env:
    """Makes a member; an argument that is not for it, but for every member, is refused with what to do instead."""
    try:
        return make_env(name, {**common, **own})
    except ConfigError as error:
        if set(common) <= set(arguments_of(name)):
            raise
        hint = "It is given to every environment of the mixture; for one of them, write arguments={ID: {NAME: VALUE}} in Python"
        raise ConfigError(f"{error} {hint}, ID:NAME=VALUE on the command line.") from error


def _dialect_name(env: _Env) -> str | None:
    dialect = members.DIALECT.through(env)
    return None if dialect is None else str(getattr(dialect, "name", type(dialect).__name__))


def _turns(env: _Env) -> float:
    """Returns the lowest limit on an environment's actions, Gymnasium's own included."""
    limits = [layer._max_episode_steps for layer in layers(env) if isinstance(layer, TimeLimit)]
    return min([members.MAX_TURNS.through(env), *limits])


def _copied(env: _Env, memo: dict[int, Any]) -> _Env:
    """Returns a copy of a member; if that fails, what was already copied of it is freed.

    Raises:
        NotForkable: an attribute cannot be copied; `clone` of the member alone says which.
    """
    try:
        return copy.deepcopy(env, memo)
    except ArpoError:
        _release_half(env, memo)
        raise
    except Exception:
        _release_half(env, memo)
        clone(env).close()
        raise


def _release_half(env: _Env, memo: dict[int, Any]) -> None:
    twin = memo.get(id(env.unwrapped))
    if twin is not None and members.SESSIONS.of(twin):
        members.RELEASE.of(twin)()
