"""Uses the interpreter where the kernel lacks something: a program of its own, since it cannot have it back.

`python lacking_landlock.py USER ERROR CALL ...` goes on as that user under a filter that answers the first calls of Landlock
or of mounts per session with that error, and writes what came of it as JSON.
"""

import contextlib
import ctypes
import io
import json
import os
import struct
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
_ESCAPE = "open(path, 'a').write(' clone')"


def lose(calls: Sequence[str], code: int) -> None:
    from arpo_envs.tools.python.server.isolation import capabilities, kernel
    from arpo_envs.tools.python.server.isolation.bpf import ALLOW, assemble, errno_verdict

    here = kernel.architecture()
    assert here is not None
    program = assemble(here, {here.numbers[call]: errno_verdict(code) for call in calls}, ALLOW)
    buffer = ctypes.create_string_buffer(program, len(program))
    capabilities.forbid_new_privileges()
    kernel.call("seccomp", 1, 0, struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))


def started(**arguments: Any) -> dict[str, Any]:
    """Returns why sessions do not start, or what was warned of, and whether a stored path leads a clone to its original."""
    import numpy

    from arpo_envs.tasks import Task
    from arpo_envs.tools.python import PythonTool, SandboxUnavailable

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            session = PythonTool(imports=(), **arguments).open(Task("t", "?", ("1",)), numpy.random.default_rng(0))
        except SandboxUnavailable as error:
            return {"refused": str(error)}
    session.call("python", {"code": "import os; open('f', 'w').write('mine'); path = os.path.abspath('f')"}, timeout=30.0)
    (twin,) = session.clone()
    twin.call("python", {"code": _ESCAPE}, timeout=30.0)
    escaped = session.call("python", {"code": "open(path).read()"}, timeout=30.0).text != "'mine'"
    twin.close()
    session.close()
    return {"warned": [str(warning.message) for warning in caught], "escaped": escaped}


def doctor() -> dict[str, Any]:
    from algorithms.cli import main

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        status = main(["doctor"])
    return {"status": status, "shown": " ".join(shown.getvalue().split())}


if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT), str(Path(__file__).parent)]
    from attack_rights import NOBODY, drop_rights

    os.environ["COLUMNS"] = "200"
    if int(sys.argv[1]) == NOBODY != os.geteuid():
        drop_rights(CHECKOUT, sys.argv)
    lose(sys.argv[3:], int(sys.argv[2]))
    said = {mode: started(layers=mode) for mode in ("full", "auto", "no-namespaces")}
    said["unsafe"] = started(layers="no-namespaces", unsafe=True)
    print(json.dumps(said | {"doctor": doctor()}))  # noqa: T201  # the program's answer
