"""Checkpoints are written while training goes on: of the weights as they were, one at a time, and no failure is lost."""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from kept_toys import Shelf
from model_toys import byte_tokenizer, tiny_model, written_in
from sharded_ranks import TREES, Case, one_step

from algorithms.checkpoint import Background, Unsaved, save
from algorithms.cli.kept import Kept
from algorithms.cli.signals import BrokenOff
from algorithms.cluster import Lost
from algorithms.learner import Diverged, LearnerConfig, LoRA, TorchLearner

FULL = Unsaved("The disk is full.", "Make room.")


@pytest.mark.parametrize("config", [{}, {"lora": LoRA(2, 4)}], ids=["tied", "lora"])
def test_what_is_written_is_what_was_learned_when_it_began(config: dict[str, Any], tmp_path: Path) -> None:
    case = Case("any", trees=TREES[:1])
    model = tiny_model(tie_word_embeddings=not config)
    learner = TorchLearner(model, LearnerConfig(learning_rate=1e-2, **config), reference=True, values=True)
    one_step(case, learner)
    tokenizer, merged = byte_tokenizer(), learner.weights() if config else None
    at_once = save(tmp_path / "at once", 1, model, tokenizer, learner, {}, weights=merged).path
    go_on = threading.Event()

    def write(copy: Any) -> None:
        assert go_on.wait(100.0)
        save(tmp_path / "beside", 1, copy, tokenizer, copy, {})

    with Background() as background:
        background.begin(learner.snapshot, write)
        one_step(case, learner)
        assert background.is_writing
        go_on.set()
        background.rest()
        assert not background.is_writing
        later = save(tmp_path / "later", 1, model, tokenizer, learner, {}, weights=learner.weights() if config else None).path
    assert written_in(tmp_path / "beside" / "checkpoints" / "step-000001") == written_in(at_once) != written_in(later)


def test_only_one_is_written_at_a_time_and_what_fails_is_told_once() -> None:
    found, go_on = list[str](), threading.Event()

    def write(text: str) -> None:
        assert go_on.wait(100.0)
        found.append(text)
        if text == "full":
            raise FULL

    def taken(text: str) -> Any:
        found.append(f"took {text}")
        return nullcontext(text)

    with Background() as background:
        background.begin(lambda: taken("full"), write)
        go_on.set()
        with pytest.raises(Unsaved, match="disk is full"):
            background.begin(lambda: taken("never"), write)
        background.begin(lambda: taken("first"), write)
        background.begin(lambda: taken("second"), write)
    assert found == ["took full", "full", "took first", "first", "took second", "second"]


def test_what_fails_at_the_end_is_raised_unless_something_else_is() -> None:
    def fail(text: str) -> None:
        raise FULL

    with pytest.raises(Unsaved, match="disk is full"), Background() as background:
        background.begin(lambda: nullcontext(""), fail)
    background = Background()
    background.begin(lambda: nullcontext(""), fail)
    with pytest.raises(ValueError, match="another") as caught, background:
        raise ValueError("another")
    assert caught.value.__notes__ == [str(FULL)]


# --- whether what was learned is saved -----------------------------------------------------------------------------


class Still:
    """Stands for a learner whose weights do not move."""

    place = (0, 0)


def taken(kept: Kept, step: int, error: Exception | None = None) -> None:
    with kept.during(step, Still()):  # type: ignore[arg-type]
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [FULL, Lost("Its process ended.")])
def test_a_run_goes_on_without_a_checkpoint_and_saves_the_next_one(error: Exception) -> None:
    told = list[str]()
    shelf = Shelf([], {2: error})
    kept = Kept(shelf, Path("run"), None, tell=told.append)
    for step in range(4):
        taken(kept, step)
        kept.begin()
        assert shelf.saved == [number for number in (1, 3, 4) if number <= step + 1], "nothing is being written any more"
    assert len(told) == 1
    assert "The run goes on. Steps that are not saved: 1." in told[0]
    assert str(error).split(".")[0] in told[0]
    kept.save()
    assert shelf.saved == [1, 3, 4], "not twice"
    assert kept.metrics()["save_seconds"] > 0.0
    assert kept.metrics() == {"save_seconds": 0.0}


class Once(dict[int, Exception]):
    """What goes wrong, and succeeds when it is tried again."""

    def __getitem__(self, step: int) -> Exception:
        return self.pop(step)


def twenty(kept: Kept) -> None:
    """Takes steps, with a checkpoint after every second one."""
    with kept.whatever_happens():
        for step in range(20):
            taken(kept, step)
            if step % 2:
                kept.begin()
            kept.look()


@pytest.mark.parametrize("last", [True, False], ids=["succeeds", "fails"])
def test_a_run_whose_checkpoints_keep_failing_ends_and_tries_once_more_before(last: bool) -> None:
    told = list[str]()
    full = dict.fromkeys((4, 6, 10, 12, 14), FULL)
    shelf = Shelf([], Once(full) if last else dict[int, Exception](full))
    kept = Kept(shelf, Path("run"), None, tell=told.append)
    with pytest.raises(Unsaved, match=r"3 checkpoints in a row .* so the run ends\. The disk is full") as caught:
        twenty(kept)
    assert shelf.saved == [2, 8] + [14] * last, "a good one in between begins the count anew"
    assert [line.partition("not saved: ")[2].partition(".")[0] for line in told] == ["2", "4", "2", "4", "6"]
    note = "The run is saved as step 14" if last else "Step 14 could not be saved either: The disk is full."
    assert caught.value.__notes__[0].startswith(note)
    assert "continue with: arpo train --resume run" in str(caught.value)


def test_a_run_that_is_over_is_saved_whatever_failed_before() -> None:
    shelf = Shelf([], dict.fromkeys((1, 2, 3), FULL), is_writing=True)
    kept = Kept(shelf, Path("run"), None)
    for step in range(3):
        taken(kept, step)
        kept.begin()
    shelf.fails = {}
    kept.save()
    assert shelf.saved == [3]


def test_what_could_not_be_written_meanwhile_is_written_before_the_end() -> None:
    told = list[str]()
    shelf = Shelf([], {1: FULL}, is_writing=True)
    kept = Kept(shelf, Path("run"), None, tell=told.append)
    taken(kept, 0)
    kept.begin()
    kept.look()
    assert (shelf.begun, told) == ([1], [])
    with pytest.raises(Unsaved), kept.whatever_happens():
        raise BrokenOff
    assert len(told) == 1, "and then it was tried once more, in vain"
    shelf.fails = {}
    kept.save()
    assert shelf.saved == [1]


def test_what_is_being_written_is_waited_for_again_when_a_signal_interrupts_that() -> None:
    shelf = Shelf([], is_writing=True, interrupts=1)
    kept = Kept(shelf, Path("run"), None)
    taken(kept, 0)
    kept.begin()
    taken(kept, 1)
    with pytest.raises(KeyboardInterrupt), kept.whatever_happens():
        kept.save()
    assert shelf.saved == [1, 2], "one at a time"


def test_weights_are_saved_whatever_went_wrong_with_those_before() -> None:
    shelf = Shelf([], {1: RuntimeError("Nobody expects it.")}, is_writing=True)
    kept = Kept(shelf, Path("run"), None)
    taken(kept, 0)
    kept.begin()
    taken(kept, 1)
    with pytest.raises(RuntimeError, match="Nobody"):
        kept.save()
    assert shelf.saved == [2]


def test_what_is_being_written_is_waited_for_in_the_middle_of_a_step_too() -> None:
    shelf = Shelf([], is_writing=True)
    kept = Kept(shelf, Path("run"), None)
    taken(kept, 0)
    kept.begin()
    with pytest.raises(ValueError, match="wrong") as caught, kept.whatever_happens(), kept.during(1, Moving()):  # type: ignore[arg-type]
        raise ValueError("wrong")
    assert shelf.saved == [1]
    assert "saved as step 1" in caught.value.__notes__[0]


class Moving:
    """Stands for a learner in the middle of an update."""

    def __init__(self) -> None:
        self._steps = 0

    @property
    def place(self) -> tuple[int, int]:
        self._steps += 1
        return self._steps, 0


def test_weights_that_diverged_replace_what_is_being_written_of_the_same_step() -> None:
    shelf = Shelf([], is_writing=True)
    kept = Kept(shelf, Path("run"), None)
    taken(kept, 0)
    kept.begin()
    with pytest.raises(Diverged, match="saved as step 1"):
        taken(kept, 1, Diverged("Too large."))
    assert shelf.saved == [1, 1]
