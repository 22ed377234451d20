"""Runs interpreters from an environment that lies in an odd place: a program of its own, since it changes its root.

`python odd_places.py USER CASE` builds a root directory of its own, in which this environment and this checkout lie where
`PLACES` says, goes on there as that user, and writes what came of it as JSON: by mode, the answers of a session.
"""

import ctypes
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
NOBODY = 65534
_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000
_SHOWN, _FIRST_STAGE, _NEW_ROOT = "/work", "/tmp", "/mnt"


@dataclass(frozen=True)
class Place:
    """Where an environment lies.

    Args:
        folder: the folder of environment and checkout.
        seen_as: how that folder is named when the interpreter is started; None for its own name.
        links: symbolic links to make, by name.
        without: folders of the host that this root does not have.
    """

    folder: str
    seen_as: str | None = None
    links: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


PLACES = {
    "the working directory's name": Place("/arpo-sessions"),
    "below the working directory's name": Place("/arpo-sessions/0123456789abcdef/main"),
    "both names": Place("/arpo-sessions/main", "/arpo-sessions-/main", {"/arpo-sessions-": "/arpo-sessions"}),
    "how it is shown": Place(f"{_SHOWN}/main"),
    "the first stage": Place(f"{_FIRST_STAGE}/main"),
    "the second stage": Place("/mnt/main"),
    "without the first stages": Place("/arpo-sessions/main", without=("tmp", "mnt")),
    "devices": Place("/dev/shm/main"),
    "spaces and signs": Place("/arpo-sessions/my {checkout} 'of' \"é\" \\n %s"),
    "a link from the name": Place("/data/main", "/arpo-sessions/here", {"/arpo-sessions/here": "../data/main"}),
    "the name is a link": Place("/data/main", "/arpo-sessions/main", {"/arpo-sessions": "/data"}),
    "a link to the name": Place("/arpo-sessions/main", "/link to/it", {"/link to/it": "/arpo-sessions/main"}),
    "links in a row": Place("/mnt/a/b", "/c/d", {"/c": "tmp/e", f"{_FIRST_STAGE}/e": "/data", "/data/d": "../mnt/a/b"}),
    "behind proc": Place(f"{_FIRST_STAGE}/main", "/proc/self/root/tmp/main"),
}

_ASKED = """
import colorsys, os, sys
import mpmath
found = {
    "prefix": sys.prefix,
    "packages": os.path.realpath(mpmath.__file__).startswith(os.path.realpath(sys.prefix) + os.sep),
    "where": os.getcwd(),
    "listed": [],
}
for path in ("/", "/tmp", "/arpo-sessions", "/arpo-sessions-", sys.prefix + "/../checkout"):
    try:
        found["listed"] += os.listdir(path)
    except OSError:
        pass
open("mine", "w").write("x")
print(__import__("json").dumps(found | {"mine": os.listdir()}))
"""


def main(user: int, place: Place) -> None:
    from arpo_envs.tools.python.server.isolation import kernel, namespaces

    if os.geteuid() == 0:
        kernel.call("unshare", _NEW_MOUNTS)
    else:
        namespaces.separate(_NEW_USERS | _NEW_MOUNTS)
    _build(place)
    if user != os.geteuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable again, as a process of this user would be from its start
    folder = place.seen_as or place.folder
    interpreter = f"{folder}/environment/bin/{os.path.basename(sys.executable)}"
    environment = {"PYTHONPATH": f"{folder}/checkout", "PYTHONDONTWRITEBYTECODE": "1"}
    os.execve(interpreter, [interpreter, f"{folder}/checkout/{Path(__file__).resolve().relative_to(CHECKOUT)}"], environment)


def _build(place: Place) -> None:
    """Makes a root that has what the host's has, and environment and checkout in their place."""
    from arpo_envs.tools.python.server.isolation import mounts

    needed = {path: mounts.copy_of(path, 0) for path in _needed()}
    environment, checkout = mounts.copy_of(sys.prefix, 0), mounts.copy_of(str(CHECKOUT), 0)
    own = {_first(name) for name in (place.folder, *place.links)} | {_first(path) for path in needed if _is_closed(path)}
    own -= {"dev"}
    whole = {name: mounts.copy_of(f"/{name}", 0) for name in os.listdir("/") if _is_wanted(name, own | {*place.without})}
    links = {name: os.readlink(f"/{name}") for name in os.listdir("/") if os.path.islink(f"/{name}")} | place.links
    mounts.keep_mounts_private()
    mounts.mount_memory(_NEW_ROOT, "size=4m,mode=755", 0)
    for name, tree in whole.items():
        os.mkdir(f"{_NEW_ROOT}/{name}")
        mounts.attach(tree, f"{_NEW_ROOT}/{name}")
    for name in ("tmp", "mnt"):
        if name not in place.without:
            os.makedirs(f"{_NEW_ROOT}/{name}", exist_ok=True)
    if place.folder.startswith("/dev/"):
        mounts.mount_memory(f"{_NEW_ROOT}/dev/shm", "size=1m,mode=755", 0)
    for path, tree in needed.items():
        _attach(tree, f"{_NEW_ROOT}{path}")
    _attach(environment, f"{_NEW_ROOT}{place.folder}/environment")
    _attach(checkout, f"{_NEW_ROOT}{place.folder}/checkout")
    for name, target in links.items():
        if not os.path.lexists(f"{_NEW_ROOT}/{name}"):
            os.makedirs(os.path.dirname(f"{_NEW_ROOT}/{name}"), exist_ok=True)
            os.symlink(target, f"{_NEW_ROOT}/{name}")
    mounts.make_root(_NEW_ROOT)


def _needed() -> list[str]:
    """Returns the folders that an environment does not hold itself."""
    return sorted({sys.base_prefix, os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))})


def _first(path: str) -> str:
    return path.lstrip("/").partition("/")[0]


def _is_closed(path: str) -> bool:
    return not all(parent.stat().st_mode & 0o001 for parent in Path(path).parents)


def _is_wanted(name: str, own: set[str]) -> bool:
    return name not in own and name not in ("mnt", "tmp") and os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")


def _attach(tree: int, path: str) -> None:
    from arpo_envs.tools.python.server.isolation import mounts

    if os.path.exists(path):
        os.close(tree)
        return
    os.makedirs(path)
    mounts.attach(tree, path)


def answers() -> dict[str, Any]:
    """Returns what sessions say in each mode, a clone's answer last."""
    import numpy

    from arpo_envs.tasks import Task
    from arpo_envs.tools.python import PythonTool, SandboxUnavailable

    said: dict[str, Any] = {}
    for mode in ("full", "no-namespaces"):
        try:
            session = PythonTool(layers=mode, imports=()).open(Task("t", "?", ("1",)), numpy.random.default_rng(0))
        except SandboxUnavailable as error:
            said[mode] = str(error)
            continue
        first = session.call("python", {"code": _ASKED}, timeout=30.0)
        (twin,) = session.clone()
        said[mode] = json.loads(first.text) if first.error is None else first.text
        said[f"{mode}, cloned"] = twin.call("python", {"code": "open('mine').read()"}, timeout=30.0).text
        twin.close()
        session.close()
    return said


if __name__ == "__main__":
    os.umask(0o022)
    if len(sys.argv) > 1:
        sys.path.insert(0, str(CHECKOUT))
        main(int(sys.argv[1]), PLACES[sys.argv[2]])
    print(json.dumps(answers()))  # noqa: T201  # the program's answer
