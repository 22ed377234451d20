"""Tasks of reasoning-gym: deterministic, split without overlap, judged by the library's own scorers."""

import copy
import pickle
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from arpo_envs.envs.python import PythonEnv
from arpo_envs.errors import ConfigError
from arpo_envs.rewards import check
from arpo_envs.tasks import Task, TaskSource

if TYPE_CHECKING:
    from arpo_envs.tasks.reasoning import ReasoningGymTasks

SPLITS = ("train", "validation", "test")

needs_library = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed")


def gym_tasks(name: str, **arguments: Any) -> "ReasoningGymTasks":
    """Imports the library when a test needs it, and not in each process that only collects."""
    from arpo_envs.tasks.reasoning import ReasoningGymTasks

    return ReasoningGymTasks(name, **arguments)


def some(source: "ReasoningGymTasks", count: int, seed: int = 0) -> list[Task]:
    rng = np.random.default_rng(seed)
    return [source.draw(rng) for _ in range(count)]


@needs_library
def test_drawing_is_a_function_of_the_generator_and_tasks_are_found_by_id() -> None:
    source = gym_tasks("gcd", size=500)
    assert isinstance(source, TaskSource)
    tasks = some(source, 10)
    assert some(source, 10) == tasks != some(source, 10, seed=1)
    assert [source.get(task.id) for task in tasks] == tasks
    assert some(gym_tasks("gcd", size=500, seed=9), 10) != tasks


@needs_library
def test_every_task_belongs_to_exactly_one_split() -> None:
    sources = {split: gym_tasks("gcd", split=split, size=400) for split in SPLITS}
    count: Counter[str] = Counter()
    questions: dict[str, set[str]] = {split: set() for split in SPLITS}
    for index in range(400):
        owners = []
        for split, source in sources.items():
            try:
                questions[split].add(source.get(f"gcd-{index}").question)
            except ConfigError:
                continue
            owners.append(split)
        assert len(owners) == 1
        count[owners[0]] += 1
    assert not questions["train"] & questions["test"]
    assert not questions["train"] & questions["validation"]
    assert not questions["validation"] & questions["test"]
    for split, share in {"train": 0.60, "validation": 0.15, "test": 0.25}.items():
        assert count[split] / 400 == pytest.approx(share, abs=0.09)


@needs_library
def test_the_librarys_own_scorer_judges() -> None:
    for task in some(gym_tasks("gcd"), 3):
        assert check(task, task.answers[0]).success
        wrong = check(task, str(int(task.answers[0]) + 1))
        assert not wrong.success
        assert wrong.accuracy < 0.1


@needs_library
def test_a_scorer_takes_every_right_answer_not_only_the_given_one() -> None:
    (task,) = some(gym_tasks("countdown"), 1)
    other = f"({task.answers[0]})"
    assert other != task.answers[0]
    assert check(task, other).success
    assert not check(task, "1 + 1").success


@needs_library
def test_a_task_scores_alike_after_pickling_and_without_its_source() -> None:
    (task,) = some(gym_tasks("basic_arithmetic", config={"max_terms": 3}), 1)
    from arpo_envs.tasks.reasoning import score

    twin = pickle.loads(pickle.dumps(task))
    assert twin == task
    assert score(twin, task.answers[0]) == 1.0
    assert 0.0 <= score(twin, "no number") < 1.0


@needs_library
def test_sources_are_shared_and_pickle_by_their_arguments() -> None:
    source = gym_tasks("gcd", split="test", size=300, seed=4, config={"max_value": 99})
    assert copy.deepcopy(source) is source
    twin = pickle.loads(pickle.dumps(source))
    assert twin.name == source.name == "reasoning-gym:gcd(test, 300 tasks, seed 4, max_value=99)"
    assert some(twin, 5) == some(source, 5)


@needs_library
def test_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PythonEnv(tasks="reasoning-gym:gcd", split="test")
    monkeypatch.setattr(env.tools[0], "open", lambda task, rng: _Idle())
    question, info = env.reset(seed=0)
    assert env.tasks.name == "reasoning-gym:gcd(test, 10000 tasks, seed 0)"
    assert (question, info["task"]) == (env.task.question, env.task.id)
    *_, info = env.step(f"<answer>{env.task.answers[0]}</answer>")
    assert info["success"] == 1.0


class _Idle:
    """A session in which nothing happens."""

    def close(self) -> None:
        pass


@needs_library
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gdc"}, "Did you mean 'gcd'"),
        ({"name": "gcd", "split": "tets"}, "Did you mean 'test'"),
        ({"name": "gcd", "size": 0}, "at least 1"),
        ({"name": "gcd", "config": {"size": 5}}, "give them as separate arguments"),
        ({"name": "gcd", "config": {"maximum": 5}}, "does not take these options"),
        ({"name": "composite"}, "does not take these options"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gym_tasks(**arguments)


@needs_library
@pytest.mark.parametrize("task_id", ["", "gcd", "gcd-", "gcd-007", "gcd-300", "gcd--1", "lcm-7", "gcd-²"])
def test_ids_of_other_sources_and_nonsense_are_refused(task_id: str) -> None:
    with pytest.raises(ConfigError, match="gcd-0 to gcd-299"):
        gym_tasks("gcd", size=300).get(task_id)


@needs_library
def test_a_split_without_tasks_says_so() -> None:
    source = gym_tasks("gcd", size=1)
    empty = next(gym_tasks("gcd", size=1, split=split) for split in SPLITS if not _has(source, split))
    with pytest.raises(ConfigError, match="does not belong to the split"):
        empty.get("gcd-0")
    with pytest.raises(ConfigError, match="Allow more with size="):
        empty.draw(np.random.default_rng(0))


def _has(source: "ReasoningGymTasks", split: str) -> bool:
    try:
        gym_tasks(source.dataset, size=source.size, split=split).get(f"{source.dataset}-0")
    except ConfigError:
        return False
    return True


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arpo_envs.tasks.reasoning._LIBRARY", None)
    monkeypatch.setattr("arpo_envs.tasks.reasoning._MISSING", "No module named 'reasoning_gym'")
    with pytest.raises(ConfigError, match=r"No module named 'reasoning_gym'.*pip install --no-deps reasoning-gym==0\.1\.25"):
        PythonEnv(tasks="reasoning-gym:gcd")
