"""The processes in which checkers and readers run: they end what takes too long, and nothing else is harmed or left."""

import contextlib
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arpo_envs.rewards import check
from arpo_envs.rewards.worker.host import Overrun, Raised, Worker, shared_worker
from arpo_envs.tasks import Task


def judged(answer: str, expected: str) -> bool:
    return check(Task("t", "?", (expected,), {"answer_type": "math"}), answer).success


@pytest.mark.timeout(100)
def test_a_call_past_its_time_ends_and_the_next_one_works():
    worker = Worker("time:sleep")
    first = worker.call((0,), seconds=1.0)
    assert first is None
    with pytest.raises(Raised, match="TypeError"):
        worker.call(("a",), seconds=1.0)
    with pytest.raises(Overrun, match="timeout"):
        worker.call((3600,), seconds=0.05)  # asleep: the wall clock ends it
    assert worker.call((0,), seconds=1.0) is None
    worker.close()
    assert worker.call((0,), seconds=1.0) is None
    worker.close()
    worker.close()


def test_processor_time_ends_what_no_signal_handler_could():
    worker = Worker("builtins:pow")
    assert worker.call((2, 10), seconds=1.0) == 1024
    process = worker._idle[-1].program
    with pytest.raises(Overrun, match="timeout"):
        worker.call((10, 10**8 + 1), seconds=0.2)
    assert process.returncode == -signal.SIGPROF, "the kernel ended it, not we when the wall time was over"
    assert worker.call((2, 10), seconds=1.0) == 1024
    worker.close()


def test_threads_share_one_worker():
    worker, results = Worker("math:sqrt"), {}

    def ask(number: int) -> None:
        results[number] = worker.call((number * number,), seconds=5.0)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.close()
    assert results == {number: number for number in range(24)}


@pytest.fixture
def asleep():
    """A worker of two processes, one of which sleeps until it is ended."""
    worker = Worker("time:sleep", processes=2)
    worker.call((0,), seconds=1.0)
    process = worker._idle[-1].program

    def sleep() -> None:
        with contextlib.suppress(Overrun):
            worker.call((3600,), seconds=1.0, wall=100.0)

    thread = threading.Thread(target=sleep)
    thread.start()
    while worker._idle:
        time.sleep(0.001)
    yield worker
    process.kill()
    thread.join()
    worker.close()


@pytest.mark.timeout(100)
def test_a_second_process_answers_while_the_first_is_busy(asleep):
    assert asleep.call((0,), seconds=1.0) is None
    assert len(asleep._idle) == 1, "the first still sleeps"


@pytest.mark.timeout(100)
def test_a_call_waits_for_others_no_longer_than_it_may_take(asleep):
    asleep._free.acquire()
    with pytest.raises(Overrun, match="timeout"):
        asleep.call((0,), seconds=1.0, wall=0.05)
    asleep._free.release()
    assert asleep.call((0,), seconds=1.0, wall=90.0) is None


@pytest.mark.timeout(100)
def test_who_has_waited_long_ends_no_process_that_does_nothing_wrong():
    worker = Worker("time:sleep")
    worker.call((0,), seconds=1.0)
    process = worker._idle[-1]
    with ThreadPoolExecutor(9) as pool:
        calls = [pool.submit(worker.call, (0.1,), seconds=1.0, wall=0.45) for _ in range(9)]
        outcomes = ["timeout" if call.exception() else "answered" for call in calls]
    assert {*outcomes} == {"answered", "timeout"}
    assert worker._idle == [process]
    worker.close()


@pytest.mark.timeout(100)
def test_a_process_is_only_added_when_all_are_busy():
    worker = Worker("time:sleep", processes=2)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: worker.call((0.2,), seconds=5.0), range(2))) == [None, None]
    kept, killed = worker._idle
    killed.program.kill()
    with pytest.raises(Overrun, match="died"):
        worker.call((0,), seconds=1.0)
    assert worker.call((0,), seconds=1.0) is None
    assert worker._idle == [kept]
    worker.close()


def test_a_call_may_take_any_time():
    worker = Worker("math:sqrt")
    assert worker.call((4,), seconds=1.0, wall=math.inf) == 2.0
    worker.close()


def in_child(queue) -> None:
    queue.put((os.getpid(), judged("x+1", "1+x"), judged("x+2", "1+x")))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_a_worker_of_its_own():
    assert judged("y+x", "x+y")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(queue,))
    child.start()
    _, right, wrong = queue.get(timeout=120)
    child.join(60)
    assert (right, wrong) == (True, False)
    assert judged("z+x", "x+z"), "the parent's worker lives on"


SCRIPT = """
import os, sys
from arpo_envs.rewards.worker import shared_worker
worker = shared_worker("math:sqrt")
worker.call((4,), seconds=5.0)
print(worker._idle[-1].program.pid, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)", "raise KeyboardInterrupt"])
def test_no_worker_outlives_its_host(end):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(end=end)], capture_output=True, text=True, check=False
    )
    assert "ResourceWarning" not in run.stderr
    pid = int(run.stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and running(pid):
        time.sleep(0.05)
    assert not running(pid)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def test_a_killed_worker_is_replaced_and_leaves_no_descriptors():
    worker = shared_worker("math:floor")
    assert worker.call((2.5,), seconds=5.0) == 2
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        os.kill(worker._idle[-1].program.pid, signal.SIGKILL)
        with pytest.raises(Overrun, match="died"):
            worker.call((2.5,), seconds=5.0)
        assert worker.call((3.5,), seconds=5.0) == 3
    assert len(os.listdir("/proc/self/fd")) == before
