"""The page that follows one question leads to what exists, in the order in which one question really goes."""

import asyncio
import importlib
import inspect
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import gymnasium as gym
import pytest
from pages import ROOT

import arpo_envs
from algorithms import Start, make
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer

PAGE = ROOT / "docs" / "reading-order.md"
_STATION = re.compile(r"^(\d+)\. \[`([^`]+)`\]\(\.\./([^)]+)\), `([\w.]+)`\.\n(.*?)(?=^\d+\. |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Station:
    """A file, a function or method in it, and what the page says about it."""

    file: str
    name: str
    text: str

    def code(self) -> CodeType:
        """Returns the code that runs when somebody comes by."""
        found: Any = importlib.import_module(self.file.removesuffix(".py").replace("/", "."))
        for part in self.name.split("."):
            found = vars(found)[part]  # defined there, not only imported or inherited
        code: CodeType = inspect.unwrap(found).__code__
        return code


def stations(page: str) -> list[Station]:
    found = _STATION.findall(page)
    assert all(label == file for _, label, file, _, _ in found)
    assert [int(number) for number, *_ in found] == [*range(1, 1 + len(re.findall(r"^\d+\.", page, re.MULTILINE)))]
    return [Station(file, name, text) for _, _, file, name, text in found]


def sentences(text: str) -> int:
    return len(re.findall(r"[.!?](?=\s|$)", text))


STATIONS = stations(PAGE.read_text(encoding="utf-8"))


def test_there_are_at_most_twelve_stations() -> None:
    assert 8 <= len(STATIONS) <= 12


@pytest.mark.parametrize("station", STATIONS, ids=lambda station: station.name)
def test_a_station_is_defined_where_its_link_leads_and_has_three_sentences(station: Station) -> None:
    assert Path(station.code().co_filename).resolve() == (ROOT / station.file).resolve()
    assert sentences(station.text) == 3, station.text


class Watch:
    """Notes, in every thread, whenever one of some functions is entered."""

    def __init__(self, codes: dict[CodeType, str]) -> None:
        self.codes, self.seen = codes, list[str]()

    def __enter__(self) -> "Watch":
        threading.setprofile(self._note)  # for the threads in which tools run
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and (name := self.codes.get(frame.f_code)) is not None:
            self.seen.append(name)


def reached(seen: list[str]) -> list[str]:
    """Returns the stations in the order in which they are first reached."""
    return list(dict.fromkeys(seen))


def made(seen: list[gym.Env[Any, Any]]) -> Callable[[], gym.Env[Any, Any]]:
    def make_env() -> gym.Env[Any, Any]:
        seen.append(gym.make("ARPO/SearchMini-v0"))
        return seen[-1]

    return make_env


def learn(make_env: Callable[[], gym.Env[Any, Any]], answer: str) -> tuple[Any, float]:
    """Takes one step of ARPO on one question; returns what came of it, and the norm of the gradient."""
    from model_toys import tiny_model

    from algorithms.learner import LearnerConfig, TorchLearner
    from algorithms.trainer import Trainer

    def script(before: str, seed: int) -> str:
        searched = "</result>" in before
        return f"<answer>{answer if seed % 2 else 'nobody'}</answer>" if searched else f"<search>{answer}</search>"

    model = tiny_model(vocabulary=1 << 14)  # a token is a character
    trainer = Trainer(
        make_env=make_env,
        starts=lambda step, refill: [Start(3)],
        policy=ScriptedPolicy(script, context_length=1000),
        renderer=ScriptedRenderer(),
        algorithm=make("arpo", rollouts=6, roots=2, probe=3, alpha=1.0),
        learner=TorchLearner(model, LearnerConfig(learning_rate=1e-3)),
        seed=1,
    )
    result = asyncio.run(trainer.learn(0))
    return result, sum(float(weight.grad.norm()) for weight in model.parameters() if weight.grad is not None)


def test_one_question_passes_all_stations_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "algorithms"))
    env = gym.make("ARPO/SearchMini-v0")
    question, _ = env.reset(seed=3)
    answer = env.unwrapped.task.answers[0]  # type: ignore[attr-defined]
    env.close()
    envs: list[gym.Env[Any, Any]] = []
    names = {station.code(): station.name for station in STATIONS}
    with Watch(names) as watch:
        result, gradient = learn(made(envs), answer)
    assert reached(watch.seen) == [station.name for station in STATIONS]
    (tree,) = result.trees
    assert len(envs) == 1, "one question, from one environment"
    assert tree.nodes[0].text == question
    assert arpo_envs.fork_level(envs[0]) is arpo_envs.ForkLevel.EXACT
    assert any(node.origin == "branch" for node in tree.nodes)
    assert gradient > 0.0


# --- that these tests can fail -----------------------------------------------------------------------------


def test_who_comes_by_is_noted_with_the_first_time_first_in_threads_too() -> None:
    def second() -> None:
        first()

    def first() -> None:
        pass

    def never() -> None:
        pass

    with Watch({function.__code__: function.__name__ for function in (first, second, never)}) as watch:
        second()
        first()
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    first()
    assert watch.seen == ["second", "first", "first", "second", "first"]
    assert reached(watch.seen) == ["second", "first"]


def test_what_is_imported_or_gone_is_no_station() -> None:
    with pytest.raises(KeyError):
        Station("algorithms/rollout/planting.py", "Gone", "").code()
    with pytest.raises(KeyError):
        Station("algorithms/rollout/trajectory.py", "Trajectory.freeze", "").code()
    imported = Station("algorithms/rollout/batch.py", "grow", "").code()
    assert Path(imported.co_filename).name == "planting.py"


def test_a_station_in_another_form_is_noticed() -> None:
    with pytest.raises(AssertionError):
        stations("1. [`a.py`](../a.py), `f`.\n   One. Two. Three.\n2. [b](../b.py): something else.\n")
    assert sentences("One with `a.b` in it.\n   Two! Three?") == 3
