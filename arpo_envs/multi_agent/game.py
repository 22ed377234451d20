"""Deep search as a game of two: a solver that searches and answers, and a reader that sees pages. Whose turn, what it earns."""

from pathlib import Path
from typing import Any, cast

from ..core import RewardRule, ToolEnv
from ..dialects import Call
from ..errors import ConfigError, require_effect
from ..forking import ForkLevel
from ..rewards import HierarchicalReward
from ..tasks import TaskSource
from ..tasks.files import FileTasks
from ..tasks.world import Habits, load_world
from ..tools import ToolResult
from ..tools.browser import FolderSite, PageSource, WorldSite
from . import pages
from .desk import READ, Desk, DeskSession
from .pages import PageTool
from .questions import ReadQuestions

SOLVER, READER = "solver_0", "reader_0"
AGENTS = (SOLVER, READER)
GUIDANCE = (
    "Answer the question. You see only the titles of pages: search, one name at a time, and have the reader look at a page for "
    "you; it answers your question about that page with a note. Give the answer as the pages write it."
)
_SHOWN_AS = {"question": "question", "page": "observation", "result": "observation"}
"""How a screen shows what no agent says."""
_NO_NOTE = ToolResult(
    "The reader ran out of turns and wrote no note. Ask a simpler question, or about another page.", error="no_note"
)


class DeepSearch:
    """The state of one game.

    Without `tasks` and `site`, both come from the built-in world of cities, countries and elements.

    Args:
        hops: how many pages a built-in question needs, 1 to 4; default 2.
        split: "train" (default), "validation" or "test" of the built-in questions.
        world: "real" facts (default), or "counterfactual" ones, which memory cannot answer.
        cities_per_country: size of the built-in world; None for all cities.
        relations: relations that built-in questions may use; None for all.
        habits: shares of the demonstrator's habits, as `Habits` or its keyword arguments.
        tasks: your own questions: a source or the path of a JSON Lines file (see `FileTasks`).
        site: your own pages: a source or the path of a folder of HTML; needs `tasks`.
        results: titles that one search shows.
        view_tokens: words that a view of a page shows the reader.
        reward: the rule that pays the solver; default `HierarchicalReward` without a bonus.
        reader_share: what the reader is paid of it.
        dialect: "tags" or "json", of both agents.
        max_turns: the solver's actions until the game is truncated.
        max_tool_calls: the solver's searches and questions to the reader.
        reader_turns: the reader's actions for one note, at least 2.
        result_characters: a result, and so a note, is cut to this length.
        tool_timeout: seconds that one search, or fetching one page, may take.

    Raises:
        ConfigError: an argument is out of range, or would have no effect with another.
    """

    def __init__(
        self,
        *,
        hops: int | None = None,
        split: str | None = None,
        world: str | None = None,
        cities_per_country: int | None = None,
        relations: Any = None,
        habits: Habits | dict[str, float] | None = None,
        tasks: TaskSource | str | Path | None = None,
        site: PageSource | str | Path | None = None,
        results: int = 5,
        view_tokens: int = 400,
        reward: RewardRule | None = None,
        reader_share: float = 1.0,
        dialect: str = "tags",
        max_turns: int = 10,
        max_tool_calls: int = 8,
        reader_turns: int = 4,
        result_characters: int = 4000,
        tool_timeout: float = 30.0,
    ) -> None:
        if reader_turns < 2:
            raise ConfigError(f"reader_turns must be at least 2 (one look, one note), got {reader_turns}.")
        if tasks is not None:
            about = {"hops": hops, "split": split, "relations": relations, "habits": habits}
            require_effect(about, "with tasks=", "they choose among the built-in questions")
        source = FileTasks(tasks) if isinstance(tasks, str | Path) else tasks
        place = _site(site, source, world, cities_per_country)
        if source is None:
            of_the_world = load_world(cities_per_country, world or "real")
            source = ReadQuestions(
                hops=2 if hops is None else hops,
                split=split or "train",
                world=of_the_world,
                relations=relations,
                habits=Habits(**habits) if isinstance(habits, dict) else habits,
            )
        limits: dict[str, Any] = {"dialect": dialect, "result_characters": result_characters, "tool_timeout": tool_timeout}
        self.solver = ToolEnv(
            tasks=source,
            tools=[Desk(place, results=results)],
            reward=reward or HierarchicalReward(bonus_tools=frozenset()),
            guidance=GUIDANCE,
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            **limits,
        )
        self.reader = ToolEnv(
            tasks=pages.Asked(),
            tools=[PageTool(place, view_tokens=view_tokens)],
            reward=pages.unpaid,
            guidance=pages.GUIDANCE,
            max_turns=reader_turns,
            max_tool_calls=reader_turns - 1,
            **limits,
        )
        self.reader_share = reader_share
        self.running = False
        self._begin()

    def _begin(self) -> None:
        self.turn = SOLVER
        self.terminated = self.truncated = False
        self.reward = 0.0
        self._withheld = False  # whether the next call of `read` is
        self._asked = ""  # the solver's action that the reader works for
        self._log: list[tuple[str, str]] = []

    # --- the game ---------------------------------------------------------------------------------------------

    @property
    def seats(self) -> dict[str, ToolEnv]:
        """Each agent's own environment: its dialect, instructions and tools."""
        return {SOLVER: self.solver, READER: self.reader}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Starts a game; the solver begins.

        Raises:
            ConfigError: as `ToolEnv.reset`.
        """
        self.reader.close()
        question, _ = self.solver.reset(seed=seed, options=options)
        self._begin()
        self.running = True
        self._log.append(("question", question))

    def step(self, action: str) -> None:
        """Takes the action of the agent whose turn it is.

        Raises:
            ResetNeeded: the game is over, or never began.
            TypeError: the action is not a string.
        """
        if not self.running:
            self.solver.step(action)  # which says so
        if not isinstance(action, str):
            raise TypeError(f"An action is a string, got {type(action).__name__}.")
        self._log.append((self.turn, action))
        if self.turn == READER:
            self._read_on(action)
            return
        withheld = self._withheld
        self._withheld = False
        if withheld or not self._hands_over(action):
            self._solve_on(action)

    def _hands_over(self, action: str) -> bool:
        """Begins to read, if the solver asks for that and can have it."""
        call = self.solver.dialect.parse(action)
        calls = self.solver.last()[1]["tool_calls"]
        if not isinstance(call, Call) or call.tool != READ.name or calls >= self.solver.max_tool_calls:
            return False
        url = self._desk.address(call.arguments)
        if isinstance(url, ToolResult):
            self._desk.deliver(url)
            return False
        name = f"{self.solver.task.id}#{calls}"
        session, view = self.pages.look(url, name, self.solver.np_random, timeout=self.solver.tool_timeout)
        if view.error is not None:
            self._desk.deliver(view)
            return False
        task = pages.question_about(session, view.text, str(call.arguments["question"]), name, self.reader.dialect)
        seed = int(self.solver.np_random.integers(2**31))
        shown, _ = self.reader.reset(seed=seed, options={"task": task})
        self._log.append(("page", shown))
        self.turn, self._asked = READER, action
        return True

    def _read_on(self, action: str) -> None:
        observation, _, noted, gave_up, info = self.reader.step(action)
        if not noted and not gave_up:
            self._log.append(("page", observation))
            return
        self._desk.deliver(ToolResult(info["answer"]) if noted else _NO_NOTE)
        self.reader.close()
        self.turn = SOLVER
        self._solve_on(self._asked)

    def _solve_on(self, action: str) -> None:
        observation, self.reward, self.terminated, self.truncated, _ = self.solver.step(action)
        self.running = not (self.terminated or self.truncated)
        if observation:  # there is none after an answer
            self._log.append(("result", observation))

    @property
    def _desk(self) -> DeskSession:
        session = self.solver.sessions[0]
        assert isinstance(session, DeskSession)
        return session

    @property
    def pages(self) -> PageTool:
        """The reader's tool, through which the solver's pages are opened."""
        tool: Any = self.reader.tools[0]
        return cast(PageTool, tool)

    # --- what the agents see and earn ---------------------------------------------------------------------------

    def observe(self, agent: str) -> str:
        """Returns what an agent has to act on, or saw last; empty while it waits, and for a reader that has nothing to read."""
        if agent == self.turn:
            return self.seats[agent].last()[0]
        return ""

    def info(self, agent: str) -> dict[str, Any]:
        """Returns an agent's `info`: that of its own environment, about the solver's task, and whether it is to act."""
        acts = self.running and agent == self.turn
        if agent == SOLVER:
            return {**self.solver.last()[1], "acts": acts}
        said = {"turn": 0, "tool_calls": 0, "tool": "", "status": "waits"}
        said |= self.reader.last()[1] if acts else {}
        ends = {name: value for name, value in self.solver.last()[1].items() if name == "success"}
        return {**said, "task": self.solver.task.id, **ends, "acts": acts}

    def earned(self, agent: str, reward: float) -> float:
        """Returns what an agent is paid when the solver is paid `reward`."""
        return reward if agent == SOLVER else self.reader_share * reward

    def render(self) -> str:
        """Returns the game so far as text."""
        return "\n\n".join(f"[{who}] {text}" for who, text in self._log)

    def said(self, agent: str = "") -> list[tuple[str, str]]:
        """Returns the game so far as `screen.show` takes it; the name of whoever acts is before the action, but for `agent`."""
        named = {who: f"[{who}] " for who in AGENTS if who != agent}
        return [(_SHOWN_AS.get(who, "action"), named.get(who, "") + text) for who, text in self._log]

    # --- what forking, wrappers and trainers need -------------------------------------------------------------------

    @property
    def tools(self) -> tuple[Any, ...]:
        """The solver's tool and the reader's, whose sessions are opened after a reset; they can be replaced until then."""
        return (*self.solver.tools, *self.reader.tools)

    @tools.setter
    def tools(self, tools: tuple[Any, ...]) -> None:
        desk, page_tool = tools
        self.solver.tools, self.reader.tools = (desk,), (page_tool,)

    @property
    def fork_level(self) -> ForkLevel:
        """The lowest level of the tools."""
        return min(seat.fork_level for seat in self.seats.values())

    @property
    def sessions(self) -> dict[tuple[str, int], Any]:
        """The sessions of both agents."""
        return {(agent, index): one for agent, seat in self.seats.items() for index, one in seat.sessions.items()}

    def withhold(self, tool: str, result: ToolResult) -> None:
        """Makes the solver's next action return `result` for a call of this tool; see `ToolEnv.withhold`."""
        self.solver.withhold(tool, result)
        if tool == READ.name:
            self._withheld = True

    def identity(self) -> str:
        """Returns what a snapshot's game and this one must agree on."""
        return f"{self.solver.identity()}|{self.reader.identity()}|{self.reader_share}"

    def release(self) -> None:
        """Closes the sessions of both agents."""
        for seat in self.seats.values():
            seat.release()

    def reseed(self, seed: int) -> None:
        """Makes both agents' randomness a function of `seed`."""
        for index, seat in enumerate(self.seats.values()):
            seat.reseed(seed + index)

    def close(self) -> None:
        """Ends the game and frees what it holds; clones live on."""
        for seat in self.seats.values():
            seat.close()
        self.running = False


def _site(
    site: PageSource | str | Path | None, tasks: TaskSource | None, world: str | None, cities_per_country: int | None
) -> PageSource:
    if site is None:
        return WorldSite(load_world(cities_per_country, world or "real"))
    if tasks is None:
        raise ConfigError("site= needs tasks=: the built-in questions are about the built-in pages.")
    require_effect({"world": world, "cities_per_country": cities_per_country}, "with site=", "they choose the built-in pages")
    return FolderSite(site) if isinstance(site, str | Path) else site
