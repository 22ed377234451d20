"""`ARPO/DeepSearch-v0`: find pages, read them and compute, with `search`, a browser and `python` in one episode, offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import RewardRule, ToolEnv
from ..errors import ConfigError, require_effect
from ..rewards import HierarchicalReward
from ..tasks import TaskSource
from ..tasks.deep import DeepQuestions
from ..tasks.files import FileTasks
from ..tasks.world import Habits, load_world
from ..tools.browser import CITING, BlockedSite, BrowserSession, BrowserTool, FolderSite, PageSource, WorldSite
from ..tools.interpreter import make_interpreter
from ..tools.named import Asked, make_tools

GUIDANCE = (
    "Answer the question step by step with the help of tools. Before each call, think about what is known and what is still "
    "missing. Look things up with search, one name at a time, and compute with python rather than in your head: variables keep "
    "their values from call to call, and a call shows what it prints and the value of its last expression.\n"
    "A result of search only says which pages there are. Open the page you need by its link id, shown as 【id†text】, read "
    "there what you are looking for, and go on by the links of that page; browser.find shows where a text occurs on it. Lines "
    f"begin with their numbers. {CITING}\n"
    "Give only the result as the answer, without a citation: a number in full, in digits."
)
"""The paper's prompt in our words, with a paragraph on pages; the dialect adds how calls are written."""

_CALLS = 40
"""Calls where nothing says how many a question needs."""


class DeepSearchEnv(ToolEnv):
    r"""Answer a question by searching, reading pages and computing.

    Without `tasks` and `site`, both come from the built-in world of cities, countries and elements: a result of `search` shows
    only which pages there are, the facts are on the pages, and the answer is on none of them: it must be computed. `info` has
    "clicks", the links opened so far, and "optimal_calls", how many calls an expert needs (-1 for tasks that do not say so).

    Args:
        difficulty: of the built-in questions, 1 (default; one page, one short computation) to 5 (eight pages, three steps).
        horizon: "short" (default), or "long" for questions that need 20 and more calls.
        split: "train" (default), "validation" or "test" of the built-in questions.
        world: "real" facts (default), or "counterfactual" ones, which memory cannot answer.
        cities_per_country: size of the built-in world; None for all cities.
        tasks: your own questions: a source or the path of a JSON Lines file (see `FileTasks`).
        site: your own pages: a source that can search, or the path of a folder of HTML; needs `tasks`.
        blocked: domains whose pages are neither found nor opened, those below them too; in an evaluation, those that publish
            the answers.
        results: how many results a search shows at most.
        back: offer `browser.back`, too.
        addresses: pages that can be opened by their URL: "known" (default; the start page and pages opened before) or "any".
        view_tokens: words that a view of a page shows.
        backend: where code runs: "local", a confined process on this machine, or "e2b", a sandbox in E2B's cloud.
        unsafe: with the local backend, run even where this machine cannot confine it.
        interpreter: more arguments of the tool `python`, `PythonTool` or `E2BTool`.
        tools: more tools: a name, "package.module:object", a tool, several of these, or a mapping from names to arguments.
        habits: shares of the demonstrator's habits, as `Habits` or its keyword arguments.
        reward: a reward rule; default `HierarchicalReward()`, with the paper's bonus for using both search and python.
        dialect: "tags" or "json".
        max_turns: actions until the episode is truncated; default two more than `max_tool_calls`.
        max_tool_calls: calls that are executed; default half as many again as an expert needs, and at least four more; 40 for
            tasks that do not say so.
        result_characters: a result is cut to this length.
        tool_timeout: seconds one call may take.
        render_mode: None, "ansi", or "human", which prints the conversation as it goes.

    Raises:
        ConfigError: an argument is unknown, out of range, or would have no effect with another.

    >>> env = DeepSearchEnv(split="test", cities_per_country=10, render_mode="ansi")
    >>> [spec.name for spec in env.tool_specs]
    ['search', 'browser.open', 'browser.find', 'python']
    >>> look = "<search>Thorium</search>", '<browser.open>{"id": 0}</browser.open>'
    >>> question, info = env.reset(options={"task": "test-short-1-77"})  # doctest: +SKIP
    >>> for action in (*look, "<python>x = 90; x * 177 % 343</python>", "<answer>152</answer>"):  # doctest: +SKIP
    ...     result, reward, *_ = env.step(action)
    >>> print(env.render().replace("\n\n", "\n"))  # doctest: +SKIP, +NORMALIZE_WHITESPACE
    Let x be the atomic number of Thorium. What is the remainder when x times 177 is divided by 343?
    <search>Thorium</search>
    <result>[0] Thorium
    **viewing lines [0 - 2] of 2**
    L0: # Search Results
    L1:
    L2:   * 【0†Thorium†world.example】 chemical element</result>
    <browser.open>{"id": 0}</browser.open>
    <result>[1] Thorium (https://world.example/element-90)
    **viewing lines [0 - 8] of 8**
    L0: # Thorium
    L1:
    L2: chemical element
    L3:
    L4:   * symbol: Th
    L5:   * atomic number: 90
    L6:   * discovery country: 【0†Sweden】
    L7:   * discovery year: 1828
    L8:   * discoverers: Jöns Berzelius</result>
    <python>x = 90; x * 177 % 343</python>
    <result>152</result>
    <answer>152</answer>
    >>> round(reward, 1)  # doctest: +SKIP
    1.1
    """

    def __init__(
        self,
        *,
        difficulty: int | None = None,
        horizon: str | None = None,
        split: str | None = None,
        world: str | None = None,
        cities_per_country: int | None = None,
        tasks: TaskSource | str | Path | None = None,
        site: PageSource | str | Path | None = None,
        blocked: Sequence[str] = (),
        results: int = 3,
        back: bool = False,
        addresses: str = "known",
        view_tokens: int = 400,
        backend: str = "local",
        unsafe: bool = False,
        interpreter: Mapping[str, Any] | None = None,
        tools: Asked | None = None,
        habits: Habits | dict[str, float] | None = None,
        reward: RewardRule | None = None,
        dialect: str = "tags",
        max_turns: int | None = None,
        max_tool_calls: int | None = None,
        result_characters: int = 8000,
        tool_timeout: float = 30.0,
        render_mode: str | None = None,
    ) -> None:
        about_questions = {"difficulty": difficulty, "horizon": horizon, "split": split, "habits": habits}
        about_world = {"world": world, "cities_per_country": cities_per_country}
        if tasks is not None:
            require_effect(about_questions, "with tasks=", "they choose among the built-in questions")
        if site is not None:
            if tasks is None:
                raise ConfigError("site= needs tasks=: the built-in questions are about the built-in pages.")
            require_effect(about_world, "with site=", "they choose the built-in pages")
        if tasks is None:
            source: TaskSource = DeepQuestions(
                difficulty=1 if difficulty is None else difficulty,
                horizon=horizon or "short",
                split=split or "train",
                world=load_world(cities_per_country, world or "real"),
                habits=Habits(**habits) if isinstance(habits, dict) else habits,
            )
        else:
            source = FileTasks(tasks) if isinstance(tasks, str | Path) else tasks
        pages = WorldSite(load_world(cities_per_country, world or "real"), summaries=False) if site is None else _pages(site)
        needed = source.calls if isinstance(source, DeepQuestions) else None
        calls = _limit(needed) if max_tool_calls is None else max_tool_calls
        super().__init__(
            tasks=source,
            tools=[
                BrowserTool(
                    BlockedSite(pages, blocked) if blocked else pages,
                    search=True,
                    search_name="search",
                    back=back,
                    addresses=addresses,
                    results=results,
                    view_tokens=view_tokens,
                ),
                make_interpreter(backend, unsafe=unsafe, arguments=interpreter or {}),
                *make_tools(tools),
            ],
            reward=reward or HierarchicalReward(),
            dialect=dialect,
            guidance=GUIDANCE,
            max_turns=max(calls + 2, 2) if max_turns is None else max_turns,
            max_tool_calls=calls,
            result_characters=result_characters,
            tool_timeout=tool_timeout,
            render_mode=render_mode,
        )

    def details(self) -> dict[str, object]:
        """Returns the number of links that were opened, and how many calls an expert needs."""
        session = self.sessions.get(0)
        clicks = session.state.clicks if isinstance(session, BrowserSession) else 0
        return {"clicks": clicks, "optimal_calls": self.task.count("optimal_calls")}


def _pages(site: PageSource | str | Path) -> PageSource:
    return FolderSite(site) if isinstance(site, str | Path) else site


def _limit(needed: int | None) -> int:
    """Returns how many calls are executed where an expert needs so many; None where nobody knows."""
    return _CALLS if needed is None else needed + max(4, needed // 2)
