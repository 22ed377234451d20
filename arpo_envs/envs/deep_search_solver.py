"""`ARPO/DeepSearchSolver-v0`: the solver of a deep search for two agents, with a reader that sees the pages for it; offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ..core import RewardRule
from ..multi_agent.searching import SearchingAgent
from ..partners import Partner
from ..tasks import TaskSource
from ..tasks.world import Habits
from ..tools import ToolResult
from ..tools.browser import PageSource


class DeepSearchSolverEnv(SearchingAgent):
    r"""Answer a question by searching for pages and asking a reader about them.

    The solver sees titles only, and the notes of the reader, which is part of its environment. Without `tasks` and `site`, both
    come from the built-in world of cities, countries and elements.

    Args:
        reader: who reads: "extractive" (default; the lines that share most words with the question), "package.module:object",
            or a function from a `Turn` to an action, such as a policy's.
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
        reward: a reward rule; default `HierarchicalReward` without a bonus.
        dialect: "tags" or "json".
        max_turns: actions until the episode is truncated.
        max_tool_calls: searches and questions to the reader.
        reader_turns: the reader's actions for one note, at least 2.
        result_characters: a result is cut to this length.
        tool_timeout: seconds that one search, or fetching one page, may take.
        render_mode: None, "ansi", or "human", which prints the game as it goes.

    Raises:
        ConfigError: an argument is unknown, out of range, or would have no effect with another.

    >>> env = DeepSearchSolverEnv(split="test", cities_per_country=10, results=1, render_mode="ansi")
    >>> question, info = env.reset(options={"task": "city-2886242/country/capital"})
    >>> calls = "<search>Köln</search>", "<read>country</read>", "<search>Germany</search>", "<read>capital</read>"
    >>> for action in (*calls, "<answer>Berlin</answer>"):
    ...     result, reward, *_ = env.step(action)
    >>> print(env.render().replace("\n\n", "\n"))  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    [question] What is the capital of the country of Köln?
    [solver_0] <search>Köln</search>
    [result] <result>【0†Köln】</result>
    [solver_0] <read>country</read>
    [page] Question: country
    [0] Köln (https://world.example/city-2886242)
    **viewing lines [0 - 7] of 7**
    L0: # Köln
    L1:
    L2: city
    L3:
    L4:   * country: 【0†Germany】 ... nearest city: 【1†Düsseldorf】
    [reader_0] <answer>country: Germany</answer>
    [result] <result>country: Germany</result>
    [solver_0] <search>Germany</search>
    [result] <result>【0†Germany】</result>
    [solver_0] <read>capital</read>
    [page] Question: capital
    [0] Germany (https://world.example/country-DE) ... capital: 【0†Berlin】 ... 【5†list of elements】
    [reader_0] <answer>capital: Berlin</answer>
    [result] <result>capital: Berlin</result>
    [solver_0] <answer>Berlin</answer>
    >>> reward
    1.0
    """

    configuration: ClassVar[frozenset[str]] = SearchingAgent.configuration | {"tool_timeout"}

    def __init__(
        self,
        *,
        reader: str | Partner = "extractive",
        hops: int | None = None,
        split: str | None = None,
        world: str | None = None,
        cities_per_country: int | None = None,
        relations: Sequence[str] | None = None,
        habits: Habits | dict[str, float] | None = None,
        tasks: TaskSource | str | Path | None = None,
        site: PageSource | str | Path | None = None,
        results: int = 5,
        view_tokens: int = 400,
        reward: RewardRule | None = None,
        dialect: str = "tags",
        max_turns: int = 10,
        max_tool_calls: int = 8,
        reader_turns: int = 4,
        result_characters: int = 4000,
        tool_timeout: float = 30.0,
        render_mode: str | None = None,
    ) -> None:
        from ..multi_agent import deep_search_v0  # PettingZoo takes a while to import

        table = deep_search_v0.env(
            hops=hops,
            split=split,
            world=world,
            cities_per_country=cities_per_country,
            relations=relations,
            habits=habits,
            tasks=tasks,
            site=site,
            results=results,
            view_tokens=view_tokens,
            reward=reward,
            dialect=dialect,
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            reader_turns=reader_turns,
            result_characters=result_characters,
            tool_timeout=tool_timeout,
            render_mode=render_mode,
        )
        super().__init__(table, "solver", {"reader": reader})
        self.max_turns, self.tool_timeout = max_turns, tool_timeout

    def withhold(self, tool: str, result: ToolResult) -> None:
        """Makes the next step return `result` for a call of this tool; see `ToolEnv.withhold`."""
        self.game.withhold(tool, result)
