"""A root directory of its own: what Python needs, read-only, five devices, and nothing else of the host.

The sources are copied as detached mounts before anything is covered, so it does not matter where they are.
"""

import contextlib
import errno
import os
import stat
import sys
import sysconfig
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from . import mounts
from .packages import PACKAGE_FOLDERS, Readable, allowed_packages, package_folders

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_STAGES = ("/tmp", "/mnt", "/proc")  # where the new root is built; nobody outside this mount namespace sees it
_STORES = ("/nix/store", "/gnu/store")  # there, every library has its own folder
_MOST_LINKS = 40  # on the way to one file, as in the kernel
_WORK = "arpo-sessions"
_WORK_MODE = 0o111  # can be passed through, but neither listed nor written to


@dataclass(frozen=True)
class PrivateRoot:
    """What the new root contains; make it while the host's files can still be seen.

    Args:
        paths: files and folders of the host that can be read at the same place, except for `hidden`.
        packages: more of them, which may be in `hidden`.
        hidden: folders in which nothing else is seen.
        work: a writable folder, in which the server makes working directories; nothing readable is there, or leads there.
    """

    paths: Sequence[str]
    packages: Sequence[str] = ()
    hidden: Sequence[str] = ()
    work: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "work", f"/{_free_name((*self.paths, *self.packages))}")


def python_paths(imports: Iterable[str] = ()) -> Readable:
    """Returns what a session may read: the standard library, shared objects, time zones, and the allowed packages.

    It looks at what is already imported and mapped, so call it late, but before the private root is entered.

    Args:
        imports: modules that the tool imports beforehand.
    """
    places = sysconfig.get_paths()
    candidates = [places[name] for name in ("stdlib", "platstdlib")]
    candidates += [path for path in sys.path if os.path.basename(path) == "lib-dynload"]
    candidates += _library_folders()
    candidates += zoneinfo.TZPATH
    readable = {path for path in candidates if os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)}
    folders = outermost({os.path.realpath(path) for path in readable} | readable)
    installed = {
        path for path in (*sys.path, places["purelib"], places["platlib"]) if os.path.basename(path) in PACKAGE_FOLDERS
    }
    return Readable(folders, allowed_packages(imports), sorted(installed | set(package_folders(folders))))


def enter(root: PrivateRoot) -> int:
    """Makes `root` the root directory of this mount namespace.

    Args:
        root: what it contains.

    Returns:
        A descriptor of the proc file system, which is not mounted anywhere.

    Raises:
        OSError: the kernel refuses; the process must not continue.
    """
    umask = os.umask(0o022)
    try:
        return _enter(root)
    finally:
        os.umask(umask)


def _enter(root: PrivateRoot) -> int:
    mounts.keep_mounts_private()
    links: dict[str, str] = {}
    folders = outermost({_resolve(path, links) for path in root.paths})
    hidden = outermost({_resolve(path, links) for path in root.hidden})
    covered = [path for path in hidden if _lies_in(path, folders)]
    packages = outermost({_resolve(path, links) for path in root.packages})
    packages = [path for path in packages if _lies_in(path, covered) or not _lies_in(path, folders)]
    read_only = mounts.READ_ONLY | mounts.NOSUID | mounts.NODEV
    copies = [(path, _is_folder(path), mounts.copy_of(path, read_only)) for path in folders]
    later = [(path, _is_folder(path), mounts.copy_of(path, read_only)) for path in packages]
    devices = mounts.READ_ONLY | mounts.NOSUID | mounts.NOEXEC  # they can be written to, but not changed
    copies += [(path, False, mounts.copy_of(path, devices)) for path in _DEVICES if os.path.exists(path)]
    stage = next(path for path in _STAGES if os.path.isdir(path))
    mounts.mount_memory(stage, "size=1m,nr_inodes=16384,mode=755", mounts.NOSUID | mounts.NODEV)
    _attach(copies, stage)
    for path in covered:
        mounts.mount_memory(stage + path, "size=1m,nr_inodes=4096,mode=755", mounts.NOSUID | mounts.NODEV)
    _attach(later, stage)
    for path in covered:
        mounts.make_read_only(stage + path)
    for path, target in links.items():
        if not os.path.lexists(stage + path):
            os.makedirs(os.path.dirname(stage + path), exist_ok=True)
            os.symlink(target, stage + path)
    os.mkdir(stage + root.work)
    processes = _open_processes(stage + root.work)
    mounts.mount_memory(
        stage + root.work, f"size=16m,nr_inodes=1048576,mode={_WORK_MODE:o}", mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
    )
    mounts.make_read_only(stage)
    mounts.make_root(stage)
    return processes


def _attach(copies: Iterable[tuple[str, bool, int]], stage: str) -> None:
    for path, is_folder, tree in copies:
        _make_place(stage + path, is_folder)
        mounts.attach(tree, stage + path)


def _lies_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _open_processes(path: str) -> int:
    """Returns a descriptor of the proc file system, which is mounted on a folder for a moment."""
    mounts.mount_processes(path)
    processes = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.unmount(path)
    return processes


def _free_name(paths: Iterable[str]) -> str:
    """Returns a name in `/` that is on the way to none of the paths, neither by links nor without."""
    links: dict[str, str] = {}
    real = [_resolve(path, links) for path in (*paths, *_DEVICES)]
    taken = {path.split("/")[1] for path in (*real, *links)}
    name = _WORK
    while name in taken:
        name += "-"
    return name


def _make_place(path: str, is_folder: bool) -> None:
    if is_folder:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.stat(path).st_mode)


def _resolve(path: str, links: dict[str, str]) -> str:
    """Returns the path without symbolic links, and adds those on the way to `links`."""
    done = "/"
    rest = path.split("/")[::-1]
    hops = 0
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = os.path.dirname(done)
            continue
        here = os.path.join(done, part)
        if not os.path.islink(here):
            done = here
            continue
        hops += 1
        if hops > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        links[here] = os.readlink(here)
        rest += links[here].split("/")[::-1]
        if links[here].startswith("/"):
            done = "/"
    return done


def outermost(paths: Iterable[str]) -> list[str]:
    """Returns the paths that are not within others, sorted.

    >>> outermost(["/usr/lib/python3", "/usr/lib", "/usr/libexec"])
    ['/usr/lib', '/usr/libexec']
    """
    kept: list[str] = []
    for path in sorted(paths, key=lambda path: path.rstrip("/") + "/"):
        if not kept or not (path + "/").startswith(kept[-1].rstrip("/") + "/"):
            kept.append(path)
    return kept


def _library_folders() -> Iterator[str]:
    """Yields the folders of the shared objects in use, and those where the system keeps others."""
    for name in ("LIBDIR", "MULTIARCH"):
        value = sysconfig.get_config_var(name)
        if value:
            yield value if value.startswith("/") else f"/usr/lib/{value}"
    with contextlib.suppress(FileNotFoundError), open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            path = line.rstrip("\n").split(None, 5)[5:]
            if path and path[0].startswith("/") and ".so" in os.path.basename(path[0]):
                store = next((store for store in _STORES if path[0].startswith(store + "/")), None)
                yield store or os.path.dirname(path[0])
