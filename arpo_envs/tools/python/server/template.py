"""The process that sessions are forked from: it has imported everything and never changes afterwards.

It reads one byte per session and forks; the new process fetches its own orders. So the template's heap is the
same at every fork, and sessions of one server with the same seed are equal to the last object address. Those of
two servers mostly are too, but imports do not always leave the same heap.
"""

import gc
import importlib
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from . import loops
from .cell import Notebook
from .child import SessionProcess, die_with_parent
from .forking import Forker
from .frames import LIMIT, Channel, ChannelError
from .open_files import quiet
from .own import keep_own
from .pages import collapse

READY = b"ready"
"""The template's report if all went well; anything else says what went wrong."""

COMMON = (
    *("bisect", "cmath", "collections", "copy", "csv", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools"),
    *("heapq", "inspect", "io", "itertools", "json", "math", "operator", "pickle", "pprint", "re", "statistics", "string"),
    *("textwrap", "time", "traceback", "typing", "unicodedata"),
)
"""Modules of the standard library that are already in memory when a cell imports them."""

_WARM = {"sympy": "import sympy; x = sympy.Symbol('x'); sympy.solve(x**2 - 2, x); sympy.simplify((x**2 - 1) / (x - 1))"}
"""Code that loads those parts of a library that it loads only on first use."""


@dataclass(frozen=True)
class Settings:
    """What all sessions of a server have in common.

    Args:
        imports: modules to import beforehand.
        output_characters: characters of a cell's output.
        nice: how much lower the priority is than the host's.
        supervisor: this process's parent.
        search: where modules are looked for.
        aliases: paths, and the ones that output shows instead.
        fork_flags: how sessions fork.
    """

    imports: Sequence[str]
    output_characters: int
    nice: int
    supervisor: int
    search: Sequence[str]
    aliases: Sequence[tuple[str, str]]
    fork_flags: int


@dataclass(frozen=True)
class Rights:
    """How a session gives up rights.

    Args:
        confine: called once, at its start, with its family's folder; returns the fork listener's descriptor.
        narrow: called in a clone, with the folder of its branch of the family; None if Landlock is not used.
    """

    confine: Callable[[str], int | None]
    narrow: Callable[[str], None] | None


def run_template(settings: Settings, tokens: int, orders: socket.socket, maps: int, rights: Rights) -> NoReturn:
    """Imports, reports, and forks a session for every byte that comes.

    Args:
        settings: what all sessions have in common.
        tokens: a descriptor; one byte means one session, end of file means stop.
        orders: a datagram socket: a report goes out, one order per session comes in.
        maps: a descriptor for `pages.collapse`.
        rights: how sessions give up their rights.
    """
    die_with_parent(settings.supervisor)
    try:
        notebook, seed = _prepare(settings)
        fork = Forker(settings.fork_flags)
        collapse(maps)
    except BaseException as error:  # noqa: BLE001  # an import may fail in any way; the host says so
        orders.send(f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    orders.send(READY)
    while True:
        if not os.read(tokens, 1):
            os._exit(0)
        if os.fork() == 0:
            break
    os.close(tokens)
    _session(orders, rights, notebook, fork, seed)


def warm_up(imports: Sequence[str]) -> None:
    """Imports what sessions will use, with the parts that are loaded only on first use."""
    for name in (*COMMON, *imports):
        importlib.import_module(name)
    seeder()(0)  # solving draws random numbers
    for name in imports:
        exec(_WARM.get(name, ""), {})  # noqa: S102  # a constant of this file


def seeder() -> Callable[[int], None]:
    """Returns a function that makes the generators of the modules imported so far a function of a seed."""
    numpy, sympy = sys.modules.get("numpy"), sys.modules.get("sympy.core.random")
    own = [random.seed, *([] if sympy is None else [sympy.seed])]

    def seed(number: int) -> None:
        for each in own:
            each(number)
        if numpy is not None:
            numpy.random.seed(number % 2**32)

    return seed


def _prepare(settings: Settings) -> tuple[Notebook, Callable[[int], None]]:
    notebook = Notebook(settings.output_characters)
    notebook.aliases = tuple(settings.aliases)
    sys.path[:] = settings.search
    loops.offer()
    warm_up(settings.imports)
    seed = seeder()
    seed(0)
    notebook.install()
    ours = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] == __name__.partition(".")[0]}
    keep_own(ours.values())
    for name in ours:
        del sys.modules[name]  # sessions cannot import this package
    os.nice(settings.nice)
    gc.collect()
    gc.freeze()
    return notebook, seed


def _session(
    orders: socket.socket,
    rights: Rights,
    notebook: Notebook,
    fork: Forker,
    seed: Callable[[int], None],
) -> NoReturn:
    parent = os.getppid()
    die_with_parent(parent)
    quiet()  # the template's opening is shared with all other sessions
    channel = Channel(orders)
    order = channel.receive()
    host, supervisor = channel.files
    channel.files = []
    channel.close()
    to_host = Channel(socket.socket(fileno=host), limit=LIMIT)
    try:
        process = SessionProcess(to_host, notebook, parent, fork, seed, rights.narrow)
        seed(order["seed"])
        listener = rights.confine(order["family"])
        to_supervisor = Channel(socket.socket(fileno=supervisor))
        if listener is not None:
            to_supervisor.send({}, [listener])
            os.close(listener)
        to_supervisor.close()
    except (OSError, ChannelError) as error:
        to_host.send({"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    process.loop()
