"""`ToolEnv`: the contract of every environment here, and the one class they all share.

A concrete environment is tools + tasks + a reward rule; see `envs/`. Observations and actions are
text. The five-tuple is used honestly: `terminated` when the model answered, `truncated` when it ran
out of turns.
"""

import copy
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from .copies import ATOMS, copied
from .dialects import RESERVED, Answer, Call, Mistake, make_dialect
from .errors import ConfigError
from .forking import ForkLevel, reseeded
from .members import REPLAYED_CALLS, TOOL_IDENTITY
from .outcome import Outcome, RewardRule, Score
from .spaces import MAX_TEXT, TextSpace
from .tasks import Task, TaskSource
from .tools import Session, Tool, ToolResult
from .tools.clones import cloned_sessions
from .tools.spec import ToolSpec

__all__ = ["Outcome", "RewardRule", "Score", "ToolEnv"]

_LIMIT = "limit"
"""Status of a call that is refused because none is left."""


class ToolEnv(gym.Env[str, str]):
    """A multi-turn text environment in which a model may call tools before it answers.

    Args:
        tasks: where questions come from.
        tools: what may be called; their names must be distinct.
        reward: scores the episode once, when it ends.
        dialect: "tags" or "json".
        guidance: what to tell the model about this environment, before the dialect's instructions.
        max_turns: actions until the episode is truncated, at least 2.
        max_tool_calls: calls that are executed; the model is told when none is left.
        result_characters: a tool's result is cut to this length, with a mark.
        tool_timeout: seconds one call may take.
        render_mode: None, "ansi", or "human", which prints the conversation as it goes.

    Raises:
        ConfigError: two tools share a name, or a limit makes no sense.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"], "render_fps": 1}  # type: ignore[misc]  # Gymnasium declares it on instances
    shared: ClassVar[frozenset[str]] = frozenset(
        {"tasks", "tools", "reward", "dialect", "tool_specs", "instructions", "spec", "_owner", "_task"}
    )
    """Attributes that are read-only and that clones share; everything else is copied."""
    configuration: ClassVar[frozenset[str]] = (shared - {"_task"}) | {
        *("max_turns", "max_tool_calls", "result_characters", "tool_timeout", "render_mode")
    }
    """Attributes that say how the environment was built: `restore` leaves them as they are."""

    def __init__(
        self,
        *,
        tasks: TaskSource,
        tools: Sequence[Tool],
        reward: RewardRule,
        dialect: str = "tags",
        guidance: str = "",
        max_turns: int = 8,
        max_tool_calls: int = 6,
        result_characters: int = 4000,
        tool_timeout: float = 30.0,
        render_mode: str | None = None,
    ) -> None:
        self.tasks = tasks
        self.tools = tuple(tools)
        self._owner = {spec.name: index for index, tool in enumerate(tools) for spec in tool.specs}
        self.reward = reward
        self.tool_specs: tuple[ToolSpec, ...] = tuple(spec for tool in tools for spec in tool.specs)
        self.dialect = make_dialect(dialect, self.tool_specs)
        self.instructions = "\n".join(part for part in (guidance, self.dialect.instructions()) if part)
        self.max_turns, self.max_tool_calls = max_turns, max_tool_calls
        self.result_characters, self.tool_timeout = result_characters, tool_timeout
        self.render_mode = render_mode
        self._require_arguments()
        self.observation_space = TextSpace()
        self.action_space = TextSpace()
        self.sessions: dict[int, Session] = {}  # by the tool's index: names of one tool share one session
        self._task: Task | None = None
        self._withheld: dict[str, ToolResult] = {}
        self._shown = 0  # entries of the transcript that were printed
        self._begin(None)

    def _require_arguments(self) -> None:
        if len(self._owner) != len(self.tool_specs):
            names = [spec.name for spec in self.tool_specs]
            raise ConfigError(f"Two tools share a name: {', '.join(names)}. Give each call its own name.")
        if taken := sorted(set(self._owner) & RESERVED):
            raise ConfigError(f"A tool cannot be named {taken[0]!r}: the dialects use that word. Give the tool another name.")
        if self.max_turns < 2:
            raise ConfigError(f"max_turns must be at least 2 (one call, one answer), got {self.max_turns}.")
        if self.max_tool_calls < 0:
            raise ConfigError(f"max_tool_calls must not be negative, got {self.max_tool_calls}.")
        if not 1 <= self.result_characters <= MAX_TEXT // 2:
            raise ConfigError(f"result_characters must lie between 1 and {MAX_TEXT // 2}, got {self.result_characters}.")
        if self.render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode must be None, 'ansi' or 'human', got {self.render_mode!r}.")

    # --- Gymnasium's interface ------------------------------------------------------------------

    @property
    def fork_level(self) -> ForkLevel:
        """The lowest level of the tools: an environment forks as well as its worst tool."""
        return min((tool.fork_level for tool in self.tools), default=ForkLevel.EXACT)

    @property
    def task(self) -> Task:
        """The task of the running episode.

        Raises:
            ResetNeeded: no episode was started.
        """
        if self._task is None:
            raise gym.error.ResetNeeded("Call reset() before anything else.")
        return self._task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode and returns the task's question.

        Args:
            seed: as in Gymnasium.
            options: `{"task": id}` asks for one task instead of a random one.

        Raises:
            ConfigError: an option is unknown, or no task has that id; the running episode goes on.
        """
        super().reset(seed=seed)
        options = options or {}
        if strange := set(options) - {"task"}:
            raise ConfigError(f"Unknown reset options {sorted(strange)}; only 'task' is known.")
        task = self.tasks.get(options["task"]) if "task" in options else self.tasks.draw(self.np_random)
        self.release()
        self._begin(task)
        try:
            for index, tool in enumerate(self.tools):
                # a separate generator: a session that kept the environment's would no longer share it once cloned
                entropy = self.np_random.integers(0, 2**32, size=4)
                self.sessions[index] = tool.open(task, reseeded(self.np_random, [int(word) for word in entropy]))
        except BaseException:
            self.close()  # an episode without its tools has not begun
            raise
        return self._observe(task.question, "reset")

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Takes one action of the model: a tool call, an answer, or a mistake it is told about.

        Raises:
            ResetNeeded: the episode has ended, or never began.
            TypeError: the action is not a string.
        """
        if not self._running:
            raise gym.error.ResetNeeded("The episode is over (or never began): call reset() before step().")
        if not isinstance(action, str):
            raise TypeError(f"An action is a string, got {type(action).__name__}.")
        self._turn += 1
        withheld = self._withheld
        if withheld:
            self._withheld = {}
        self._transcript.append(("action", action))
        parsed = self.dialect.parse(action)
        if isinstance(parsed, Answer):
            return self._finish(parsed.text)
        trusted = isinstance(parsed, Mistake)
        if isinstance(parsed, Mistake):
            text, status, tool = parsed.text, "mistake", ""
            if parsed.kind == "format":
                self._well_formed = False
        else:
            text, status, tool = self._run(parsed, withheld)
        if self._turn >= self.max_turns:
            return self._give_up(text, status, tool, trusted)
        observation = self.dialect.result(self._with_notice(text), trusted=trusted)
        observation, info = self._observe(observation, status, tool)
        return observation, 0.0, False, False, info

    def render(self) -> str | None:
        """Returns the conversation so far as text, in mode "ansi".

        In mode "human", reset and step call it, and it prints what it has not printed yet. A clone prints what it does itself.

        Raises:
            ResetNeeded: no episode was started.
        """
        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; pass render_mode='ansi' or 'human' to gym.make.")
            return None
        self.task  # noqa: B018  # raises when there is no episode
        if self.render_mode == "human":
            from .screen import show  # rich is imported only where something is shown

            show(self._transcript[self._shown :])
            self._shown = len(self._transcript)
            return None
        said = [text if who == "action" else f"\n{text}\n" for who, text in self._transcript if who != "end"]
        return "\n".join(said).strip()

    def close(self) -> None:
        """Ends the episode and frees its sessions; clones and snapshots live on."""
        self.release()
        self._running = False

    # --- what a renderer, a trainer and the forking functions need --------------------------------

    def last(self) -> tuple[str, dict[str, Any]]:
        """Returns the observation and info that the last reset or step returned."""
        return self._last_observation, dict(self._last_info)

    def details(self) -> dict[str, object]:
        """Returns what else `info` says of the running episode: numbers, strings, other values that never change."""
        return {}

    def forfeit(self) -> float:
        """Returns what the running episode would pay if it ended now without an answer."""
        return self.reward(self.task, Outcome(None, self._well_formed, self._tools_used)).value

    def withhold(self, tool: str, result: ToolResult) -> None:
        """Makes the next step return `result` for a call of this tool instead of running it, as wrappers may want.

        A result with the error "limit" refuses the call: it is not counted, and it counts more than other results. Of
        several others, the first one counts.
        """
        if result.error == _LIMIT or tool not in self._withheld:
            self._withheld[tool] = result

    @property
    def replayed_calls(self) -> int:
        """Tool calls that were run again to bring this environment's sessions into their state (level REPLAY)."""
        return sum(int(REPLAYED_CALLS.of(session)) for session in self.sessions.values())

    def anchor(self) -> str | None:
        """Returns a name of the current state for step-level credit (GiGPO): the task and what was last seen.

        It contains no counter and no random state, so paths meet again in equal situations.
        """
        if self._task is None:
            return None
        digest = hashlib.blake2b(self._last_observation.encode(), digest_size=8).hexdigest()
        return f"{self._task.id}:{digest}"

    def identity(self) -> str:
        """Returns what a snapshot's environment and this one must agree on: tasks, dialect, tools and limits.

        A tool whose arguments matter says so with an attribute `identity`.
        """
        limits = (self.max_turns, self.max_tool_calls, self.result_characters)
        tools = ",".join(f"{name}={TOOL_IDENTITY.of(self.tools[index])}" for name, index in self._owner.items())
        return f"{self.tasks.name}|{self.dialect.name}|{tools}|{limits}"

    def release(self) -> None:
        """Closes the sessions of the running episode."""
        for session in self.sessions.values():
            session.close()
        self.sessions = {}

    def reseed(self, seed: int) -> None:
        """Makes the environment's and the sessions' randomness a function of `seed`."""
        self.np_random = reseeded(self.np_random, [seed])
        for index, session in enumerate(self.sessions.values()):
            session.reseed(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]))

    def copied_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Returns a copy of all attributes: shared ones by reference, sessions by their own `clone`.

        Raises:
            CloneError: a session could not be cloned.
        """
        state: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name in self.shared or type(value) in ATOMS:  # no call for what would come back as it is
                state[name] = value
            elif name == "_transcript":
                state[name] = value.copy()  # of pairs of strings, which never change
            elif name == "_last_info":
                state[name] = copied(value, memo)
            elif name != "sessions":
                state[name] = copy.deepcopy(value, memo)
        state["sessions"] = cloned_sessions(self.sessions, memo)  # last: nothing can fail after them and leak them
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> "ToolEnv":
        """Makes a user's own `copy.deepcopy` correct, too."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(self.copied_state(memo))
        return twin

    # --- one step, in pieces ------------------------------------------------------------------------

    def _begin(self, task: Task | None) -> None:
        self._task = task
        self._running = task is not None
        self._turn = 0
        self._tool_calls = 0
        self._well_formed = True
        self._tools_used: frozenset[str] = frozenset()
        self._withheld = {}
        self._transcript: list[tuple[str, str]] = []
        self._shown = 0
        self._last_observation: str = ""
        self._last_info: dict[str, Any] = {}

    def _run(self, call: Call, withheld: dict[str, ToolResult]) -> tuple[str, str, str]:
        """Returns what the model reads, the status, and the tool that ran, if one did."""
        if self._tool_calls >= self.max_tool_calls:
            return f"No tool calls are left ({self.max_tool_calls} of {self.max_tool_calls} used).", _LIMIT, ""
        tool = call.tool
        instead = withheld.get(tool)
        if instead is None:
            result = self.sessions[self._owner[tool]].call(tool, call.arguments, timeout=self.tool_timeout)
            if result.error is None and tool not in self._tools_used:
                self._tools_used |= {tool}
        elif instead.error == _LIMIT:
            return instead.text, _LIMIT, ""
        else:
            result = instead
        self._tool_calls += 1
        return result.text, "ok" if result.error is None else result.error, tool

    def _with_notice(self, text: str) -> str:
        """Cuts a result and tells the model of a limit it has just reached."""
        if len(text) > self.result_characters:
            text = f"{text[: self.result_characters]}… [cut: {len(text) - self.result_characters} more characters]"
        if self.max_turns - self._turn == 1:
            return f"{text}\nThis is your last turn: answer now."
        if self._tool_calls >= self.max_tool_calls:
            return f"{text}\nNo tool calls are left: answer now."
        return text

    def _finish(self, answer: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        score = self.reward(self.task, Outcome(answer, self._well_formed, self._tools_used))
        self._running = False
        observation, info = self._observe("", "answered", end=f"answered, reward {score.value:g}")
        info |= {"answer": answer, "success": score.success}
        self._last_info = dict(info)
        return observation, score.value, True, False, info

    def _give_up(self, text: str, status: str, tool: str, trusted: bool) -> tuple[str, float, bool, bool, dict[str, Any]]:
        score = self.reward(self.task, Outcome(None, self._well_formed, self._tools_used))
        self._running = False
        notice = f"{text}\nThe conversation is over: no turns are left."
        wrapped = self.dialect.result(notice[: self.result_characters + 100], trusted=trusted)
        observation, info = self._observe(wrapped, status, tool, end=f"truncated, reward {score.value:g}")
        info |= {"success": score.success}
        self._last_info = dict(info)
        return observation, score.value, False, True, info

    def _observe(self, observation: str, status: str, tool: str = "", *, end: str = "") -> tuple[str, dict[str, Any]]:
        """Records and returns an observation with its info, which holds immutable values only; `end` says how it ended."""
        if not observation.isascii():
            observation = observation.encode("utf-8", "replace").decode("utf-8")  # lone surrogates are not valid text
        self._transcript.append(("question" if status == "reset" else "observation", observation))
        if end:
            self._transcript.append(("end", end))
        self._last_observation = observation
        info: dict[str, Any] = {
            "task": self.task.id,
            "turn": self._turn,
            "tool_calls": self._tool_calls,
            "tool": tool,
            "status": status,
        }
        if details := self.details():
            info |= details
        self._last_info = info
        if self.render_mode == "human":
            self.render()
        return observation, info.copy()
