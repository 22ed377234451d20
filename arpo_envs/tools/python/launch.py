"""Starts the fork server's program, and ends it."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .server import folder
from .server.frames import Channel

_ENDING = 5.0
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
"""A session's whole environment, besides HOME and TMPDIR, which are its working directory."""
_HERE = Path(__file__).parent
_PROGRAM = (
    "import sys; sys.path.insert(0, {!r}); from server.hooks import forget_fork_hooks; forget_fork_hooks(); "
    "from server import zygote; sys.path.pop(0); sys.exit(zygote.main({}, {}))"
)


@dataclass(frozen=True)
class ServerSettings:
    """What makes two fork servers the same.

    Args:
        memory_mb: mebibytes one process may allocate.
        disk_mb: mebibytes in one working directory.
        inodes: files and folders in one working directory.
        output_characters: characters of a cell's output.
        imports: modules to import beforehand.
        layers: "auto", "full", "no-namespaces" or "none".
        unsafe: start even if the minimum of isolation is missing.
        nice: how much lower the sessions' priority is than this process's.
    """

    memory_mb: int = 1024
    disk_mb: int = 64
    inodes: int = 4096
    output_characters: int = 8000
    imports: tuple[str, ...] = ("numpy", "sympy")
    layers: str = "auto"
    unsafe: bool = False
    nice: int = 5


def start(owner: int) -> tuple["subprocess.Popen[bytes]", Channel, BinaryIO]:
    """Starts the program; returns it, the control channel, and its standard error."""
    mine, theirs = socket.socketpair()
    errors = os.fdopen(os.memfd_create("errors"), "w+b")
    program = _PROGRAM.format(str(_HERE), theirs.fileno(), owner)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-B", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=ENVIRONMENT,
            cwd="/",
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is for the host alone
        )
    return process, Channel(mine), errors


def end(owner: int, program: "subprocess.Popen[bytes]", control: Channel, errors: BinaryIO, folders: list[str]) -> None:
    """Ends a server: it stops when its control channel ends."""
    control.close()
    errors.close()
    if owner != os.getpid():  # a fork of the host must not end what the host uses
        program.returncode = 0
        return
    try:
        program.wait(_ENDING)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
    for path in folders:
        folder.remove_folder(path)
