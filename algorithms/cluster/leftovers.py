"""What a run must not leave behind, although it may be killed at any moment: folders of temporary files, weights, processes.

Temporary files lie in the system's folder for them and not in the run's, because the path of a socket may have no more than
107 bytes. So the run's folder holds their folder's name, and whoever starts there next removes what is named, wherever the
parts of that run are put. A record may be anybody's, or damaged: what it names is removed only if it names the record in turn.
"""

import getpass
import os
import re
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from arpo_envs import ConfigError

WORKERS, LEARNERS = "cluster", "learners"
"""Folders of a launcher, with a record and weights on their way; and of a learner's ranks, with that of their launcher."""
_RECORD = "temporary-folder"
"""File that names the folder of temporary files, if there is one; what has it is ours to remove."""
_MARK = "arpo-record"
"""File in a folder of temporary files that names its record."""
MEETING, READ, KEPT = "meeting-", "read-", "kept-"
"""How the names begin of files through which ranks meet, and of folders for weights that their stand-in reads, or keeps."""


def clear(run: Path) -> None:
    """Removes what a run that was killed has left, in its folder and elsewhere, wherever its parts were.

    Args:
        run: its folder; nothing of it is in use.
    """
    for home in (run, run / LEARNERS):
        clear_workers(home / WORKERS)
    clear_ranks(run / LEARNERS)


def clear_workers(folder: Path) -> None:
    """Removes a launcher's folder, if that is what it is, and the folder of temporary files that it names."""
    record = folder / _RECORD
    if not record.is_file():
        return
    named = Path(os.fsdecode(record.read_bytes()))
    if _is_of(named, record):
        shutil.rmtree(named, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def clear_ranks(home: Path) -> None:
    """Removes what a learner's ranks and their stand-in have in their folder, and the folder unless it holds more."""
    for left in home.glob(f"{MEETING}[0-9]*"):
        left.unlink(missing_ok=True)
    for left in (folder for name in (READ, KEPT) for folder in home.glob(f"{name}*")):
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):  # it is not there, or something that is not ours is
        home.rmdir()


def make_recorded(folder: Path, prefix: str) -> Path:
    """Returns a new folder for temporary files.

    Args:
        folder: of the launcher, which will name it.
        prefix: of its name.
    """
    made = Path(tempfile.mkdtemp(prefix=prefix))
    record = mark_ours(folder)
    (made / _MARK).write_bytes(os.fsencode(record.resolve()))
    record.write_bytes(os.fsencode(made))
    return made


def is_recorded(folder: Path) -> bool:
    """Whether a folder for temporary files is one that a launcher's names."""
    return (folder / _MARK).is_file()


def mark_ours(folder: Path) -> Path:
    """Makes a launcher's folder, if it is not there, and marks it as one; returns the record, which may name nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RECORD).touch()
    return folder / _RECORD


def require_ours(folder: Path) -> None:
    """Refuses a folder that was not made for a run: it would be removed with all that is in it.

    Args:
        folder: which need not exist.

    Raises:
        ConfigError: it holds other things.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _RECORD).is_file():
        raise ConfigError(
            f"{folder} is in the way: engines need a folder of that name, and this one was not made for them. "
            "Move it, or choose another folder for the run."
        )


def move_in(folder: Path) -> None:
    """Makes a folder this process's own place for temporary files, and that of all processes that it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    # What torch compiles stays where other processes, and later runs, find it.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_compiled()))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def began(pid: int) -> bytes | None:
    """Returns when a process began, which tells it from a later one of the same number; None if there is none to be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return stat.rpartition(b")")[2].split()[19]


def kill_group(leader: int, since: bytes | None) -> None:
    """Kills a process and all that it has started, also if it has ended itself.

    Its number is free only when all of them have ended; whoever has it then is left alone.

    Args:
        leader: number of the process, which leads a group, or is about to.
        since: when it began; see `began`.
    """
    now = began(leader)
    if now is None or now == since:
        with suppress(ProcessLookupError, PermissionError):  # it leads no group yet, or nothing of that is left
            os.killpg(leader, signal.SIGKILL)


def _is_of(named: Path, record: Path) -> bool:
    """Whether a folder of temporary files is this user's, and says itself that it belongs to a record."""
    try:
        return named.stat().st_uid == os.getuid() and (named / _MARK).read_bytes() == os.fsencode(record.resolve())
    except (OSError, ValueError):  # no such folder, or no path at all
        return False


def _compiled() -> Path:
    """Returns where torch keeps what it compiles, unless it is told otherwise; asking torch would import it."""
    try:
        user = getpass.getuser()
    except (KeyError, ModuleNotFoundError, OSError):  # a container may know the user by number only
        user = f"uid_{os.getuid()}"
    name = re.sub(r'[\\/:*?"<>|]', "_", user)
    return Path(tempfile.gettempdir()) / f"torchinductor_{name}"
