"""`ARPO/Browser-v0`: questions that are answered by following links from page to page, offline."""

from collections.abc import Sequence
from pathlib import Path

from ..core import ToolEnv
from ..errors import ConfigError, require_effect
from ..outcome import RewardRule
from ..rewards import HierarchicalReward
from ..tasks import TaskSource
from ..tasks.files import FileTasks
from ..tasks.web import LinkedQuestions
from ..tasks.world import Habits, load_world
from ..tools.browser import CITING, BrowserSession, BrowserTool, FolderSite, LiveSite, PageSource, SearchedBy, WorldSite
from ..tools.named import Asked, make_tools

GUIDANCE = (
    "Answer the question. Open the start page, follow links by their ids, and give the answer as the pages write it. Links are "
    f"shown as 【id†text】, and lines begin with their numbers. {CITING} The answer itself has no citation."
)


class BrowserEnv(ToolEnv):
    r"""Answer a question by following links from page to page.

    Without `tasks` and `site`, both come from the built-in world of cities, countries and elements: the start page is given,
    nothing can be searched, and only links lead on. `info` has "clicks", the links opened so far, and "optimal_clicks", the
    fewest that lead from the start page to the one that states the answer (-1 for tasks that do not say so).

    Args:
        hops: how many pages a built-in question needs, 2 to 4; default 2.
        split: "train" (default), "validation" or "test" of the built-in questions.
        world: "real" facts (default), or "counterfactual" ones, which memory cannot answer.
        cities_per_country: size of the built-in world; None for all cities.
        relations: relations that built-in questions may use; None for all.
        tasks: your own questions: a source or the path of a JSON Lines file (see `FileTasks`); "start" may name a page.
        site: your own pages: a source, the path of a folder of HTML, or "live" for the web (`LiveSite`); needs `tasks`.
        search: offer `browser.search`, too; with `site`, the name or JSON file of a search engine on the web that answers it.
        back: offer `browser.back`, too.
        addresses: pages that can be opened by their URL: "known" (default; the start page and pages opened before) or "any".
        view_tokens: words that a view of a page shows.
        readable: show only the readable text of pages, with the links in it (needs trafilatura).
        tools: more tools: a name, "package.module:object", a tool, several of these, or a mapping from names to arguments.
        habits: shares of the demonstrator's habits, as `Habits` or its keyword arguments.
        reward: a reward rule; default `HierarchicalReward` without a bonus, as there is only one tool.
        dialect: "tags" or "json".
        max_turns: actions until the episode is truncated.
        max_tool_calls: calls that are executed.
        result_characters: a result is cut to this length.
        tool_timeout: seconds one call may take.
        render_mode: None, "ansi", or "human", which prints the conversation as it goes.

    Raises:
        ConfigError: an argument is unknown, out of range, or would have no effect with another.

    >>> env = BrowserEnv(split="test", cities_per_country=10, render_mode="ansi")
    >>> question, info = env.reset(options={"task": "city-2886242/country/capital"})
    >>> for action in ("<browser.open>{}</browser.open>", '<browser.open>{"id": 0}</browser.open>', "<answer>Berlin</answer>"):
    ...     view, reward, *_, info = env.step(action)
    >>> print(env.render().replace("\n\n", "\n"))  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    What is the capital of the country of Köln?
    Start page: https://world.example/city-2886242
    <browser.open>{}</browser.open>
    <result>[0] Köln (https://world.example/city-2886242)
    **viewing lines [0 - 7] of 7**
    L0: # Köln
    L1:
    L2: city
    L3:
    L4:   * country: 【0†Germany】
    L5:   * population: 1,024,621
    L6:   * time zone: Europe/Berlin
    L7:   * nearest city: 【1†Düsseldorf】</result>
    <browser.open>{"id": 0}</browser.open>
    <result>[1] Germany (https://world.example/country-DE)
    **viewing lines [0 - 17] of 17**
    L0: # Germany
    L1:
    L2: country
    L3:
    L4:   * continent: Europe
    L5:   * capital: 【0†Berlin】
    L6:   * currency: Euro ... 【5†list of elements】</result>
    <answer>Berlin</answer>
    >>> reward, info["clicks"], info["optimal_clicks"]
    (1.0, 1, 1)
    """

    def __init__(
        self,
        *,
        hops: int | None = None,
        split: str | None = None,
        world: str | None = None,
        cities_per_country: int | None = None,
        relations: Sequence[str] | None = None,
        tasks: TaskSource | str | Path | None = None,
        site: PageSource | str | Path | None = None,
        search: bool | str = False,
        back: bool = False,
        addresses: str = "known",
        view_tokens: int = 400,
        readable: bool = False,
        tools: Asked | None = None,
        habits: Habits | dict[str, float] | None = None,
        reward: RewardRule | None = None,
        dialect: str = "tags",
        max_turns: int = 10,
        max_tool_calls: int = 8,
        result_characters: int = 8000,
        tool_timeout: float = 30.0,
        render_mode: str | None = None,
    ) -> None:
        about_questions = {"hops": hops, "split": split, "relations": relations, "habits": habits}
        about_world = {"world": world, "cities_per_country": cities_per_country}
        if tasks is not None:
            require_effect(about_questions, "with tasks=", "they choose among the built-in questions")
        if site is not None:
            if tasks is None:
                raise ConfigError("site= needs tasks=: the built-in questions are about the built-in pages.")
            require_effect(about_world, "with site=", "they choose the built-in pages")
        if tasks is None:
            source: TaskSource = LinkedQuestions(
                hops=2 if hops is None else hops,
                split=split or "train",
                world=load_world(cities_per_country, world or "real"),
                relations=relations,
                habits=Habits(**habits) if isinstance(habits, dict) else habits,
            )
        else:
            source = FileTasks(tasks) if isinstance(tasks, str | Path) else tasks
        pages = WorldSite(load_world(cities_per_country, world or "real")) if site is None else _pages(site)
        if isinstance(search, str):
            if site is None:
                raise ConfigError(f"search={search!r} needs site=: the built-in pages are not on the web. Use search=True.")
            pages, search = SearchedBy(search, pages), True
        browser = BrowserTool(pages, search=search, back=back, addresses=addresses, view_tokens=view_tokens, readable=readable)
        super().__init__(
            tasks=source,
            tools=[browser, *make_tools(tools)],
            reward=reward or HierarchicalReward(bonus_tools=frozenset()),
            dialect=dialect,
            guidance=GUIDANCE,
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            result_characters=result_characters,
            tool_timeout=tool_timeout,
            render_mode=render_mode,
        )

    def details(self) -> dict[str, object]:
        """Returns the number of links that were opened, and how few would have done."""
        session = self.sessions.get(0)
        clicks = session.state.clicks if isinstance(session, BrowserSession) else 0
        return {"clicks": clicks, "optimal_clicks": self.task.count("optimal_clicks")}

    def measures(self) -> dict[str, float]:
        """Returns the efficiency of the episode: its success times the share of its clicks that were needed.

        That is "success weighted by path length", Eq. 1 of P. Anderson et al. (2018), arXiv 1807.06757: 0 without a right
        answer, 1 for one with the fewest clicks, or fewer. Tasks that do not say how few these are have none.
        """
        _, info = self.last()
        clicks, optimal = info.get("clicks", 0), info.get("optimal_clicks", -1)
        if optimal < 0:
            return {}
        return {"efficiency": info.get("success", 0.0) * (optimal / clicks if clicks > optimal else 1.0)}


def _pages(site: PageSource | str | Path) -> PageSource:
    if site == "live":
        return LiveSite()
    return FolderSite(site) if isinstance(site, str | Path) else site
