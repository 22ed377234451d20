"""Environments of `verifiers` here: `gym.make("arpo_envs.hubs.from_verifiers:Verifiers/Task-v0", taskset="wordle")`."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym

from ..dialects import Answer, Dialect, Mistake, make_dialect
from ..errors import ConfigError
from ..spaces import TextSpace
from .tried import Tried, make_game

if TYPE_CHECKING:
    from .verifiers_episode import VerifiersEpisode


def make(
    taskset: str,
    *,
    env: str = "",
    seat: str = "",
    config: Mapping[str, Any] | None = None,
    tasks: int = 1000,
    dialect: str = "json",
    tries: Sequence[str] = ("1", "2"),
    fork: str = "auto",
) -> "gym.Env[Any, Any]":
    """Returns an environment whose episodes are those of a taskset of `verifiers`.

    Args:
        taskset: its id, as `vf-eval` takes it.
        env: the id of the environment that plays it; without it the taskset's own, or the one with a single agent.
        seat: the agent that acts; needed if there are several.
        config: what else its `[env]` block says, such as `{"agent": {"max_turns": 6}}`.
        tasks: at most how many of the taskset's tasks are used, the first ones.
        dialect: how calls are written, if it has tools.
        tries: actions with which is found out how it forks; they should make it use its randomness.
        fork: "auto" finds out how it forks; "replay" replays it without trying.

    Raises:
        ConfigError: `verifiers` is not installed, does not know an id, or the environment is of a kind that cannot be stepped.
        NotForkable: it does not repeat.
    """
    settings = {"taskset": taskset, "env": env, "seat": seat, "config": dict(config or {}), "tasks": tasks}
    return make_game(VerifiersTask, fork, {**settings, "dialect": dialect, "tries": list(tries)})


class VerifiersTask(Tried):
    """A conversation in an environment of `verifiers`: an action is the model's reply, and what it reads next is observed.

    A call in an action is a tool call there, an answer a reply in plain text, and a call that is wrong is told here. The
    rewards are paid at the end.

    Args:
        dialect: how calls are written, if it has tools.
        tries: actions with which is found out how it forks.
        settings: the other arguments of `make`, whose errors it raises.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]  # Gymnasium declares it on instances

    def __init__(self, dialect: str, tries: Sequence[str], **settings: Any) -> None:
        try:
            from .verifiers_seats import prepared
        except ImportError as error:
            raise ConfigError(f"verifiers cannot be imported: {error}. `pip install 'arpo-envs[verifiers]'`.") from error
        self._settings, self._tries = json.dumps(settings, sort_keys=True), tries
        self._theirs = prepared(self._settings)
        self.tool_specs = self._theirs.tools
        self.dialect: Dialect | None = make_dialect(dialect, self.tool_specs) if self.tool_specs else None
        self.instructions = self.dialect.instructions() if self.dialect is not None else ""
        self.observation_space, self.action_space = TextSpace(), TextSpace()
        self._episode: VerifiersEpisode | None = None
        self._measured: dict[str, float] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begins an episode of a task that is drawn with the seed; its system prompt comes first in what is observed.

        Raises:
            ConfigError: there are options, or the environment is of a kind that cannot be stepped.
            ToolFault: the environment failed.
        """
        if options:
            raise ConfigError(f"Unknown reset options {sorted(options)}: a task is chosen by the seed, and by `config`.")
        super().reset(seed=seed)
        self.close()
        self._turn, self._measured = 0, {}
        self._task, self._episode = self._theirs.begin(self.np_random)
        observation, *_, info = self._heard(self._episode, "", "reset")
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Replies.

        Raises:
            ResetNeeded: the episode is over, or never began.
            ToolFault: the environment failed.
        """
        if (episode := self._episode) is None:
            raise gym.error.ResetNeeded("The episode is over (or never began): call reset() before step().")
        self._turn += 1
        read = Answer(action) if self.dialect is None else self.dialect.parse(action)
        if isinstance(read, Mistake):  # of which their tools cannot hear
            assert self.dialect is not None
            return self.dialect.result(read.text, trusted=True), 0.0, False, False, self._info("", "mistake")
        if isinstance(read, Answer):
            episode.reply(read.text)
            return self._heard(episode, "reply", "ok")
        episode.call(read.tool, read.arguments)
        return self._heard(episode, read.tool, "ok")

    def _info(self, tool: str, status: str) -> dict[str, Any]:
        return {"turn": self._turn, "tool": tool, "status": status, "task": self._task}

    def _heard(self, episode: "VerifiersEpisode", tool: str, status: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Waits until the model is asked again or the episode has ended, and returns what `step` does."""
        info = self._info(tool, status)
        try:
            told = episode.next()
        except BaseException:
            self.close()
            raise
        if told.over:
            self.close()
            self._measured = told.numbers
            info["success"] = float(told.reward >= 1)
        return told.text(self.dialect), told.reward, told.over and not told.truncated, told.truncated, info

    def measures(self) -> dict[str, float]:
        """Returns the rewards and metrics of the episode by their names, when it has ended."""
        return dict(self._measured)

    def tries(self) -> Sequence[str]:
        """Returns actions with which is found out how it forks."""
        return self._tries

    def identity(self) -> str:
        """Returns what a snapshot's environment and this one must agree on."""
        return self._settings

    def close(self) -> None:
        """Ends the episode, and all that runs for it."""
        episode, self._episode = self._episode, None
        if episode is not None:
            episode.close()


gym.register("Verifiers/Task-v0", entry_point="arpo_envs.hubs.from_verifiers:make")
