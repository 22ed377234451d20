"""`arpo train` on a Ray cluster of two nodes, one of which is cut off: `unshare -Urn` ... `FOLDER NUMBER -- WORDS`.

The far node has a network of its own, at the other end of a virtual cable. When the NUMBER-th prompt has come back, the cable
is pulled out: packets get lost in both directions, and no connection is told. After the run it is put in again.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from algorithms.cli import elsewhere, main
from algorithms.cluster import Engines, Patience
from algorithms.cluster.collector import _Batch

HERE, THERE, PORT = "10.77.0.1", "10.77.0.2", 6379
RAY = str(Path(sys.executable).with_name("ray"))
PATIENCE = Patience(look=0.5, silence=15.0, pause=0.01)
NODE = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
# A node that does not answer is given up after a minute, unless Ray is told otherwise.
os.environ |= {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
    "RAY_worker_niceness": "0",
}


def ip(*words: str, into: Sequence[str] = ()) -> None:
    subprocess.run([*into, "ip", *words], check=True)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(what)


@contextlib.contextmanager
def running(*words: str) -> Iterator[int]:
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def below(pid: int) -> list[int]:
    """Returns the processes below one, that one included."""
    children = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return [pid, *itertools.chain.from_iterable(map(below, children))]


def workers(raylet: int) -> list[int]:
    """Returns the actors below a process that starts a node."""
    found = []
    for pid in below(raylet):
        with contextlib.suppress(OSError):
            if b"ray::_Actor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def joined(count: int) -> bool:
    from ray._raylet import GcsClient

    with contextlib.suppress(Exception):  # as long as there is no cluster
        return len(GcsClient(address=f"{HERE}:{PORT}").get_all_node_info(timeout=5)) == count
    return False


def strike(number: int, raylet: int, folder: Path) -> None:
    """Has the cable pulled out when so many prompts have come back."""
    usual, calls = _Batch._finish, itertools.count(1)

    def struck(*given: Any, **more: Any) -> Any:
        if next(calls) == number:
            (folder / "struck").write_text(" ".join(map(str, workers(raylet))), encoding="utf-8")
            ip("link", "set", "near", "down")
        return usual(*given, **more)

    _Batch._finish = struck  # type: ignore[method-assign]


def run(folder: Path, number: int, words: list[str]) -> int:
    ip("link", "set", "lo", "up")
    with running("unshare", "--net", "sleep", "infinity") as other:
        network = f"/proc/{other}/ns/net"
        wait_until(lambda: os.readlink(network) != os.readlink("/proc/self/ns/net"), "no network of its own")
        there = ["nsenter", f"--net={network}"]
        ip("link", "add", "name", "near", "type", "veth", "peer", "name", "far", "netns", str(other))
        ip("addr", "add", f"{HERE}/24", "dev", "near")
        ip("addr", "add", f"{THERE}/24", "dev", "far", into=there)
        ip("link", "set", "lo", "up", into=there)
        ip("link", "set", "far", "up", into=there)
        ip("link", "set", "near", "up")
        head = [
            "--head",
            f"--port={PORT}",
            f"--node-ip-address={HERE}",
            "--include-dashboard=false",
            f"--temp-dir={folder}/ray",
        ]
        far = [f"--address={HERE}:{PORT}", f"--node-ip-address={THERE}"]
        with running(RAY, "start", *head, *NODE):
            wait_until(lambda: joined(1), "the first node does not start")
            with running(*there, RAY, "start", *far, *NODE) as raylet:
                wait_until(lambda: joined(2), "the far node does not join")
                os.environ["RAY_ADDRESS"] = f"{HERE}:{PORT}"
                elsewhere.Engines = partial(Engines, patience=PATIENCE)  # type: ignore[misc, assignment]
                strike(number, raylet, folder)
                status = main(words)
                ip("link", "set", "near", "up")
                wait_until(lambda: not workers(raylet), "workers beyond the cable do not end")
                return status


if __name__ == "__main__":
    end = sys.argv.index("--")
    sys.exit(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[end + 1 :]))
