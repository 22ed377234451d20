"""A host that a test may kill: `python life_host.py MODE SCENARIO` opens sessions, says so, and then does what it is told.

It writes `{"ready": true, ...}` on standard output when its sessions are open, or `{"unavailable": reason}`, and a
second line with what the scenario found. Each scenario waits for a line on standard input before it ends.
"""

import contextlib
import gc
import json
import os
import pickle
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def code(name: str) -> str:
    return {"where": "import os; os.getcwd().encode().hex()", "sleep": "import time; time.sleep(100)"}[name]


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class Host:
    """Two sessions and a clone of each, one with files."""

    def __init__(self, mode: str) -> None:
        from python_sessions import open_session, rest, text

        from arpo_envs.tools.python import PythonTool

        self.tool = PythonTool(layers=mode, imports=())
        self.sessions: list[Any] = [open_session(self.tool, seed) for seed in (0, 1)]
        text(self.sessions[0], "open('f', 'w').write('x' * 1000)")
        for session in tuple(self.sessions):
            self.sessions += session.clone()
        where = bytes.fromhex(text(self.sessions[0], code("where")).strip("'")).decode()
        rest(*self.sessions)
        assert self.tool._server is not None
        self.folder = "" if self.tool._server.namespaces else str(Path(where).parents[2])
        self.server = self.tool._server._program.pid

    # --- scenarios ----------------------------------------------------------------------------------------

    def idle(self) -> None:
        """Leaves everything open."""

    def closed(self) -> None:
        """Closes what it opened."""
        sys.stdin.readline()
        for session in self.sessions:
            session.close()

    def raises(self) -> None:
        """Ends with an error."""
        sys.stdin.readline()
        raise SystemExit("on purpose")

    def busy(self) -> None:
        """Is in the middle of a cell."""
        cell = threading.Thread(target=self.sessions[0].call, args=("python", {"code": code("sleep")}), kwargs={"timeout": 100})
        cell.daemon = True
        cell.start()
        time.sleep(0.5)

    def forks(self) -> None:
        """Forks itself: the fork must not use, and not end, what this process uses."""
        from python_sessions import open_session, run, text

        from arpo_envs.errors import ToolFault

        reading, writing = os.pipe()
        tool, sessions = self.tool, self.sessions
        holding = threading.Event()
        release = threading.Event()

        def hold() -> None:
            with tool._server._lock:  # another thread is talking to the server at this moment
                holding.set()
                release.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        holding.wait(30)
        child = os.fork()
        if child == 0:
            found: dict[str, Any] = {}
            try:
                try:
                    run(sessions[0], "1")
                except ToolFault as fault:
                    found["call"] = [type(fault).__name__, str(fault)]
                found["clone"] = [type(twin).__name__ for twin in sessions[0].clone(2)]
                sessions[1].reseed(1)
                sessions[1].close()
                sessions.clear()
                gc.collect()
                own = open_session(tool)
                found["own"] = [text(own, "6 * 7"), tool._server._program.pid != self.server]
                own.close()
                tool._server.close()
            except BaseException as error:
                found["failed"] = repr(error)
            os.write(writing, json.dumps(found).encode())
            os._exit(0)
        release.set()
        holder.join()
        os.close(writing)
        with os.fdopen(reading) as pipe:
            found = json.loads(pipe.read())
        os.waitpid(child, 0)
        found["afterwards"] = [text(session, "2 + 2") for session in self.sessions]
        found["same server"] = tool._server._program.pid == self.server
        say(**found)

    def exhausts(self) -> None:
        """Has no descriptor left for another session."""
        from python_sessions import run

        from arpo_envs import CloneError

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 6, hard))
        run(self.sessions[0], "1")  # uses up the checkpoint that it has already
        clones: list[Any] = [twin for _ in range(20) for twin in self.sessions[0].clone()]
        made = [twin for twin in clones if not isinstance(twin, CloneError)]
        errors = sorted({str(twin) for twin in clones if isinstance(twin, CloneError)})
        result = run(self.sessions[0], "1")
        for twin in made:
            twin.close()
        found = {"made": len(made), "errors": errors, "result": [result.error, result.text]}
        say(**found, after=run(self.sessions[0], "2").text)

    def pickles(self) -> None:
        """Sends the tool to another process, which starts a server of its own."""
        from multiprocessing import get_context

        with get_context("spawn").Pool(1) as pool:
            answer, server = pool.apply(answer_elsewhere, (pickle.dumps(self.tool),))
        say(answer=answer, own=server != self.server)


def answer_elsewhere(tool: bytes) -> tuple[str, int]:
    from python_sessions import opened, text

    copy = pickle.loads(tool)
    with opened(copy) as session:
        return text(session, "6 * 7"), copy._server._program.pid


def main(mode: str, scenario: str) -> None:
    from arpo_envs.tools.python import SandboxUnavailable

    try:
        host = Host(mode)
    except SandboxUnavailable as missing:
        say(unavailable=str(missing))
        return
    say(ready=True, folder=host.folder, server=host.server)
    getattr(host, scenario)()
    say(done=True)
    with contextlib.suppress(OSError):
        sys.stdin.readline()


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parents[2]), str(HERE)]
    main(*sys.argv[1:])
