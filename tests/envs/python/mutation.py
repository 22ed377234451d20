"""Breaks the interpreter's isolation, one protection at a time, and runs the tests that must notice: a program of its own.

`python mutation.py [WORD ...]` breaks what has one of the words in its file or text, or everything, and writes who survives;
its exit status is 0 if nobody does. `--third N` leaves out two of three. It needs root's rights: as attacks succeed on what is
broken, tests are run in a place of their own, where nothing of this machine can be changed, the checkout included.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NoReturn

import pytest
from apart import CHECKOUT, lay_changes_over, shut
from mutant_list import MUTANTS
from mutants import Mutant

HERE = Path(__file__).resolve().parent
_TESTS = HERE.relative_to(CHECKOUT)
_OF_PYTEST = ("tests/conftest.py", "tests/made_once.py", "tests/turns.py", "pyproject.toml", "CHANGELOG.md")
_COPIED = ("arpo_envs", str(_TESTS), *_OF_PYTEST)
_LANE = "--lane"
_THIRD = "--third"
_LANES = 2
"""Mutants that are made at the same time."""
_MOST_SECONDS = 60.0
"""After which a mutant is taken for noticed: it keeps its tests from ending."""
_PATIENCE = 900.0
"""Seconds for all tests without a mutant."""
_PYTEST = ("-q", "-x", "-m", "", "-n", "0", "-p", "no:cacheprovider", "--tb=short")
_SETTINGS = {
    "PATH": os.environ["PATH"],
    "OPENBLAS_NUM_THREADS": "1",
    "ARPO_TESTS_SKIP_NOTHING": "1",  # a layer that is broken looks like one that this machine lacks
}
_PASSED, _FAILED = 0, 1
"""How pytest ends; other ends mean that nothing was tested."""
_FEW_PROCESSES = 300
_PR_SET_PDEATHSIG = 1
_SIZE = "size=1g"


class _Imports:
    """Imports what the tests will need, while pytest can do it in its own way."""

    def pytest_configure(self) -> None:
        for name in ("gymnasium", "hypothesis"):
            importlib.import_module(name)


def _begin_without_ours(place: Path) -> None:
    """Makes this process one that has imported what tests need, and nothing of the checkout.

    Those who test are its children, who would else spend half of their time on imports.

    Args:
        place: where they find the checkout's copy.
    """
    os.environ.clear()
    os.environ.update(_SETTINGS, PYTHONPATH=str(place))
    with tempfile.TemporaryDirectory() as nothing, contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--rootdir", nothing, "-p", "no:cacheprovider", nothing], plugins=[_Imports()])
    ours = [name for name in sys.modules if name.partition(".")[0] in ("arpo_envs", *(path.stem for path in HERE.glob("*.py")))]
    for name in ours:
        del sys.modules[name]
    sys.path[:] = [str(place), *(path for path in sys.path if path not in ("", str(HERE), str(CHECKOUT)))]


class Copy:
    """A copy of the checkout that is changed and tested; this process must be the first of a process namespace.

    Args:
        folder: where it is made; others must be able to read it, because some tests give up root's rights.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.chmod(0o755)
        for name in _COPIED:
            if (CHECKOUT / name).is_dir():
                shutil.copytree(CHECKOUT / name, folder / name)
            else:
                shutil.copy(CHECKOUT / name, folder / name)
        _begin_without_ours(folder)
        os.chdir(folder / _TESTS)

    def run(self, tests: Sequence[str], seconds: float) -> tuple[int, str]:
        """Runs tests in the copy as it is now; returns how pytest ended, and the end of what it said.

        Args:
            tests: as for pytest.
            seconds: after which it is a failure.
        """
        with tempfile.TemporaryFile("w+") as output:
            tester = os.fork()
            if not tester:
                _test(tests, output.fileno())
            try:
                status = _status(tester, seconds)
            finally:
                _end_all_others()
            output.seek(0)
            return status, output.read()[-1500:]

    def survives(self, mutant: Mutant) -> bool:
        """Makes the mutant, runs its tests, takes it back, and says whether no test has noticed.

        Raises:
            ValueError: it cannot be made, or nothing was tested.
        """
        path = self._folder / mutant.path
        whole = path.read_text(encoding="utf-8")
        if whole.count(mutant.old) != 1:
            raise ValueError(f"{mutant}: its text is there {whole.count(mutant.old)} times")
        try:
            _write(path, whole.replace(mutant.old, mutant.new))
            status, said = self.run(mutant.tests, _MOST_SECONDS)
        finally:
            _write(path, whole)
        if status not in (_PASSED, _FAILED):
            raise ValueError(f"{mutant}: pytest ended with {status}\n{said}")
        return status == _PASSED


def _test(tests: Sequence[str], output: int) -> NoReturn:
    """Becomes the process that runs tests.

    Args:
        tests: as for pytest.
        output: a descriptor; what pytest says is written there.
    """
    status = 3  # as pytest says that it has itself failed
    try:
        os.setsid()
        for stream in (1, 2):
            os.dup2(output, stream)
        status = pytest.main([*_PYTEST, *tests])
    finally:
        sys.stdout.flush()
        os._exit(status)


def _status(child: int, seconds: float) -> int:
    """Returns how a child ends; if it has not by then, that it has failed."""
    handle = os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], seconds)[0]:
            return _FAILED
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(handle)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)  # its time is compared in seconds


def _end_all_others() -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _use_up_numbers() -> None:
    """Has later processes get numbers that the first few of a process namespace within this one do not have."""
    for _ in range(_FEW_PROCESSES):
        if not os.fork():
            os._exit(0)
        os.wait()


def _run_lane(mutants: Sequence[Mutant]) -> None:
    """Makes mutants one after another in a place of their own, and writes which survive.

    Raises:
        OSError: there can be no such place.
    """
    from arpo_envs.tools.python.server.isolation import kernel, namespaces

    kernel.call("unshare", namespaces.MOUNT | namespaces.PROCESS | namespaces.NETWORK)
    first = os.fork()
    if first:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    shut(_SIZE)
    lay_changes_over(os.path.dirname(os.__file__))  # tests try to write there, and look at what refuses it
    _use_up_numbers()
    copy = Copy(Path(tempfile.mkdtemp(dir="/tmp")))
    status, said = copy.run(sorted({test for mutant in mutants for test in mutant.tests}), _PATIENCE)
    if status != _PASSED:
        raise ValueError(f"the tests fail without any mutant\n{said}")
    for mutant in mutants:
        if copy.survives(mutant):
            sys.stdout.write(f"{mutant}\n")


def survivors(mutants: Sequence[Mutant]) -> list[str]:
    """Returns a description of every mutant that no test has noticed.

    Args:
        mutants: those that are made.

    Raises:
        subprocess.CalledProcessError: something could not be judged; what, was written on standard error.
    """
    together: dict[tuple[str, ...], list[str]] = defaultdict(list)  # so that only one lane has to know that the tests pass
    for mutant in mutants:
        together[mutant.tests].append(str(MUTANTS.index(mutant)))
    groups = list(together.values())
    command = [sys.executable, __file__, _LANE]
    lanes = [
        subprocess.Popen([*command, *chain(*groups[first::_LANES])], stdout=subprocess.PIPE, text=True)
        for first in range(min(_LANES, len(groups)))
    ]
    left = []
    for lane in lanes:
        said, _ = lane.communicate()
        left += said.splitlines()
    for lane in lanes:
        if lane.returncode:
            raise subprocess.CalledProcessError(lane.returncode, lane.args)
    return left


def main(words: Sequence[str]) -> int:
    """Makes the mutants that have one of the words, or all, or every third of them; returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument(_THIRD, type=int, choices=range(3))
    asked = parser.parse_args(words)
    chosen = [one for one in MUTANTS if not asked.words or any(word in f"{one.path} {one.old}" for word in asked.words)]
    chosen = chosen if asked.third is None else chosen[asked.third :: 3]
    left = survivors(chosen)
    part = "" if asked.third is None else f" ({_THIRD} {asked.third})"
    sys.stdout.write("\n".join([*left, f"{len(chosen)} mutants{part}, {len(left)} survive\n"]))
    return 1 if left else 0


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))
    if sys.argv[1:2] == [_LANE]:
        _run_lane([MUTANTS[int(number)] for number in sys.argv[2:]])
    else:
        sys.exit(main(sys.argv[1:]))
