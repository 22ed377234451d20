"""Starts the fork server: isolates itself, forks the template, then supervises.

It is started as a separate program (`main`) by `client.ForkServer`, with a nearly empty environment.
"""

import contextlib
import ctypes
import os
import resource
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NoReturn

from . import folder
from .frames import Channel, ChannelError
from .isolation import (
    Layers,
    OwnMounts,
    Policy,
    PrivateRoot,
    confine,
    enter_namespaces,
    enter_user_namespace,
    mount_workdir,
    probe,
    python_paths,
    restrict_files,
    unmount_workdir,
)
from .isolation.report import LANDLOCK, NAMESPACES, OWN_MOUNTS
from .open_files import quiet
from .pages import open_maps
from .places import OwnPlaces, Places
from .processes import ProcessTable, close_all_but
from .remover import Remover
from .separation import Separation
from .supervisor import Supervisor
from .template import READY, Rights, Settings, run_template
from .workdirs import Trash, WorkDirs, make_trash

_ADDR_NO_RANDOMIZE = 0x0040000
_PERSONALITY_QUERY = 0xFFFFFFFF
_PR_SET_CHILD_SUBREAPER = 36
_MEBIBYTE = 1 << 20
_OPEN_FILES = 4096
"""The initial limit: a session passes its filter's listener on, which the kernel refuses while more descriptors than this
are in transit anywhere on the machine. The supervisor lowers it when it registers the session."""
_CPU_SECONDS = 3600
"""For one process: the last resort for one that is no longer supervised."""


class Unavailable(Exception):
    """The machine cannot give what was asked for; the message says what, why, and what to do."""


@dataclass(frozen=True)
class Place:
    """Where sessions live.

    Args:
        layers: what this machine offers; None if nothing should be used.
        unkept: promises that are not kept with these layers.
        readable: what a session may read besides its working directory.
        listable: folders in which it may list the names.
        workdirs: makes working directories.
        table: the process table.
        folder: the server's folder on the host, which must be removed; None inside a private root.
        installed: what the links to packages in that folder stand for; None inside a private root.
    """

    layers: Layers | None
    unkept: Sequence[str]
    readable: Sequence[str]
    listable: Sequence[str]
    workdirs: Places
    table: ProcessTable
    folder: str | None
    installed: str | None = None


def main(control_file: int, host_pid: int) -> int:
    """Runs the server until the host is gone; returns the exit status.

    Args:
        control_file: the descriptor of the socket to the host.
        host_pid: the host's process id.
    """
    fix_addresses()
    control = Channel(socket.socket(fileno=control_file))
    host = os.pidfd_open(host_pid)
    if os.getppid() != host_pid:
        return 0
    place = None
    try:
        wanted = control.receive()
        place = isolate(wanted)
        template = _start_template(wanted, place)
        control.send({"ready": True, "folder": place.folder, "supervisor": os.getpid(), **_described(place)})
        Supervisor(control, host, template, place.workdirs, place.table, _separation(place)).run()
    except Unavailable as missing:
        with contextlib.suppress(ChannelError):
            control.send({"unavailable": str(missing)})
    except ChannelError:
        pass  # the host is gone
    finally:
        if place is not None and place.folder is not None:
            folder.remove_folder(place.folder)
    return 0


def fix_addresses() -> None:
    """Restarts this program without address randomisation, if the machine allows that."""
    libc = ctypes.CDLL(None, use_errno=True)
    now = libc.personality(_PERSONALITY_QUERY)
    if now != -1 and not now & _ADDR_NO_RANDOMIZE and libc.personality(now | _ADDR_NO_RANDOMIZE) != -1:
        os.execv(sys.executable, sys.orig_argv)


def isolate(wanted: dict[str, Any]) -> Place:
    """Enters namespaces if wanted and possible, and prepares the place where sessions live.

    Args:
        wanted: the host's settings.

    Raises:
        Unavailable: the machine cannot give what was asked for.
    """
    _allow_many_files()
    os.umask(0o077)
    readable = python_paths(wanted["imports"])
    layers, unkept = (None, []) if wanted["layers"] == "none" else _offered(wanted["layers"], unsafe=wanted["unsafe"])
    limits = {"megabytes": wanted["disk_mb"], "inodes": wanted["inodes"]}
    if layers is not None and layers.namespaces:
        root = PrivateRoot(readable.folders, readable.packages, readable.hidden)
        processes = enter_namespaces(root)
        workdirs: Places
        if layers.own_mounts:
            mounts = OwnMounts(root.work, processes, partial(_mount, limits))
            workdirs = OwnPlaces(root.work, mounts, wanted["inodes"])
        else:
            workdirs = WorkDirs(root.work, partial(_mount, limits), unmount_workdir, _trash(root.work), wanted["inodes"])
        return Place(layers, unkept, readable.paths, (), workdirs, ProcessTable(processes), None)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    paths, apart = readable.without_hidden()
    listable = [path for path in apart if path in sys.path]  # where modules are looked for
    path, _ = folder.make_folder()
    packages = folder.packages_of(path)
    installed = readable.link_packages(packages)
    sessions = folder.sessions_of(path)
    workdirs = WorkDirs(sessions, None, None, _trash(sessions), wanted["inodes"])
    return Place(layers, unkept, [*paths, packages], listable, workdirs, ProcessTable(), path, installed)


def _separation(place: Place) -> Separation | None:
    if place.layers is None or not place.layers.seccomp:
        return None
    return Separation(place.table, place.workdirs.root, bounded=place.workdirs.bounded)


def _offered(mode: str, *, unsafe: bool) -> tuple[Layers, list[str]]:
    """Returns those of this machine's layers that should be used, and the promises that are then not kept.

    Raises:
        Unavailable: they are not enough.
    """
    report = probe()
    if mode == "no-namespaces":
        report = replace(report, layers=replace(report.layers, namespaces=False, own_mounts=False))
    full = (*NAMESPACES, OWN_MOUNTS, LANDLOCK)
    lacking = [f"{row.name}: {row.detail}" for row in report.rows() if row.name in full and not row.active]
    if mode == "full" and lacking:
        raise Unavailable(f"layers='full' needs namespaces and Landlock. {' '.join(lacking)}")
    missing = report.missing_minimum()
    if missing and not unsafe:
        raise Unavailable("; ".join(missing))
    return report.layers, report.unkept()


def _trash(root: str) -> Trash:
    folder = make_trash(root)
    return Trash(folder, Remover(folder).wake)


def _mount(limits: dict[str, int], path: str) -> None:
    mount_workdir(path, **limits)


def _described(place: Place) -> dict[str, Any]:
    layers = place.layers
    return {"layers": {} if layers is None else asdict(layers), "unkept": place.unkept}


def _allow_many_files() -> None:
    """Each process needs one descriptor here, and the usual limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _start_template(wanted: dict[str, Any], place: Place) -> tuple[int, int, socket.socket]:
    search, aliases = _searched(place)
    flags = place.workdirs.fork_flags
    settings = Settings(wanted["imports"], wanted["output_characters"], wanted["nice"], os.getpid(), search, aliases, flags)
    tokens, to_tokens = os.pipe2(os.O_CLOEXEC)
    orders, to_orders = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _become_template(wanted, place, settings, tokens, orders)
    os.close(tokens)
    orders.close()
    report = to_orders.recv(1 << 16)
    if report != READY:
        os.waitpid(pid, 0)
        raise Unavailable(f"the imports {wanted['imports']} failed: {report.decode('utf-8', 'replace') or 'it died'}")
    return pid, to_tokens, to_orders


def _searched(place: Place) -> tuple[list[str], list[tuple[str, str]]]:
    """Returns where sessions look for modules, and how the folder of links to packages is shown, if there is one."""
    if place.folder is None or place.installed is None:
        return sys.path, []
    packages = folder.packages_of(place.folder)
    known = [
        path for path in sys.path if path != place.installed and any(f"{p}/".startswith(f"{path}/") for p in place.readable)
    ]
    return [*known, packages], [(packages, place.installed)]


def _become_template(wanted: dict[str, Any], place: Place, settings: Settings, tokens: int, orders: socket.socket) -> NoReturn:
    try:
        quiet()  # nothing from sessions reaches the host's error file
        if place.layers is not None and place.layers.own_mounts:
            enter_user_namespace(place.table.folder)
        maps = open_maps(place.table.folder)
        close_all_but({0, 1, 2, tokens, orders.fileno(), maps})
        landlock = place.layers is not None and place.layers.landlock
        narrow = partial(restrict_files, place.readable, place.listable) if landlock else None
        run_template(settings, tokens, orders, maps, Rights(partial(_confined, wanted, place), narrow))
    finally:
        os._exit(1)


def _confined(wanted: dict[str, Any], place: Place, family: str) -> int | None:
    """Gives up a new session's rights; see `template.run_template`."""
    if place.layers is None:
        return None
    policy = Policy(
        readable=place.readable,
        listable=place.listable,
        writable=family,
        memory_bytes=wanted["memory_mb"] * _MEBIBYTE,
        cpu_seconds=_CPU_SECONDS,
        file_bytes=wanted["disk_mb"] * _MEBIBYTE,
        open_files=_OPEN_FILES,
        layers=place.layers,
    )
    return confine(policy)
