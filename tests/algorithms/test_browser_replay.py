"""Trees grown over pages are grown again from a recording, failures included, and no page is fetched."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rollout_toys import Coin, Plan, grow, results

from arpo_envs.envs.browser import BrowserEnv
from arpo_envs.tools.browser import Document, PageError, WorldSite
from arpo_envs.tools.cache import Answers, Recorder, Replayer, Store, answer_tools

PATHS = Plan(Coin(roots=2, probability=0.5), rollouts=6)


def clicks(before: str, seed: int) -> str:
    """Opens the start page, follows or finds something, looks at it again, and answers."""
    done = results(before)
    calls = ["<browser.open>{}</browser.open>", f'<browser.open>{{"id": {seed % 3}}}</browser.open>']
    calls.append(f'<browser.open>{{"cursor": 0, "id": {seed % 2}}}</browser.open>')
    return calls[done] if done < len(calls) else "<answer>Paris</answer>"


def grown(answers: Answers, prompts: int = 3) -> list[str]:
    def make() -> BrowserEnv:
        env = BrowserEnv(cities_per_country=4, world="counterfactual")
        answer_tools(env, answers)
        return env

    return [tree.to_json() for tree in grow(plan=PATHS, script=clicks, env=make, prompts=prompts)]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_recorded_rollout_is_grown_again_without_a_fetch(trusted: bool, tmp_path: Path, monkeypatch: Any) -> None:
    calls, fetch = count(), WorldSite.fetch

    def unreliable(self: WorldSite, url: str, *, timeout: float) -> Document | PageError:
        match next(calls) % 7:
            case 2:
                raise TimeoutError
            case 4:
                raise ConnectionError("reset by peer")
            case 6:
                return PageError("the server is busy")
        return fetch(self, url, timeout=timeout)

    def forbidden(self: WorldSite, url: str, *, timeout: float) -> Document | PageError:
        raise AssertionError("a page was fetched")

    monkeypatch.setattr(WorldSite, "trusted", trusted)
    with Store(tmp_path / "tools.sqlite") as store:
        recorder, replayer = Recorder(store, "training"), Replayer(store, "training")
        monkeypatch.setattr(WorldSite, "fetch", unreliable)
        trees = grown(recorder)
        assert recorder.tally["failed"] > 0, "which paths failed, and how, depends on who came when"
        monkeypatch.setattr(WorldSite, "fetch", forbidden)
        assert grown(replayer) == trees
        assert (replayer.tally["missing"], replayer.tally["failed"]) == (0, recorder.tally["failed"])
        more = grown(replayer, prompts=6)
        assert more[:3] == trees
        assert any("NotRecorded" in tree for tree in more[3:])
