"""What goes wrong in the cloud: repeated only where that is safe, and otherwise the end of one path."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import Cloud
from e2b_clock import frozen, granted
from e2b_server import KEY, E2BServer
from test_e2b import Sums, exact, run, text

from algorithms.branching import NoBranching, roots_then_backfill
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import collect
from algorithms.rollout.run import Limits, Start
from algorithms.tree import RolloutTree, Status
from arpo_envs.core import ToolEnv
from arpo_envs.errors import CloneError, ConfigError, ToolFault
from arpo_envs.tools import Session, e2b
from arpo_envs.tools.e2b.calls import Deadline, patiently, seconds_for, wait_before


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a hundredth of what is usual between repetitions."""
    monkeypatch.setattr(e2b.calls, "_FIRST_WAIT", 0.0025)


@pytest.fixture
def session(server: E2BServer) -> Iterator[Session]:
    session = Cloud(server).open()
    text(session, "x = 1")
    server.requests.clear()
    yield session
    session.close()


def only_errors(children: list[Session | CloneError], count: int) -> str:
    assert len(children) == count
    assert all(isinstance(child, CloneError) for child in children)
    return str(children[0])


# --- starting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_start_is_repeated(server: E2BServer, status: int) -> None:
    server.fail("create", status, times=2)
    assert text(Cloud(server).open(), "1") == "1"
    assert server.count("create") == 3


def test_a_start_waits_as_long_as_the_server_asks(server: E2BServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = frozen(monkeypatch)
    server.fail("create", 429, headers={"Retry-After": "11"})
    Cloud(server).open()
    assert clock.slept == [11.0]
    assert server.count("create") == 2


def test_a_start_whose_answer_was_lost_gives_one_sandbox(server: E2BServer) -> None:
    server.fail("create", cut=True, times=2)
    session = Cloud(server).open()
    assert server.count("create") == 3
    assert len(server.sandboxes) == 1
    assert text(session, "1") == "1"


def test_two_starts_never_share_a_sandbox(server: E2BServer) -> None:
    Cloud(server).open(seed=1)
    Cloud(server).open(seed=1)
    assert len(server.sandboxes) == 2


@pytest.mark.parametrize(("status", "requests"), [(429, 3), (503, 3), (500, 1)])
def test_a_start_that_fails_for_good_is_the_tools_fault(server: E2BServer, status: int, requests: int) -> None:
    server.fail("create", status, times=0)
    with pytest.raises(ToolFault, match=rf"code-interpreter-v1: .*{status}"):
        Cloud(server).open(retries=2)
    assert server.count("create") == requests


@pytest.mark.timeout(30)
def test_no_answer_at_all_is_the_tools_fault_in_time(server: E2BServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fail("create", seconds=60.0)
    seconds = granted(monkeypatch)
    with pytest.raises(ToolFault, match="ReadTimeout"):
        Cloud(server).open(timeout=0.6)
    assert 0.0 < sum(seconds) <= 0.6


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_template_that_is_refused_is_the_users_mistake(server: E2BServer, status: int) -> None:
    server.fail("create", status, message=f"no template; your key is {KEY}")
    with pytest.raises(ConfigError, match=r"of template mine: .*no template") as caught:
        Cloud(server).open(template="mine")
    assert KEY not in str(caught.value)


def test_nobody_there(server: E2BServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = frozen(monkeypatch)
    monkeypatch.setenv("E2B_API_URL", "http://127.0.0.1:9")
    with pytest.raises(ToolFault, match=r"ConnectError|timed out"):
        Cloud(server).open(timeout=1.0, retries=1000)
    assert 0.0 < clock.now < 1.0 + 4.0  # the SDK's own waits between attempts to connect know no time-out


# --- forking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_a_refused_fork_is_asked_for_again(server: E2BServer, session: Session, status: int) -> None:
    server.fail("fork", status, times=2)
    assert [text(child, "x") for child in session.clone(3)] == ["1", "1", "1"]
    assert server.count("fork") == 3
    assert len(server.sandboxes) == 4


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 502, "plain": True}, {"status": 504, "plain": True}, {"cut": True}]
)
def test_a_fork_that_may_have_been_made_is_not(server: E2BServer, session: Session, fault: dict[str, object]) -> None:
    server.fail("fork", **fault)
    assert "E2B made no copy" in only_errors(session.clone(2), 2)
    assert server.count("fork") == 1
    assert text(session, "x") == "1"


def test_a_child_that_fails_does_not_hurt_its_siblings(server: E2BServer, session: Session) -> None:
    server.fail("fork", 500, children=(0, 2), message=f"no node for {KEY}")
    children = session.clone(4)
    assert [isinstance(child, CloneError) for child in children] == [True, False, True, False]
    assert "no node for ***" in str(children[0])
    assert [text(child, "x") for child in (children[1], children[3])] == ["1", "1"]


def test_a_child_that_is_forbidden_does_not_mean_that_the_server_cannot_fork(server: E2BServer, session: Session) -> None:
    server.fail("fork", 403, children=(0,))
    forbidden, child = session.clone(2)
    assert isinstance(forbidden, CloneError)
    assert text(child, "x") == "1"


def test_a_child_that_was_refused_is_asked_for_again(server: E2BServer, session: Session) -> None:
    server.fail("fork", 429, children=(0, 2))
    server.fail("fork", 503, children=(1,))
    assert [text(child, "x") for child in session.clone(4)] == ["1"] * 4
    assert server.count("fork") == 3
    assert len(server.sandboxes) == 5


def test_refusals_without_end_fail_in_time(server: E2BServer, session: Session) -> None:
    server.fail("fork", 429, times=0)
    assert "429" in only_errors(session.clone(2), 2)
    assert server.count("fork") == 5


def test_no_repetition_begins_that_would_end_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = frozen(monkeypatch)
    calls: list[float] = []

    def refused() -> None:
        calls.append(clock.now)
        raise OSError

    with pytest.raises(OSError):
        patiently(refused, lambda error: True, deadline=Deadline.within(0.3), retries=50, seed=0)
    assert calls[-1] < 0.3 <= calls[-1] + wait_before(len(calls) - 1, 0), "the last one that was in time"


UNKNOWN = [
    {"status": 404, "plain": True},
    {"status": 404},
    {"status": 501},
    {"status": 403},
    {"status": 400},
    {"status": 405, "plain": True},
]


@pytest.mark.parametrize("fault", UNKNOWN)
def test_a_server_that_cannot_fork(server: E2BServer, fault: dict[str, object]) -> None:
    native, auto = Cloud(server).open(), Cloud(server).open(fork="auto")
    for session in (native, auto):
        run(session, "x = 1\ng = iter(range(5))")
        assert text(session, "next(g)") == "0"
    server.fail("fork", times=0, **fault)
    server.requests.clear()
    assert "use fork='replay', or fork='auto'" in only_errors(native.clone(2), 2)
    one, two = auto.clone(2)
    assert (one.replayed_calls, two.replayed_calls) == (2, 2)
    assert text(one, "x, next(g)") == text(two, "x, next(g)") == "(1, 1)"
    assert server.count("fork") == 2
    (third,) = one.clone(1)
    assert server.count("fork") == 2, "it has learnt that the server cannot"
    assert third.replayed_calls == 3
    assert text(third, "next(g)") == "2"


def test_a_lost_sandbox_is_not_taken_for_a_server_that_cannot_fork(server: E2BServer) -> None:
    session = Cloud(server).open(fork="auto")
    server.lose(session._sandbox.sandbox_id)
    assert "not found" in only_errors(session.clone(2), 2)
    assert server.count("create") == 1


def test_a_server_without_snapshots_parks_a_fork(server: E2BServer, session: Session) -> None:
    server.fail("snapshot", 404, plain=True)
    parked = session.park()
    text(session, "x = 2")
    (child,) = parked.clone(1)
    assert text(child, "x") == "1"
    assert server.count("fork") == 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"cut": True}])
def test_a_snapshot_that_fails_is_a_clone_error(server: E2BServer, session: Session, fault: dict[str, object]) -> None:
    server.fail("snapshot", **fault)
    with pytest.raises(CloneError, match="took no snapshot"):
        session.park()
    assert server.count("snapshot") == 1
    assert isinstance(session.park(), Session)


def test_a_clone_of_a_snapshot_may_fail_alone(server: E2BServer, session: Session) -> None:
    parked = session.park()
    server.fail("create", 500)
    failed, child = parked.clone(2)
    assert isinstance(failed, CloneError)
    assert text(child, "x") == "1"


def test_a_replay_that_fails_leaves_no_sandbox(server: E2BServer) -> None:
    session = Cloud(server).open(fork="replay")
    run(session, "import pathlib\nx = 1")
    server.fail("execute", 500)
    assert "could not be run again" in only_errors(session.clone(1), 1)
    server.fail("create", 500)
    assert "no sandbox to run the cells again in" in only_errors(session.clone(1), 1)
    assert len(server.sandboxes) == 1
    assert text(session, "x") == "1"


# --- cells ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_a_refused_cell_is_sent_again(server: E2BServer, session: Session, status: int) -> None:
    server.fail("execute", status, times=2, plain=True)
    assert text(session, "x += 1\nx") == "2"
    assert server.count("execute") == 3


def test_a_cell_that_is_always_refused_has_not_run(server: E2BServer, session: Session) -> None:
    server.fail("execute", 429, times=5, plain=True)
    with pytest.raises(ToolFault, match="refused to run"):
        run(session, "x += 1")
    assert text(session, "x") == "1", "nothing was lost"


@pytest.mark.parametrize("fault", [{"cut": True}, {"status": 500}, {"status": 502, "plain": True}])
def test_a_cell_that_may_have_run_is_never_run_again(server: E2BServer, session: Session, fault: dict[str, object]) -> None:
    (witness,) = session.clone(1)
    server.fail("execute", **fault)
    with pytest.raises(ToolFault, match="The E2B sandbox was lost"):
        run(session, "print(1)\nx += 1")
    assert server.count("execute") == 1
    for _ in range(2):
        with pytest.raises(ToolFault, match="The E2B sandbox was lost"):
            run(session, "x")
    assert "was lost" in only_errors(session.clone(2), 2)
    assert server.count("execute") == 1, "a lost sandbox is left alone"
    assert text(witness, "x") == "1", "its clone is not"


@pytest.mark.timeout(30)
def test_a_broken_connection_is_reported_in_time(server: E2BServer, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fail("execute", cut=True)
    server.fail("health", seconds=60.0)
    seconds = granted(monkeypatch)
    with pytest.raises(ToolFault, match="was lost"):
        run(session, "print(1)", timeout=1.0)
    assert len(seconds) == 2, "the cell, and the SDK's own question whether the sandbox is there"
    assert sum(seconds) <= 1.0


def test_a_sandbox_that_is_gone(server: E2BServer, session: Session) -> None:
    server.lose(session._sandbox.sandbox_id)
    with pytest.raises(ToolFault, match=r"The E2B sandbox was lost: .*not found"):
        run(session, "x")
    session.close()
    with pytest.raises(ToolFault):
        run(session, "x")


def test_a_sandbox_that_is_gone_when_time_is_up(server: E2BServer, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(session._sandbox), "is_running", lambda self, request_timeout=None: False)
    with pytest.raises(ToolFault, match=r"The E2B sandbox was lost: .*timed out"):
        run(session, "while True: pass", timeout=0.4)


def test_a_sandbox_whose_life_cannot_be_prolonged(server: E2BServer, session: Session) -> None:
    session._heard -= 400
    server.fail("timeout", 500)
    assert text(session, "x") == "1"
    session._heard -= 400
    server.lose(session._sandbox.sandbox_id)
    with pytest.raises(ToolFault, match="end of its lifetime"):
        run(session, "x")


def test_a_cell_that_cannot_be_interrupted_makes_the_next_ones_time_out(server: E2BServer, session: Session) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    assert run(session, stubborn, timeout=0.4).error == "timeout"
    session.reseed(1)
    assert run(session, "x", timeout=0.4).error == "timeout"


# --- closing --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(30)
@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429}, {"cut": True}, {"status": 404}, {"seconds": 60.0}])
def test_closing_never_raises_nor_waits(
    server: E2BServer, session: Session, fault: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(e2b.session, "CLOSING", 0.2)
    parked = session.park()
    server.fail("kill", **fault)
    server.fail("unsnapshot", **fault)
    seconds = granted(monkeypatch)
    for each in (session, parked):
        each.close()
        each.close()
    assert max(seconds) <= 0.2
    assert server.count("kill") == server.count("unsnapshot") == 1
    only_errors(session.clone(1), 1)


# --- the numbers ----------------------------------------------------------------------------------------------


def test_waits_double_within_a_seeded_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    waits = [wait_before(attempt, seed=7) for attempt in range(8)]
    assert waits == [wait_before(attempt, seed=7) for attempt in range(8)]
    assert waits != [wait_before(attempt, seed=8) for attempt in range(8)]
    for attempt, wait in enumerate(waits):
        longest = min(8.0, 0.25 * 2**attempt)
        assert longest / 2 <= wait <= longest


def test_a_time_out_is_not_doubled_by_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen(monkeypatch)
    assert seconds_for(Deadline.within(10.0)) == 5.0, "the transport adds two; see seconds_for"


# --- in a rollout ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forks(NoBranching):
    """One root, and a sibling after every tool result."""

    forks: bool = True

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> object:
        return roots_then_backfill(tree, left, 1)

    def on_result(self, point: object, rng: np.random.Generator) -> int:
        return 2


class Plan:
    branching = Forks()
    rollouts = 3


def grown(server: E2BServer, script: Callable[[str, int], str], **arguments: object) -> RolloutTree:
    """Returns a tree whose first path calls once and then forks twice."""
    tool = Cloud(server).tool(**arguments)
    growing = collect(
        lambda: ToolEnv(tasks=Sums(), tools=(tool,), reward=exact),
        [Start(seed=0)],
        ScriptedPolicy(script),
        ScriptedRenderer(),
        Plan(),
        seed=0,
        step=0,
        limits=Limits(),
    )
    (tree,) = asyncio.run(growing)
    return tree


def statuses(tree: RolloutTree) -> list[Status | None]:
    return sorted(status for status in (tree.nodes[leaf].status for leaf in tree.leaves()) if status is not None)


def once(before: str, seed: int) -> str:
    return "<answer>42</answer>" if "</result>" in before else "<python>6 * 7</python>"


def twice(before: str, seed: int) -> str:
    done = before.count("</result>")
    return ("<python>x = 1</python>", "<python>x + 1</python>", "<answer>42</answer>")[min(done, 2)]


def test_a_child_that_could_not_be_forked_is_a_leaf(server: E2BServer) -> None:
    server.fail("fork", 500, children=(1,), times=2)  # the first request is for the root, and has one child
    assert statuses(grown(server, once)) == [Status.ANSWERED, Status.ANSWERED, Status.CLONE_FAILED]
    assert not server.sandboxes


def test_a_lost_sandbox_is_a_leaf_and_its_siblings_answer(server: E2BServer) -> None:
    tree = grown(server, lambda before, seed: _losing(server, before, seed))
    assert statuses(tree) == [Status.ANSWERED, Status.ANSWERED, Status.TOOL_FAULT]
    assert not server.sandboxes


def _losing(server: E2BServer, before: str, seed: int) -> str:
    if before.count("</result>") == 1 and len(server.sandboxes) == 4:  # the first, the root and its two siblings
        server.lose(list(server.sandboxes)[-1])
    return twice(before, seed)


def test_a_cloud_that_starts_nothing_is_a_tree_of_failed_leaves(server: E2BServer) -> None:
    server.fail("create", 500)
    with pytest.raises(Exception, match="code-interpreter-v1"):
        grown(server, once)


def test_replayed_calls_are_counted_in_the_tree(server: E2BServer) -> None:
    tree = grown(server, once, fork="replay")
    assert sorted(node.replayed for node in tree.nodes)[-3:] == [0, 1, 1]
    assert statuses(tree) == [Status.ANSWERED] * 3
