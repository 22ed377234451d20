"""Small environments, tools and wrappers that behave; tests derive faulty ones from them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from arpo_envs.core import Outcome, Score, ToolEnv
from arpo_envs.errors import CloneError
from arpo_envs.forking import ForkLevel
from arpo_envs.tasks import Task
from arpo_envs.tools import Session, Stateless, ToolResult, ToolSpec

ECHO = ToolSpec("echo", "Says it back.", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})
NOTE = ToolSpec("note", "Keeps a note.", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})


class Towns:
    """Three questions."""

    name = "towns"
    tasks = tuple(
        Task(f"t{i}", f"Where is {town}?", (land,))
        for i, (town, land) in enumerate([("Bordeaux", "France"), ("Kyoto", "Japan"), ("Quito", "Ecuador")])
    )

    def draw(self, rng: np.random.Generator) -> Task:
        return self.tasks[int(rng.integers(len(self.tasks)))]

    def get(self, task_id: str) -> Task:
        return next(task for task in self.tasks if task.id == task_id)


class Echo(Stateless):
    """A tool without state."""

    specs = (ECHO,)

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        return ToolResult(f"You said {arguments['text']}")


class NoteSession:
    """Keeps notes and rolls a die with every one."""

    def __init__(self, notes: list[str], rng: np.random.Generator) -> None:
        self.notes, self.rng, self.closed = notes, rng, False

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        if self.closed:
            raise RuntimeError("used after close()")
        self.notes.append(str(arguments["text"]))
        return ToolResult(f"{len(self.notes)} notes, the die shows {self.rng.integers(1_000_000)}")

    def copied_rng(self) -> np.random.Generator:
        twin = np.random.default_rng(0)
        twin.bit_generator.state = self.rng.bit_generator.state
        return twin

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [type(self)(list(self.notes), self.copied_rng()) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def close(self) -> None:
        self.closed = True


class Note:
    """A tool with state and randomness."""

    specs = (NOTE,)
    fork_level = ForkLevel.EXACT
    session: ClassVar[type[NoteSession]] = NoteSession

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        return self.session([], rng)


class DicelessSession(NoteSession):
    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        self.notes.append(arguments["text"])
        return ToolResult(f"{len(self.notes)} notes")


class DicelessNote(Note):
    session = DicelessSession


def exact_match(task: Task, outcome: Outcome) -> Score:
    right = float(outcome.answer in task.answers)
    return Score(right if outcome.well_formed else right / 2, right)


class TownEnv(ToolEnv):
    """A healthy environment: one stateless and one stateful tool."""

    def __init__(self, *, note: Any = None, max_turns: int = 8, dialect: str = "tags", render_mode: str | None = None) -> None:
        tools = (Echo(), note if note is not None else Note())
        super().__init__(
            tasks=Towns(), tools=tools, reward=exact_match, max_turns=max_turns, dialect=dialect, render_mode=render_mode
        )


class Walk(gym.Env[int, int]):
    """A healthy environment that is no ToolEnv: a random walk, copied by hand, always right."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    fork_level = ForkLevel.EXACT

    def __init__(self, limit: int = 5, render_mode: str | None = None) -> None:
        self.limit, self.render_mode = limit, render_mode
        self.observation_space = gym.spaces.Box(-1000, 1000, (1,), np.int64)
        self.action_space = gym.spaces.Discrete(3)
        self.path: list[int] = [0]

    def observed(self) -> tuple[Any, dict[str, Any]]:
        return np.array([self.path[-1]]), {"path": list(self.path), "nested": {"ends": np.array([self.path[0], self.path[-1]])}}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.path = [0]
        return self.observed()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.path.append(self.path[-1] + int(action) - 1 + 10 * int(self.np_random.integers(-3, 4)))
        observation, info = self.observed()
        return observation, float(self.path[-1]), len(self.path) > self.limit, False, info

    def last(self) -> tuple[Any, dict[str, Any]]:
        return self.observed()


class HandCopied(Walk):
    """The same, with a __deepcopy__ written by hand."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "HandCopied":
        twin = type(self)(self.limit, self.render_mode)
        memo[id(self)] = twin
        twin.path = list(self.path)
        if self._np_random is not None:
            twin._np_random = np.random.default_rng()
            twin._np_random.bit_generator.state = self._np_random.bit_generator.state
        twin._np_random_seed = self._np_random_seed
        return twin


def plain(value: Any) -> Any:
    """Returns a copy that compares: arrays as lists, and without wall-clock time."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if key != "t"}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def play(env: gym.Env, actions: list[Any]) -> list[Any]:
    """Acts until the end."""
    seen = []
    for action in actions:
        returned = env.step(action)
        seen.append(plain(returned))
        if returned[2] or returned[3]:
            break
    return seen


class Letters:
    """A tokenizer: one id per byte."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def __len__(self) -> int:
        return 256
