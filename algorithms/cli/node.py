"""What a machine has that runs engines: asked on the spot, by `arpo doctor --cluster`."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from arpo_envs.tools.python import IsolationReport, probe_isolation

from ..cluster import versions_here

SHARED_MEMORY = Path("/dev/shm")  # not a file of ours: Ray's store of objects is in it
_DRIVER = Path("/proc/driver/nvidia/version")
_SECONDS = 240.0
"""That a process has to import torch and look for GPUs."""
_LOOK = """
import json, torch
found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
print(json.dumps([[one.name, one.total_memory] for one in found]))
"""


@dataclass(frozen=True)
class Room:
    """Bytes of a file system.

    Args:
        total: all.
        free: that this user may still write.
    """

    total: int
    free: int

    @classmethod
    def of(cls, folder: Path) -> "Room | None":
        """Returns the room where a folder is; None if there is no such folder."""
        with suppress(FileNotFoundError):
            usage = shutil.disk_usage(folder)
            return cls(usage.total, usage.free)
        return None


@dataclass(frozen=True)
class Gpus:
    """The GPUs that torch sees on a machine, whether or not they are in use.

    Args:
        found: name and bytes of memory of each.
        driver: version of NVIDIA's driver; None without one.
        fault: why torch could not look for them.
    """

    found: tuple[tuple[str, int], ...] = ()
    driver: str | None = None
    fault: str = ""


@dataclass(frozen=True)
class Node:
    """What a machine has.

    Args:
        versions: see `cluster.versions_here`.
        isolation: what confines a model's code there.
        gpus: that torch sees.
        shared_memory: None if there is none.
        temporary: where temporary files are written.
    """

    versions: Mapping[str, str]
    isolation: IsolationReport
    gpus: Gpus
    shared_memory: Room | None
    temporary: Room | None


def node_here() -> Node:
    """Returns what this machine has."""
    rooms = Room.of(SHARED_MEMORY), Room.of(Path(tempfile.gettempdir()))
    return Node(versions_here(), probe_isolation(), _gpus(), *rooms)


def driver_in(said: str) -> str | None:
    """Returns the version of NVIDIA's driver from what its kernel module says.

    >>> driver_in("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build")
    '570.86.15'
    """
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", said)
    return found[0] if found else None


def _gpus() -> Gpus:
    """Looks from a process of its own: in this one, Ray hides the GPUs that were not asked for."""
    driver = driver_in(_DRIVER.read_text(encoding="utf-8")) if _DRIVER.is_file() else None
    if find_spec("torch") is None:
        return Gpus(driver=driver, fault="torch is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    look = [sys.executable, "-c", _LOOK]
    try:
        done = subprocess.run(look, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=True)
        return Gpus(tuple((name, memory) for name, memory in json.loads(done.stdout)), driver)
    except subprocess.TimeoutExpired:
        return Gpus(driver=driver, fault=f"torch did not answer within {_SECONDS:g} s")
    except (subprocess.CalledProcessError, ValueError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        return Gpus(driver=driver, fault=f"torch fails there: {said[-1] if said else error}")
