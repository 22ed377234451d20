"""What a recorder told, a replayer tells again, whatever the threads did; and nothing is called in a replay."""

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import ECHO, Note, TownEnv

import arpo_envs
from arpo_envs import ConfigError, ForkLevel, NotRecorded, Session, Stateless, Task, ToolFault, ToolResult
from arpo_envs.tasks.world import load_world
from arpo_envs.testing import check_tool
from arpo_envs.tools.browser import BlockedSite, BrowserTool, SearchedBy, WorldSite
from arpo_envs.tools.cache import (
    Answer,
    Answers,
    Cache,
    Place,
    Recorder,
    Replayer,
    Store,
    answer_tools,
    answered,
    ask,
    cached,
    subject_of,
)
from arpo_envs.tools.cache.credentials import without_credentials
from arpo_envs.tools.search import LiveSearchTool

TASK = Task("t", "Where?", ("there",))
Script = Callable[[str], ToolResult]


def said(text: str) -> ToolResult:
    return ToolResult(f"You said {text}")


class PureEcho(Stateless):
    """A pure tool that does what a test says."""

    specs = (ECHO,)

    def __init__(self, script: Script = said, **configuration: Any) -> None:
        self.script, self.called = script, Counter[str]()
        self.pure: Mapping[str, Any] = {"version": 1} | configuration

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        self.called[arguments["text"]] += 1
        return self.script(arguments["text"])


class Towns(TownEnv):
    """One pure tool, and one with state."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = (PureEcho(), *self.tools[1:])


def closed(text: str) -> ToolResult:
    raise AssertionError("a live call was made")


def told(answers: Answers, tool: Any, texts: str, seed: int = 0, timeout: float = 5.0) -> list[str]:
    """Returns what an episode is told, failures as text."""
    session = answered(tool, answers).open(TASK, np.random.default_rng(seed))
    session.reseed(seed)
    found = []
    for text in texts:
        try:
            result = session.call("echo", {"text": text}, timeout=timeout)
            found.append(f"{result.text} {result.error}")
        except (ToolFault, TimeoutError) as error:
            found.append(f"{type(error).__name__}: {error}")
    session.close()
    return found


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "tools.sqlite") as opened:
        yield opened


def test_cached_and_recorded_tools_keep_the_laws(store):
    def slow(text: str) -> ToolResult:
        if text == "slow":
            time.sleep(30)
        return ToolResult(text)

    for answers in (Cache(store), Recorder(store)):
        assert check_tool(answered(PureEcho(slow), answers), slow=("echo", {"text": "slow"})).ok
    assert check_tool(answered(PureEcho(), Recorder(store, "cached, too"))).ok
    assert check_tool(cached(answered(PureEcho(), Recorder(store)), store)).ok, "one before the other"


def test_a_cache_keeps_successes_and_asks_again_after_failures(store):
    down = [True]
    tool = PureEcho(lambda text: ToolResult("down", "unavailable") if down[0] else ToolResult(text))
    assert told(Cache(store), tool, "aa") == ["down unavailable"] * 2
    down[0] = False
    assert told(Cache(store), tool, "aaa") == ["a None"] * 3
    assert tool.called["a"] == 3
    tool.script = closed
    assert told(Cache(store), tool, "a", seed=1) == ["a None"]


def test_equal_calls_at_the_same_time_are_made_once_although_each_environment_has_a_cache_of_its_own(store):
    together = threading.Barrier(4)

    def slow(text: str) -> ToolResult:
        time.sleep(0.5)
        return ToolResult(text)

    tool = PureEcho(slow)
    caches = [cached(tool, store), cached(tool, store), cached(cached(tool, store), store), cached(tool, store)]

    def ask(one):
        together.wait()
        return one.open(TASK, np.random.default_rng(0)).call("echo", {"text": "a"}, timeout=30.0).text

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(ask, caches)] == ["a"] * 4
    assert tool.called["a"] == 1


@pytest.mark.parametrize("succeeds_first", [True, False])
def test_paths_that_nothing_tells_apart_are_told_the_same_by_two_processes(succeeds_first, store):
    """While one calls, the other is told something; what was told first counts, or a replay could not tell each its own."""
    tool = PureEcho(ToolResult if succeeds_first else lambda text: ToolResult("down", "unavailable"))
    seen = []

    def meanwhile(text: str) -> ToolResult:
        seen.extend(told(Recorder(store), tool, text))  # as another process would: it does not see this call
        return ToolResult("down", "unavailable") if succeeds_first else ToolResult(text)

    found = told(Recorder(store), PureEcho(meanwhile), "a")
    assert found == seen == (["a None"] if succeeds_first else ["down unavailable"])
    assert told(Replayer(store), PureEcho(closed), "a") == found


@pytest.mark.parametrize("kind", [Cache, Recorder])
def test_who_asks_just_before_an_answer_is_stored_does_not_call_again(kind, store):
    tool, answers, find = PureEcho(), kind(store), store.find

    def overtaken(*keys: bytes) -> Any:
        store.find, found = find, find(*keys)
        assert told(answers, tool, "a", seed=1) == ["You said a None"]
        return found

    store.find = overtaken
    assert told(answers, tool, "a") == ["You said a None"]
    assert tool.called == {"a": 1}


@pytest.mark.parametrize("kind", [Cache, Recorder])
def test_equal_calls_at_the_same_time_are_made_once(kind, store):
    everybody_asked, find = threading.Barrier(8), store.find
    tool, answers = PureEcho(ToolResult), kind(store)

    def looked_up(*keys: bytes) -> Any:
        found = find(*keys)
        if threading.current_thread().name != "arpo-answer" and found is None:
            everybody_asked.wait(20)  # nobody goes on to call before all have found nothing
        return found

    store.find = looked_up
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: told(answers, tool, "a", seed, timeout=60.0), range(8)))
    assert found == [["a None"]] * 8
    assert tool.called == {"a": 1}


def test_a_replay_tells_every_path_what_it_was_told_whatever_the_threads_did(store):
    """Calls fail by chance, two paths are twins, and all of them ask the same few things at the same time."""
    chance, lock = random.Random(7), threading.Lock()

    def script(text: str) -> ToolResult:
        with lock:
            number = chance.random()
        if number < 0.25:
            raise ValueError(f"failed at {number}")
        return ToolResult(str(number), "odd" if number < 0.5 else None)

    paths = [("abcab", 1), ("abcab", 1), ("cbaab", 2), ("aabb", 3), ("bbcc", 4), ("ccaa", 5), ("abc", 6), ("cba", 7)]
    tool, recorder = PureEcho(script), Recorder(store)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: told(recorder, tool, *path), paths))
    assert any("ToolFault: ValueError: failed at" in one for path in found for one in path)
    assert recorder.tally["answered"] == sum(len(texts) for texts, _ in paths)
    tool.script = closed
    replayer = Replayer(store)
    assert [told(replayer, tool, *path) for path in reversed(paths)] == found[::-1]
    assert replayer.tally["failed"] == recorder.tally["failed"] > 0
    assert [told(recorder, tool, *path) for path in paths] == found, "and so does a resumed run"


def test_a_failure_counts_for_its_place_and_for_its_part_of_the_run(store):
    tool = PureEcho(lambda text: ToolResult("down", "unavailable"))
    before, after = Recorder(store, "before"), Recorder(store, "after")
    assert told(before, tool, "a") == ["down unavailable"]
    tool.script = ToolResult
    assert told(before, tool, "a") == ["down unavailable"]
    assert told(before, tool, "ba") == ["b None", "a None"], "another place on a path: other calls came before it"
    assert told(before, tool, "a", seed=1) == told(after, tool, "a") == ["a None"]
    tool.script = closed
    assert told(Replayer(store, "before"), tool, "a") == ["down unavailable"]
    assert told(Replayer(store, "after"), tool, "a") == ["a None"]


def test_a_call_that_does_not_return_is_recorded_as_a_time_out(store):
    go_on = threading.Event()

    def hung(text: str) -> ToolResult:
        go_on.wait(60)
        return ToolResult("late")

    tool = PureEcho(hung)
    assert told(Recorder(store), tool, "a", timeout=0.2) == ["TimeoutError: "]
    tool.script = closed
    assert told(Replayer(store), tool, "a") == ["TimeoutError: "]
    go_on.set()


@pytest.mark.parametrize("seconds", [1e10, math.inf])
def test_a_call_may_take_any_time(seconds, store):
    assert told(Recorder(store), PureEcho(ToolResult), "a", timeout=seconds) == ["a None"]
    assert told(Cache(store), PureEcho(ToolResult), "b", timeout=seconds) == ["b None"]


def test_nobody_waits_for_a_call_that_hangs_except_those_who_asked_meanwhile(store):
    go_on, answers = threading.Event(), Recorder(store)

    def hung(text: str) -> ToolResult:
        go_on.wait(60)
        return ToolResult("late")

    tool = PureEcho(hung)
    assert told(answers, tool, "a", timeout=0.2) == ["TimeoutError: "]
    tool.script = ToolResult
    assert told(answers, tool, "a", seed=1) == ["a None"]
    go_on.set()
    assert told(answers, tool, "a", seed=2) == ["a None"]


def test_a_clone_is_at_the_same_place_until_it_is_reseeded(store):
    tool = PureEcho(lambda text: ToolResult("down", "unavailable"))
    session = answered(tool, Recorder(store)).open(TASK, np.random.default_rng(0))
    twin, fork = session.clone(2)
    fork.reseed(5)
    assert session.call("echo", {"text": "a"}, timeout=5.0).error == "unavailable"
    tool.script = ToolResult
    assert [one.call("echo", {"text": "a"}, timeout=5.0).error for one in (twin, fork)] == ["unavailable", None]


class Reader:
    """A tool with state, the page it is at, and a source of pages that is pure."""

    specs = (ECHO,)
    fork_level = ForkLevel.EXACT

    def __init__(self, fetch: Callable[[str], bytes], answers: Answers | None = None) -> None:
        self.fetch, self.answers = fetch, answers

    def answered(self, answers: Answers) -> "Reader":
        return Reader(self.fetch, answers)

    def open(self, task: Task, rng: np.random.Generator) -> "ReaderSession":
        return ReaderSession(self, Place.of(task, rng), ())


class ReaderSession:
    def __init__(self, tool: Reader, place: Place, seen: tuple[str, ...]) -> None:
        self.tool, self.place, self.seen = tool, place, seen

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        url = arguments["text"]
        question = ask("page", subject_of(self.tool, {"version": 1}, "page"), {"url": url}, self.place)
        self.place, self.seen = self.place.after("page", {"url": url}), (*self.seen, url)
        page = self.tool.answers.answer(question, lambda: Answer(self.tool.fetch(url)), timeout=timeout).value
        return ToolResult(f"{len(self.seen)}: {page.decode()}")

    def clone(self, n: int = 1) -> list[Any]:
        return [ReaderSession(self.tool, self.place, self.seen) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        self.place = self.place.reseeded(seed)

    def close(self) -> None:
        """Holds nothing."""


def test_a_tool_with_state_may_have_its_pages_answered(store):
    def fetched(url: str) -> bytes:
        return url.encode("utf-8", "replace")

    def lost(url: str) -> bytes:
        raise AssertionError("a page was fetched")

    seen = told(Recorder(store), Reader(fetched), "aab")
    assert seen == ["1: a None", "2: a None", "3: b None"]
    assert len(store) == 2
    assert told(Replayer(store), Reader(lost), "aab") == seen
    assert check_tool(answered(Reader(fetched), Recorder(store))).ok


def test_what_is_not_recorded_is_a_fault_and_no_call(store):
    assert told(Recorder(store), PureEcho(corpus="mine"), "a") == ["You said a None"]
    replayer = Replayer(store)
    same, other = PureEcho(closed, corpus="mine"), PureEcho(closed, corpus="yours")
    (missing,), (differs,) = told(replayer, same, "b"), told(replayer, other, "a")
    assert missing.startswith("NotRecorded: The recording has no answer to this call of echo.")
    assert differs.startswith("NotRecorded: The recording has no call of echo in this version and configuration.")
    assert replayer.tally["missing"] == 2
    assert issubclass(NotRecorded, ToolFault)


def test_answers_differ_with_configuration_and_arguments_alone(store):
    recorder = Recorder(store)
    one, two = PureEcho(locale="de", k=3), PureEcho(lambda text: ToolResult(f"deux {text}"), locale="fr", k=3)
    assert told(recorder, one, "a") == ["You said a None"]
    assert told(recorder, two, "a") == ["deux a None"]
    again = PureEcho(closed, k=3, locale="de")
    assert told(recorder, again, "a") == ["You said a None"], "the order of names means nothing"


def test_a_users_mistake_is_not_recorded(store):
    def script(text: str) -> ToolResult:
        raise ConfigError("No such index.")

    with pytest.raises(ConfigError, match="No such index"):
        told(Recorder(store), PureEcho(script), "a")
    assert len(store) == 0


def test_no_credential_is_in_the_file(store, monkeypatch):
    key = "sk-9f8e7d6c5b4a"
    monkeypatch.setenv("SEARCH_API_KEY", key)

    def script(text: str) -> ToolResult:
        if text == "a":
            raise RuntimeError(f"401 for https://search.example/?q=a&key={key}")
        return ToolResult(f"Your key is {key}.")

    found = told(Recorder(store), PureEcho(script), "ab")
    assert found == [
        "ToolFault: RuntimeError: 401 for https://search.example/?q=a&key=[credential]",
        "Your key is [credential]. None",
    ]
    assert told(Cache(store), PureEcho(script, k=2), "b") == ["Your key is [credential]. None"]
    written = b"".join(path.read_bytes() for path in store.file.parent.iterdir())
    assert b"Your key is" in written
    assert key.encode() not in written


@pytest.mark.parametrize(
    ("name", "value", "is_credential"),
    [
        ("COOKIE_DOMAIN", "wikipedia.org", False),
        ("AUTH_TOKEN_URL", "https://wikipedia.org/token", False),
        ("SSH_KEY_PATH", "/etc/keys/mine", False),
        ("SECRET_NAME", "encyclopedia", False),
        ("TOKEN_LIMIT", "10000000", False),
        ("TOKENIZERS_PARALLELISM", "disabled", False),
        ("DB_PASSWORD", "correcthorse", True),
        ("API_KEY_PROD", "abcdefgh", True),
        ("AWS_ACCESS_KEY_ID", "AKIA0123456789", True),
        ("SECRET_KEY_BASE", "0123-4567-89", True),
        ("SESSION_COOKIE", "a.b.c.d.e", True),
        ("hf_token", "hf_abcdefgh", True),
        ("AUTH_TOKEN_URL", "https://me:pass@wikipedia.org", True),
        ("SECRET_PATH", "https://hooks.example/?token=abc", True),
    ],
)
def test_what_a_variable_says_about_a_credential_is_none(name, value, is_credential, monkeypatch):
    monkeypatch.setenv(name, value)
    said = {"text": f"See {value} for more."}
    assert without_credentials(said) == ({"text": "See [credential] for more."} if is_credential else said)


def test_without_a_key_nothing_is_asked_but_a_recording_is_replayed(monkeypatch, store):
    def opened(answers: Answers | None = None) -> list[Session]:
        tool: Any = LiveSearchTool("serper")
        tools = [tool, BrowserTool(BlockedSite(SearchedBy(tool, WorldSite(load_world(2))), ["a.example"]))]
        tools = tools if answers is None else [answered(tool, answers) for tool in tools]
        return [tool.open(TASK, np.random.default_rng(0)) for tool in tools]

    monkeypatch.setenv("SERPER_API_KEY", "s3cret-k3y")
    assert len(opened()) == len(opened(Recorder(store))) == 2
    monkeypatch.delenv("SERPER_API_KEY")
    for answers in (None, Recorder(store), Cache(store)):
        with pytest.raises(ConfigError, match="Put it into the environment variable SERPER_API_KEY"):
            opened(answers)
    assert len(opened(Replayer(store))) == 2


def test_no_part_of_a_credential_is_left(monkeypatch):
    monkeypatch.setenv("A_KEY", "abcdefgh")
    monkeypatch.setenv("B_KEY", "abcdefgh-ijklmnop")
    assert without_credentials(b"abcdefgh-ijklmnop abcdefgh") == b"[credential] [credential]"


@pytest.mark.parametrize(
    "configuration",
    [
        {"api_key": "abc"},
        {"headers": {"Authorization": "Bearer abc"}},
        {"endpoint": "https://me:abc@search.example"},
        {"endpoints": ["https://search.example?token=abc"]},
        {"corpus": Path("credentials")},
    ],
)
def test_a_configuration_with_a_credential_is_refused(configuration, store):
    with pytest.raises(ConfigError, match=r"echo depend.* on .*credential.* `pure`"):
        cached(PureEcho(**configuration), store)


def test_a_tool_with_state_is_not_answered_from_a_file(store):
    with pytest.raises(ConfigError, match="Note has no attribute `pure`"):
        cached(Note(), store)
    with pytest.raises(ConfigError, match="TownEnv has no tool whose calls can be recorded or replayed"):
        answer_tools(TownEnv(), Recorder(store))


def test_in_an_environment_the_pure_tools_are_answered_and_the_others_called(store):
    def episode(answers: Answers) -> list[str]:
        env = Towns()
        answer_tools(env, answers)
        env.reset(seed=3)
        seen = [env.step(f"<{name}>x</{name}>")[0] for name in ("echo", "note")]
        with arpo_envs.snapshot(env) as kept:
            assert kept.portable
            twin = kept.spawn(seed=4)
        return [*seen, twin.step("<echo>x</echo>")[0], twin.step("<echo>y</echo>")[0]]

    seen = episode(Recorder(store))
    assert seen[0] == seen[2] == "<result>You said x</result>"
    assert "the die shows" in seen[1]
    assert episode(Replayer(store)) == seen
