"""Runs attacks in a plain interpreter, without anything that confines it: a program of its own.

So it is seen that an attack would succeed, and that its test could fail. `python unconfined.py [NAME ...]` writes one JSON
object a line: what the cell showed, what its original said then, and what the host complains about. As an attack may do
harm now, each has namespaces of its own, with a file system that cannot be written to but for the folders it is after; they
are gone afterwards, with all processes.
"""

import ast
import contextlib
import fcntl
import io
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from apart import CHECKOUT, lay_over, shut

HERE = Path(__file__).resolve().parent
_MOST_MEMORY = 400 << 20
"""Bytes after which an interpreter is stopped: twice what a confined one gets."""
_MOST_SECONDS = 2.0
_FURNISHED = b"\n"
_SIZE = "size=200m,nr_inodes=20000"


def main(names: list[str]) -> None:
    from attack_list import ATTACKS

    for attack in ATTACKS:
        if not names or attack.name in names:
            found = _apart(attack)
            sys.stdout.write(json.dumps({"case": attack.name} | found) + "\n")
            sys.stdout.flush()


def _apart(attack: Any) -> dict[str, Any]:
    """Runs one attack in namespaces of its own, and returns what came of it."""
    reading, writing = os.pipe()
    outside = os.fork()
    if not outside:
        os.close(reading)
        _enter(attack, writing)
    os.close(writing)
    answer = _read_all(reading, 2 * _MOST_SECONDS)
    os.kill(outside, signal.SIGKILL)
    os.waitpid(outside, 0)
    if answer == _FURNISHED:
        return {"text": "it stopped what watched it", "error": "died", "original": None, "host": None}
    return json.loads(answer or b'{"defect": "no answer"}')  # type: ignore[no-any-return]  # this program's own words


def _enter(attack: Any, writing: int) -> NoReturn:
    from arpo_envs.tools.python.server.isolation import kernel, namespaces

    try:
        os.setsid()  # signals to a group stay here
        namespaces.separate(namespaces.REQUIRED)
        first = os.fork()
        if first:
            os.close(writing)
            os.waitpid(first, 0)
            os._exit(0)
        kernel.prctl(1, signal.SIGKILL)
        place = _Place(attack)
        os.write(writing, _FURNISHED)
        os.write(writing, json.dumps(place.found()).encode())
    except BaseException:  # the test shall see what happened
        os.write(writing, json.dumps({"defect": traceback.format_exc()}).encode())
    finally:
        os._exit(0)


def _read_all(file: int, seconds: float) -> bytes:
    data, deadline = b"", time.monotonic() + seconds
    while select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(file, 1 << 16)
        if not piece:
            break
        data += piece
    os.close(file)
    return data


class _Place:
    """What an attack finds around it, in namespaces of its own."""

    def __init__(self, attack: Any) -> None:
        from attacks import SECRET, SECRET_TIME, Host
        from http_door import Door

        self.attack = attack
        self._furnish()
        self.folder = Path(tempfile.mkdtemp(prefix="attacked-", dir="/tmp"))
        self.folder.chmod(0o777)
        self.workdir = Path(tempfile.mkdtemp(prefix="work-", dir="/tmp")) / "clone"
        self.workdir.mkdir()
        self.host = Host(self.folder, self.workdir)
        self.host.secret.write_text(SECRET, encoding="utf-8")
        self.host.secret.chmod(0o644)
        os.utime(self.host.secret, (SECRET_TIME, SECRET_TIME))
        self.neighbour = self._neighbour()
        self.door = Door()

    def _furnish(self) -> None:
        shut(_SIZE)
        for path in self._replaced():
            lay_over(path)

    def _replaced(self) -> Sequence[str]:
        """Returns the files that an attack changes or locks: the host's own must not be reached."""
        from attacks_locks import LOCKED, LOCKS

        return LOCKED if self.attack in LOCKS else (os.__file__,)

    def _neighbour(self) -> int:
        """Starts a process with a file, in the place of siblings and strangers."""
        pid = os.fork()
        if not pid:
            os.mkdir(self.workdir.parent / "neighbour")
            os.chdir(self.workdir.parent / "neighbour")
            Path("mine.txt").write_text("mine")
            while True:
                signal.pause()
        return pid

    def found(self) -> dict[str, Any]:
        reading, writing = os.pipe()
        original = os.fork()
        if not original:
            _run(self.attack, self._facts(), self.workdir, writing)
        os.close(writing)
        seen = _watched(reading, min(self.attack.seconds, _MOST_SECONDS))
        complaint = None
        with contextlib.suppress(FileNotFoundError):
            complaint = self.attack.host and self.attack.host(self.host)
        return seen | {"host": complaint}

    def _facts(self) -> dict[str, Any]:
        from allowed_calls import unlisted

        pids = dict.fromkeys(("sibling", "sibling inside", "stranger", "server"), self.neighbour)
        return pids | {
            "pid": self.neighbour,
            "supervisor": self.neighbour,
            "secret": str(self.host.secret),
            "folder": str(self.folder),
            "checkout": str(CHECKOUT),
            "name": socket.gethostname(),
            "port": self.door.port,
            "unlisted": unlisted(os.uname().machine),
        }


def _watched(file: int, seconds: float) -> dict[str, Any]:
    """Returns the last that was said on a pipe, or that somebody took too much time or memory, and was stopped."""
    deadline, data = time.monotonic() + seconds, b""
    stopped = ""
    while not stopped:
        if select.select([file], [], [], 0.01)[0]:
            piece = os.read(file, 1 << 16)
            if not piece:
                break
            data += piece
            if data.endswith(b"}\n"):
                break
        if time.monotonic() > deadline:
            stopped = "it would go on"
        elif max(_resident_sizes(), default=0) > _MOST_MEMORY:
            stopped = "it would take ever more memory"
    lines = data.decode("utf-8", "replace").splitlines()
    if lines and not stopped:
        return json.loads(lines[-1])  # type: ignore[no-any-return]  # this program's own words
    return {"text": stopped or "it ended the interpreter", "error": "stopped" if stopped else "died", "original": None}


def _resident_sizes() -> list[int]:
    sizes = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                sizes.append(int(Path(f"/proc/{name}/statm").read_text().split()[1]) * 4096)
    return sizes


def _run(attack: Any, facts: dict[str, Any], workdir: Path, writing: int) -> NoReturn:
    """Plays the original, which copies itself by a plain fork, and says what came of it."""
    try:
        saying, hearing, telling = _out_of_reach(writing, *os.pipe())
        names = _prepared(attack, facts, workdir)
        if not os.fork():
            text, error = _cell(attack.cell, names)
            os.write(telling, json.dumps({"text": text[-20_000:], "error": error}).encode() + b"\n")
            while True:
                signal.pause()
        os.close(telling)
        data = b""
        while not data.endswith(b"\n") and (piece := os.read(hearing, 1 << 16)):
            data += piece
        said = json.loads(data.splitlines()[0]) if data else {"text": "it ended the interpreter", "error": "died"}
        said["original"] = _cell(attack.original[0], names)[0] if attack.original else None
        os.write(saying, json.dumps(said).encode() + b"\n")
    finally:
        os._exit(0)


def _out_of_reach(*files: int) -> list[int]:
    """Moves descriptors to where no attack looks."""
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, 900) for file in files]
    for file in files:
        os.close(file)
    return moved


def _prepared(attack: Any, facts: dict[str, Any], workdir: Path) -> dict[str, Any]:
    from attacks import PRELUDE, numbers

    os.chdir(workdir)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    names: dict[str, Any] = {"__name__": "__main__"}
    _cell(f"{PRELUDE}\nhost = {facts}\nnumbers = {numbers(os.uname().machine)}", names)
    _cell(attack.before, names)
    return names


def _cell(code: str, names: dict[str, Any]) -> tuple[str, str | None]:
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            tree = ast.parse(code)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "<cell>", "exec"), names)  # noqa: S102  # as a session does
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last is not None else None
    except Exception as error:
        return f"{out.getvalue()}{type(error).__name__}: {error}", "error"
    return f"{out.getvalue()}{'' if value is None else repr(value)}".rstrip("\n"), None


if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT), str(HERE)]
    sys.argv[1:], wanted = [], sys.argv[1:]
    main(wanted)
