"""What a solver found and its reader saw while a run was recorded, they see again in a replay, and no source is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import arpo_envs
from arpo_envs import Turn
from arpo_envs.multi_agent import deep_search_v0, single_agent
from arpo_envs.multi_agent.searching import SearchingAgent
from arpo_envs.tasks import Task
from arpo_envs.tasks.files import ListedTasks
from arpo_envs.tools.browser import Document, Hit, PageError
from arpo_envs.tools.cache import Answers, Recorder, Replayer, Store, answer_tools
from arpo_envs.tools.ready import require_ready

TASKS = ListedTasks(Path("codes"), "codes", [(1, Task("q", "Which code?", ("17",)))], digest="1")
HOME = "https://a.example/?token=of-a-page"
OTHER = "https://a.example/two"


class Site:
    """Two pages of strangers; whether it answers, a test says."""

    name, searches, trusted = "site", True, False

    def __init__(self, *, open: bool) -> None:
        self.open = open

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        assert self.open, "the network is closed"
        if url not in (HOME, OTHER):
            return PageError("there is no such page")
        return Document(url, f"<h1>Page</h1><p>The code of {url[-4:]} is 17.")

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        assert self.open, "the network is closed"
        return [Hit(HOME, f"About {query}", ""), Hit(OTHER, "Another", "")][:count]


def curious(turn: Turn) -> str:
    """Looks at another page and at the source of its own before it writes what it saw last."""
    if turn.begins:
        return f'<browser.open>{{"id": "{OTHER}"}}</browser.open>'
    if "only this page" in turn.observation:
        return f'<browser.open>{{"id": "{HOME}", "view_source": true}}</browser.open>'
    return f"<answer>{turn.observation[:300]}</answer>"


def game(answers: Answers, *, open: bool) -> SearchingAgent:
    table = deep_search_v0.env(tasks=TASKS, site=Site(open=open))
    env = single_agent(table, "solver", reader=curious)
    assert isinstance(env, SearchingAgent)
    answer_tools(env, answers)
    return env


def seen(env: Any) -> list[Any]:
    """Reads both pages, in the middle of which the path forks."""
    question, _ = env.reset(seed=1)
    found = [question, env.step("<search>codes</search>")[0]]
    found.append(env.step(f'<read>{{"question": "code?", "id": "{OTHER}"}}</read>')[0])
    twin = arpo_envs.clone(env, seed=4)
    for one in (env, twin):
        for page in ("0", '"https://gone/"', "0"):
            found.append(one.step(f'<read>{{"question": "code?", "id": {page}}}</read>')[0])
        found.append(one.step("<answer>17</answer>")[1])
        one.close()
    return found


def test_a_source_that_cannot_be_asked_ends_a_game_before_it_begins_but_not_a_replay(tmp_path: Path) -> None:
    class Locked(Site):
        def require_ready(self) -> None:
            raise arpo_envs.ConfigError("There is no key.")

    env = single_agent(deep_search_v0.env(tasks=TASKS, site=Locked(open=False)), "solver", reader=curious)
    with pytest.raises(arpo_envs.ConfigError, match="no key"):
        require_ready(env)
    with pytest.raises(arpo_envs.ConfigError, match="no key"):
        env.reset(seed=1)
    env.close()
    with Store(tmp_path / "tools.sqlite") as store:
        answer_tools(env, Replayer(store))
        env.reset(seed=1)
        env.close()


def test_a_game_is_replayed_with_its_source_closed(tmp_path: Path) -> None:
    with Store(tmp_path / "tools.sqlite") as store:
        recorded = seen(game(Recorder(store), open=True))
        assert "About codes" in recorded[1]
        assert "The code of /two is 17." in recorded[2]
        assert "<h1>Page</h1>" in recorded[3]  # from the second fetch of a page
        assert "no such page" in recorded[4]
        assert seen(game(Replayer(store), open=False)) == recorded
        env = game(Replayer(store), open=False)
        env.reset(seed=2)
        with pytest.raises(arpo_envs.ToolFault, match=r"has no answer to this call of browser\.search"):
            env.step("<search>something else</search>")
