"""One episode of any id, as hubs play it: an action is a text or a function call, what comes back is a value."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import gymnasium as gym

from ..errors import ArpoError, ConfigError
from ..forking import clone
from ..members import DIALECT, FORFEIT, INSTRUCTIONS, MEASURES, TOOL_SPECS
from ..spaces import TextSpace
from ..tools.ready import require_ready
from ..tools.spec import ToolSpec
from .calls import ANSWER, require_fitting

_LOG = logging.getLogger(__name__)

_LONGEST_ID = 1000
"""Characters of an id that a client sends."""

REFUSALS = (ArpoError, gym.error.Error)
"""What is raised for a client's mistake or a lost tool: the message may be shown to the client."""


@dataclass(frozen=True)
class Step:
    """What an environment returned: Gymnasium's five-tuple by name; after a reset the reward is 0.

    Args:
        observation: what the model reads next.
        reward: of this step.
        terminated: whether the model has answered.
        truncated: whether the environment has ended the episode.
        info: numbers, strings and other values that never change.
    """

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


class Episode:
    """An environment with the episode that it plays.

    Args:
        env: any stack of text environments; it is closed with the episode.

    >>> import gymnasium as gym, arpo_envs
    >>> episode = Episode(gym.make("ARPO/Search-v0", cities_per_country=2))
    >>> question = episode.reset(seed=7)
    >>> episode.call("search", {"query": "Adamstown"}).observation[:17]
    '<result>Adamstown'
    >>> episode.call("answer", {"text": "no idea"}).terminated
    True
    """

    def __init__(self, env: "gym.Env[str, str]") -> None:
        self.env = env
        self.earned = 0.0
        """Sum of the rewards since the last reset."""
        self._last: Step | None = None

    @property
    def last(self) -> Step:
        """What the last reset or step returned.

        Raises:
            gymnasium.error.ResetNeeded: there was none.
        """
        if self._last is None:
            raise gym.error.ResetNeeded("No episode has begun: call reset first.")
        return self._last

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The environment's tools, and `ANSWER`.

        Raises:
            ConfigError: the environment reads no calls.
        """
        if DIALECT.through(self.env) is None:
            raise ConfigError(f"{self.env} reads actions as they are: it offers no tools that could be called as functions.")
        return (*TOOL_SPECS.through(self.env), ANSWER)

    @property
    def guidance(self) -> str:
        """What the environment tells a model besides how calls are written, which is the hub's affair."""
        dialect = DIALECT.through(self.env)
        return INSTRUCTIONS.through(self.env).removesuffix(dialect.instructions() if dialect is not None else "").strip()

    @property
    def instructions(self) -> str:
        """All that the environment tells a model, for hubs in which an action is a text."""
        return INSTRUCTIONS.through(self.env)

    @property
    def stop_strings(self) -> list[str]:
        """Strings after which an action is likely to be complete."""
        dialect = DIALECT.through(self.env)
        return list(dialect.stop) if dialect is not None else []

    def reset(self, *, seed: int | None = None, task: str | None = None) -> Step:
        """Begins an episode: of a task by its id, or of one drawn with the seed, which may be an integer of NumPy.

        Raises:
            ConfigError: one of them is something else, or no task has that id.
        """
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0):
            raise ConfigError(f"A seed is a whole number of at least 0, got {seed!r:.60}.")
        require_id("A task", task)
        options = None if task is None else {"task": task}
        observation, info = self.env.reset(seed=None if seed is None else int(seed), options=options)
        self.earned = 0.0
        self._last = Step(observation, 0.0, False, False, info)
        return self._last

    def act(self, action: Any) -> Step:
        """Takes one action, a text as the environment's dialect wants it.

        Raises:
            ConfigError: it is not a string, too long, or contains lone surrogates.
            gymnasium.error.ResetNeeded: the episode is over or never began.
        """
        space = self.env.action_space
        if not space.contains(action):
            longest = space.max_length if isinstance(space, TextSpace) else 0
            text = f"text of at most {longest:,} characters without lone surrogates" if longest else str(space)
            size = f"{len(action):,} characters" if isinstance(action, str) else type(action).__name__
            raise ConfigError(f"An action is {text}; this one is {size}.")
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.earned += float(reward)
        self._last = Step(observation, float(reward), terminated, truncated, info)
        return self._last

    def call(self, name: str, arguments: Mapping[str, Any]) -> Step:
        """Calls a tool, or `ANSWER`.

        Raises:
            ConfigError: no tool has that name, or its arguments do not fit; that costs no turn. Also what `act` raises.
        """
        require_fitting(name, arguments, self.tools)
        dialect = DIALECT.through(self.env)
        return self.act(dialect.answer(arguments["text"]) if name == ANSWER.name else dialect.call(name, arguments))

    def score(self) -> float:
        """Returns what the episode has earned; one that has not ended also gets what ending without an answer pays."""
        return self.earned if self.last.done else self.earned + float(FORFEIT.through(self.env)() or 0.0)

    def numbers(self) -> dict[str, float]:
        """Returns the numbers of the last `info`, and what the environment measures, by name."""
        found = {name: float(value) for name, value in self.last.info.items() if isinstance(value, int | float)}
        return {**found, **MEASURES.through(self.env)()}

    def tasks(self, seeds: Iterable[int]) -> list[str | None]:
        """Returns the ids of the tasks that these seeds draw; None for each where an id begins no task."""
        drawn = [self.reset(seed=seed).info.get("task") for seed in seeds]
        try:
            named = not drawn or self.reset(task=drawn[0]).info.get("task") == drawn[0]
        except ConfigError:
            named = False
        return drawn if named else [None] * len(drawn)

    def clone(self, seed: int | None = None) -> "Episode":
        """Returns an independent copy in the middle of the episode; `seed` as in `arpo_envs.clone`.

        Raises:
            NotForkable, CloneError: as `arpo_envs.clone`.
        """
        twin = Episode(clone(self.env, seed=seed))
        twin.earned, twin._last = self.earned, self._last
        return twin

    def close(self) -> None:
        """Frees the environment."""
        self.env.close()


def require_id(what: str, given: Any) -> None:
    """Checks an id that a client sends, if it sends one.

    Raises:
        ConfigError: it is not a string, or too long.
    """
    if given is not None and not (isinstance(given, str) and len(given) <= _LONGEST_ID):
        size = f"{len(given):,} characters" if isinstance(given, str) else f"{given!r:.60}"
        raise ConfigError(f"{what} is named by its id, a string of at most {_LONGEST_ID:,} characters, got {size}.")


def close_each(episodes: Iterable[Episode]) -> None:
    """Closes episodes of which nobody waits for the end: a failure is logged, and the others are closed all the same."""
    for episode in episodes:
        try:
            episode.close()
        except Exception:  # noqa: BLE001  # an environment may fail in any way; whoever is calling can do nothing about it
            _LOG.exception("%s could not be closed", episode.env)


def begin(make: Callable[[], Episode], *, seed: int | None = None, task: str | None = None) -> Episode:
    """Makes an episode and resets it; one that cannot begin is closed.

    Raises:
        ConfigError: no task has that id.
    """
    episode = make()
    try:
        episode.reset(seed=seed, task=task)
    except BaseException:
        close_each([episode])
        raise
    return episode


def maker(env_id: str, arguments: Mapping[str, Any]) -> Callable[[], Episode]:
    """Returns what makes an episode of an id, as `gym.make(env_id, **arguments)` makes the environment.

    It raises `ConfigError` if the tools cannot be called, such as for want of a key: hubs make an episode to play it, or to
    find out before they serve whether they can. Gymnasium's passive checker is left out: after a first reset that was refused,
    it fails at every step.
    """

    def make() -> Episode:
        episode = Episode(gym.make(env_id, **{"disable_env_checker": True, **arguments}))
        try:
            require_ready(episode.env)
        except BaseException:
            close_each([episode])
            raise
        return episode

    return make
