"""How a folder of a run is written: aside, to the disk itself, then renamed; a full disk is told in words."""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from arpo_envs import ArpoError

from ..durable import sync
from ..learner import has_adapters, merged_state
from ..models.compiled import plain
from ..models.loading import without_bars

_FULL = {errno.ENOSPC: "The disk is full", errno.EDQUOT: "The quota is used up", errno.EFBIG: "A file may not grow further"}


class Unsaved(ArpoError, OSError):
    """A checkpoint could not be written; earlier ones are intact.

    Args:
        what: happened, in a sentence.
        advice: what to do about it, if the run ends.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what} {advice}".rstrip())
        self.what = what


def fresh_name() -> str:
    """Returns a name for a folder that is being written, which nobody else has.

    Ranks of a run whose main process was killed may live for minutes, and keep writing into the folder they were told.
    """
    return f".new-{secrets.token_hex(4)}.tmp"


@contextmanager
def written(run: Path, what: str, command: str, *, name: str | None = None, writes: bool = True) -> Iterator[Path]:
    """Gives a folder beside the checkpoints, to be filled and renamed; nothing is left of it if this fails.

    Args:
        run: folder of the run.
        what: is written, for messages.
        command: what continues the run, for messages.
        name: of the folder, where ranks have to agree on it; see `fresh_name`.
        writes: whether this rank makes the folder and removes what is left of it; others only write into it.

    Raises:
        Unsaved: there is no room, or no permission.
    """
    home = run / "checkpoints"
    temporary = home / (name or fresh_name())
    try:
        if writes:
            with suppress(OSError):  # whoever fills it fails as well, on every rank
                _make(temporary)
        with _lock(temporary) if writes else nullcontext():
            yield temporary
    except Exception as error:
        if writes:
            shutil.rmtree(temporary, ignore_errors=True)
        reason = no_room(error) or (f"{type(error).__name__} {error}" if isinstance(error, OSError) else None)
        if reason is None:
            raise
        raise Unsaved(
            f"{reason}: {what} could not be written to {home}. Older ones are intact.",
            f"Make room, and continue with: {command} --resume {run}",
        ) from error


def _make(temporary: Path) -> None:
    """Makes a folder to be filled, and removes those beside it that nobody is filling any more."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    for left in temporary.parent.glob(".*.tmp"):  # by a run that was killed, perhaps of an earlier version
        with _lock(left) as is_free:
            if is_free:
                shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(exist_ok=True)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Locks a folder until the context or this process ends; gives whether it was free.

    Ranks that are to be ended may live on for a moment and begin to write, while those in their place write already.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it is gone, or cannot be read
        yield True
        return
    try:
        is_free = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        except OSError:  # the file system knows no locks
            pass
        yield is_free
    finally:
        os.close(descriptor)


def no_room(error: BaseException) -> str | None:
    """Returns why there is no room to write; None for an error of another kind.

    safetensors and torch raise their own exceptions for it, without an error number, but quoting the system's words.
    """
    seen: BaseException | None = error
    while seen is not None:
        known = seen.errno if isinstance(seen, OSError) else None
        for number, words in _FULL.items():
            if number == known or os.strerror(number) in str(seen) or f"os error {number}" in str(seen):
                return words
        if "unexpected pos" in str(seen) or "PytorchStreamWriter failed" in str(seen):
            return "A file could not be written in full"
        seen = seen.__cause__ or seen.__context__
    return None


def replace(temporary: Path, final: Path) -> None:
    """Replaces a folder by another; if it is interrupted in between, `recover` puts the old one back."""
    recover(final.parent)
    aside = final.with_name(f".{final.name}.old")
    if final.exists():
        os.replace(final, aside)
    os.replace(temporary, final)
    sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def recover(home: Path) -> None:
    """Puts back what was moved aside for a newer one that never came."""
    for aside in home.glob(".*.old"):
        final = home / aside.name[1:].removesuffix(".old")
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(aside, final)


def point(link: Path, folder: Path) -> None:
    """Points a link in a run's folder at a folder below it."""
    new = link.with_name(f".{link.name}.tmp")
    new.unlink(missing_ok=True)
    new.symlink_to(folder.relative_to(link.parent), target_is_directory=True)
    os.replace(new, link)
    sync(link.parent)


def save_policy(folder: Path, model: Any, tokenizer: Any, weights: Mapping[str, Any] | None = None) -> None:
    """Writes a model and its tokenizer as an ordinary Hugging Face folder, which `load_policy` takes.

    Args:
        folder: to write to.
        model: has `save_pretrained`; what is compiled in it is replaced by the plain modules.
        tokenizer: has `save_pretrained`.
        weights: the ones to write, where they differ from the model's own, adapters merged into them.
    """
    model = plain(model)
    if weights is None and has_adapters(model):
        weights = merged_state(model)
    with without_bars():
        model.save_pretrained(folder, **({} if weights is None else {"state_dict": dict(weights)}))
        tokenizer.save_pretrained(folder)


def copy(beside: Sequence[Path], folder: Path) -> None:
    """Copies files into a folder, where they exist."""
    for file in beside:
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
