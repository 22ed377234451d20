"""Runs the attacks in one mode and reports: a program of its own, so that a mode may drop rights it cannot get back.

`python attack_modes.py MODE [NAME ...]` writes one JSON object a line: `{"unavailable": reason}`, or
`{"case": name, "complaints": [...]}` per attack and `{"left": [...]}` at the end.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from attack_census import children, descendants, is_alive, listed

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
_DROPPED = "--dropped"
_PR_SET_CHILD_SUBREAPER = 36
_WRITE_MINE = "import os\nopen('mine.txt', 'w').write('mine')"
_SIBLING = ("counter, os.listdir('.'), open('mine.txt').read()", "(41, ['mine.txt'], 'mine')")
_PATIENCE = 10.0
"""Seconds in which a bystander must answer, and what a case left must be gone."""
_LATE = re.compile("in time|timeout|come to rest")
"""What the tool says where it has waited in vain."""
_LONGER = 6
"""How many times longer everything may take then: what an attack holds up is held up for longer, too."""


class Late(str):
    """A complaint of which a busy machine may be the reason."""


def complaint(text: str, error: str | None, said: str) -> str:
    """Returns what is wrong with a result: it was late if time ran out, or if the tool itself says that it waited."""
    return Late(text) if error == "timeout" or (error in ("died", "clone") and _LATE.search(said)) else text


@dataclass(frozen=True)
class Mode:
    """As whom, and with what, the attacks are run.

    Args:
        name: for the report.
        root: as root; otherwise as a user without rights.
        namespaces: with namespaces and a private root.
    """

    name: str
    root: bool
    namespaces: bool


MODES = (
    Mode("root-with-namespaces", True, True),
    Mode("root-without-namespaces", True, False),
    Mode("user-with-namespaces", False, True),
    Mode("user-without-namespaces", False, False),
)


@dataclass
class ModeReport:
    """What came of a mode.

    Args:
        unavailable: why this machine cannot offer it; None if it can.
        complaints: by attack, what was wrong.
        left: what the mode has left behind; None if it did not get that far.
        failure: how the program failed, if it did.
    """

    unavailable: str | None = None
    complaints: dict[str, list[str]] = field(default_factory=dict)
    left: list[str] | None = None
    failure: str = ""


def run_mode(mode: Mode, timeout: float, names: Sequence[str] = ()) -> ModeReport:
    """Runs all attacks, or the named ones, in a mode.

    Args:
        mode: one of `MODES`.
        timeout: seconds for all of them.
    """
    if mode.root and os.geteuid() != 0:
        return ModeReport("these tests do not run as root")
    environment = {"PATH": os.environ.get("PATH", ""), "ARPO_ATTACK_SECRET": "must stay here", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", str(HERE / "attack_modes.py"), mode.name, *names]
    report = ModeReport()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=-1, stderr=errors, env=environment, text=True) as child,
    ):
        try:
            output, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            report.failure = f"not done after {timeout:g} s"
        errors.seek(0)
        said = errors.read()[-2000:]
    for line in output.splitlines():
        try:
            found = json.loads(line)
        except ValueError:  # it was killed in the middle of a line
            break
        report.unavailable = found.get("unavailable", report.unavailable)
        report.left = found.get("left", report.left)
        if "case" in found:
            report.complaints[found["case"]] = found["complaints"]
    if child.returncode or said:
        report.failure = f"{report.failure} exit status {child.returncode}: {said}".strip()
    return report


# --- the program ------------------------------------------------------------------------------------------


def main(mode_name: str, names: Sequence[str]) -> None:
    """Runs the attacks and reports on standard output."""
    mode = next(mode for mode in MODES if mode.name == mode_name)
    from arpo_envs.tools.python import SandboxUnavailable

    try:
        suite = Suite(mode)
    except SandboxUnavailable as error:
        _say(unavailable=str(error))
        return
    try:
        from attack_list import ATTACKS

        for attack in ATTACKS:
            if not names or attack.name in names:
                started = time.monotonic()
                _say(case=attack.name, complaints=suite.run(attack), seconds=round(time.monotonic() - started, 2))
    finally:
        left = suite.close()
    _say(left=left)


def _say(**report: Any) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


class Suite:
    """An original, a sibling of every attacker, a stranger, and the means to see that they are well.

    Args:
        mode: the mode, in which this process is already.

    Raises:
        SandboxUnavailable: this machine does not offer the mode.
    """

    def __init__(self, mode: Mode) -> None:
        import numpy
        from attacks import PRELUDE, SECRET, SECRET_TIME, Host, numbers
        from attacks_resources import DISK_MB, INODES, MEMORY_MB, OUTPUT
        from http_door import Door

        from arpo_envs.tasks import Task
        from arpo_envs.tools.python import PythonTool

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what escapes from the server becomes ours
        self.mode = mode
        self.folder = Path(tempfile.mkdtemp(prefix="attacked-"))
        self.folder.chmod(0o755)
        self.host = Host(self.folder, None)
        self.host.secret.write_text(SECRET, encoding="utf-8")
        self.host.secret.chmod(0o644)
        os.utime(self.host.secret, (SECRET_TIME, SECRET_TIME))
        layers = "full" if mode.namespaces else "no-namespaces"
        limits = {"memory_mb": MEMORY_MB, "disk_mb": DISK_MB, "inodes": INODES, "output_characters": OUTPUT}
        self.tool: Any = PythonTool(layers=layers, imports=("numpy",), **limits)
        try:
            self.root: Any = self.tool.open(Task("t", "?", ("1",)), numpy.random.default_rng(0))
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        self.stranger: Any = self.tool.open(Task("u", "?", ("1",)), numpy.random.default_rng(1))
        self.server = self.tool._server
        self.door = Door()
        self._ask(self.root, f"{PRELUDE}\nnumbers = {numbers(os.uname().machine)}")
        self._ask(self.stranger, f"counter = 41\n{_WRITE_MINE}")
        self.original: Any = None
        self.sibling: Any = None
        self._renew()
        self.before = self._at_rest()

    def _renew(self) -> None:
        """Makes the original and its sibling, in the place of those that an attack has reached, for the next ones."""
        for reached in (self.original, self.sibling):
            if reached is not None:
                reached.close()
        [self.original] = self.root.clone()
        [self.sibling] = self.original.clone()
        self._ask(self.sibling, _WRITE_MINE)
        self._ask(self.original, f"host = {self._facts()}")

    def run(self, attack: Any) -> list[str]:
        """Runs one attack in a clone of the original, itself a clone, and returns what was wrong.

        What was late may have been so because of the machine: in its place counts what is wrong when all is given more time.
        """
        found = self._run(attack, 1)
        certain = [one for one in found if not isinstance(one, Late)]
        return found if len(certain) == len(found) else certain + self._run(attack, _LONGER)

    def _run(self, attack: Any, longer: int) -> list[str]:
        opened: list[Any] = []
        found: list[str] = []
        try:
            with _patience(attack.answering, attack.grace, longer):
                slower = replace(attack, seconds=longer * attack.seconds)
                for one in self._complaints(slower, longer * _PATIENCE, opened):
                    found += [one] if one else []
        except Exception as error:
            is_late = isinstance(error, TimeoutError) or _LATE.search(str(error))
            found.append((Late if is_late else str)(traceback.format_exc()))
        finally:
            for session in opened:
                session.close()
        return found

    def _complaints(self, attack: Any, patience: float, opened: list[Any]) -> Iterator[str | None]:
        from attacks import INTACT, Host, Seen

        original = self.original
        if attack.before:
            opened += original.clone()
            original = opened[0]
            prepared = original.call("python", {"code": attack.before}, timeout=attack.seconds)
            failed = f"the preparation failed ({prepared.error}): {prepared.text}"
            yield prepared.error and complaint(failed, prepared.error, prepared.text)
        [clone] = original.clone()
        host, took = self.host, 0.0
        if isinstance(clone, Exception):
            seen = Seen(str(clone), "clone", self.mode.namespaces)
        else:
            opened.append(clone)
            if attack.host and not self.mode.namespaces:
                host = Host(
                    self.folder, Path(bytes.fromhex(self._ask(clone, "os.getcwd().encode().hex()").strip("'")).decode())
                )
            started = time.monotonic()
            with self._meanwhile(attack.meanwhile, original):
                result = clone.call("python", {"code": attack.cell}, timeout=attack.seconds)
            took = time.monotonic() - started
            seen = Seen(result.text, result.error, self.mode.namespaces)
        wrong = attack.expect(seen)
        yield wrong and complaint(f"{wrong}; seen ({seen.error}): {seen.text[-500:]}", seen.error, seen.text)
        yield Late(f"the call took {took:.1f} s, and did not end in time") if took > attack.seconds + patience else None
        says = partial(self._says, patience)
        if seen.error != "clone":
            yield says("the attacker", clone, attack.after)
        if attack.before and attack.meanwhile != "close":
            yield says("the attacker's original", original, attack.original)
        harmed = [says("the original", self.original, INTACT), says("the sibling", self.sibling, _SIBLING)]
        yield from harmed
        if any(harmed):
            self._renew()
        yield says("the stranger", self.stranger, _SIBLING)
        yield attack.host and attack.host(host)

    @contextlib.contextmanager
    def _meanwhile(self, what: str, original: Any) -> Iterator[None]:
        """Does what an attack waits for, until it is over."""
        over = threading.Event()

        def clone() -> None:
            while not over.is_set():
                for twin in self.sibling.clone():
                    if not isinstance(twin, Exception):
                        twin.close()

        def close() -> None:
            over.wait(0.2)
            original.close()

        doing = threading.Thread(target={"clone": clone, "close": close, "": over.is_set}[what])
        doing.start()
        try:
            yield
        finally:
            over.set()
            doing.join()

    @staticmethod
    def _says(patience: float, who: str, session: Any, ask: tuple[str, str] | None) -> str | None:
        """Returns what is wrong with a session's answer; without a question it need only come in time."""
        code, text = ask or ("0", "")
        started = time.monotonic()
        result = session.call("python", {"code": code}, timeout=patience)
        took = time.monotonic() - started
        if took > patience:
            return Late(f"{who} took {took:.1f} s and did not answer in time")
        if ask is None or (result.text, result.error) == (text, None):
            return None
        wrong = f"{who} said ({result.error}) {result.text[-300:]!r} to {code!r}, not {text!r}"
        return complaint(wrong, result.error, result.text)

    def close(self) -> list[str]:
        """Ends everything and returns what was left."""
        left: list[str] = []
        for name, count in self._settled(self._census, self.before).items():
            if count != self.before[name]:
                left.append(f"{name}: {self.before[name]} before, {count} after")
        folders = [] if self.mode.namespaces else [self._server_folder()]
        for session in (self.root, self.original, self.sibling, self.stranger):
            session.close()
        self.server.close()
        self.door.close()
        nobody: list[int] = []
        alive = self._settled(lambda: [pid for pid in descendants(os.getpid()) if is_alive(pid)], nobody)
        left += [f"process {pid} outlives the server" for pid in alive]
        left += [f"{folder} is still there" for folder in folders if folder.exists()]
        shutil.rmtree(self.folder)
        return left

    @staticmethod
    def _settled(look: Callable[[], Any], wanted: Any) -> Any:
        """Returns what is seen as soon as it is what is wanted, or at last."""
        deadline = time.monotonic() + _PATIENCE
        while (found := look()) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    # --- the host's facts ---------------------------------------------------------------------------------

    def _ask(self, session: Any, code: str) -> str:
        result = session.call("python", {"code": code}, timeout=30.0)
        if result.error:
            raise RuntimeError(f"the suite itself failed ({result.error}): {result.text}")
        return str(result.text)

    def _facts(self) -> dict[str, Any]:
        from allowed_calls import unlisted

        return {
            "pid": os.getpid(),
            "server": self.server._program.pid,
            "supervisor": 1 if self.mode.namespaces else self.server._program.pid,
            "sibling": self.sibling._process.pid,
            "sibling inside": self.sibling._process.inner,
            "stranger": self.stranger._process.pid,
            "secret": str(self.host.secret),
            "folder": str(self.folder),
            "checkout": str(CHECKOUT),
            "name": socket.gethostname(),
            "port": self.door.port,
            "unlisted": unlisted(os.uname().machine),
        }

    def _supervisor(self) -> int:
        """Returns the supervisor's pid: the server's, or that of its child in the namespaces."""
        server: int = self.server._program.pid
        return children(server)[0] if self.mode.namespaces else server

    def _at_rest(self) -> dict[str, int]:
        """Returns the census once it stays the same: on a busy machine what was ended may take its time."""
        seen = [self._census()]
        deadline = time.monotonic() + _PATIENCE
        while seen[-3:].count(seen[-1]) < 3 and time.monotonic() < deadline:
            time.sleep(0.3)
            seen.append(self._census())
        return seen[-1]

    def _census(self) -> dict[str, int]:
        for session in (self.root, self.original, self.sibling, self.stranger):  # each has its next checkpoint, or may have
            self._ask(session, "0")
            if session._shadow is not None:
                wait([session._shadow], _PATIENCE)
        supervisor = self._supervisor()
        counts = {
            "processes": len([pid for pid in descendants(os.getpid()) if is_alive(pid)]),
            "descriptors of the host": len(os.listdir("/proc/self/fd")),
            "descriptors of the server": len(os.listdir(f"/proc/{supervisor}/fd")),
        }
        if self.mode.namespaces:
            mounts = Path(f"/proc/{supervisor}/mountinfo").read_text(encoding="utf-8").splitlines()
            return counts | {"mounts": sum(line.split()[4].startswith("/arpo-sessions/") for line in mounts)}
        return counts | {"folders": sum(len(files) for files in listed(self._server_folder() / "sessions"))}

    def _server_folder(self) -> Path:
        where = bytes.fromhex(self._ask(self.original, "os.getcwd().encode().hex()").strip("'")).decode()
        return next(folder for folder in Path(where).parents if folder.name.startswith("arpo-python-"))


@contextlib.contextmanager
def _patience(answering: float | None, grace: float | None, longer: int) -> Iterator[None]:
    """Changes the time that a session has for anything but cells, and to stop a cell; None is the usual time."""
    from arpo_envs.tools.python import client, orders, session

    with contextlib.ExitStack() as stack:
        for module, name, seconds in (
            (client, "ANSWERING", answering),
            (client, "OBEYING", answering),
            (orders, "OBEYING", answering),
            (session, "GRACE", grace),
        ):
            usual = getattr(module, name)
            stack.enter_context(mock.patch.object(module, name, longer * (usual if seconds is None else seconds)))
        yield


if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT), str(HERE)]
    from attack_rights import drop_rights

    wanted = [argument for argument in sys.argv[1:] if argument != _DROPPED]
    if "user" in wanted[0] and os.geteuid() == 0:
        try:
            drop_rights(CHECKOUT, [str(HERE / "attack_modes.py"), *sys.argv[1:], _DROPPED])
        except OSError as error:
            _say(unavailable=f"no user without rights can reach this interpreter, and it could not be let through: {error}")
            sys.exit()
    main(wanted[0], wanted[1:])
