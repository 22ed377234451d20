"""Learning from demonstrations: what has a gradient, and that packing changes nothing but rounding."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import tiny_model
from rounding import Numbers, check_equal, rounding

from algorithms.learner import Exercise, LearnerConfig, Schedule, SupervisedLearner
from algorithms.models.demonstrations.lesson import Lesson, tree_of
from algorithms.packing import Packer, sampled_rows
from algorithms.packing.layout import Cost

VOCABULARY = 24
F32, F64 = torch.float32, torch.float64


def toy(dtype: torch.dtype = F64, family: str = "llama") -> Any:
    return tiny_model(family, vocabulary=VOCABULARY, dtype=dtype)


def some_lessons(seed: int, count: int = 5, length: int = 30) -> list[Lesson]:
    """Lessons with the same instructions, some with the same question, and with tool results between actions."""
    rng = np.random.default_rng(seed)
    instructions = rng.integers(VOCABULARY, size=9)
    questions = [rng.integers(VOCABULARY, size=4) for _ in range(2)]
    found = []
    for _ in range(count):
        rest = rng.integers(VOCABULARY, size=int(rng.integers(6, length)))
        turns = np.repeat(rng.random(len(rest)) < 0.5, rng.integers(1, 4, size=len(rest)))[: len(rest)]
        turns[0] = True
        tokens = np.concatenate([instructions, questions[int(rng.integers(2))], rest])
        found.append(Lesson(tokens, np.concatenate([np.zeros(13, dtype=bool), turns])))
    return found


def learned(model: Any, lessons: Sequence[Lesson], *, apart: bool = False, **options: Any) -> tuple[Numbers, float]:
    """Returns the gradient and the loss of one step, and the sharing ratio."""
    learner = SupervisedLearner(model, LearnerConfig(gradient_clip=1e9, **options))
    learner._packer.cost = Cost()  # attention of a model this small costs so much that sharing would not pay
    trees = [tree_of([one]) for one in lessons] if apart else [tree_of(lessons)]
    found = dict(learner.learn(trees))
    gradient = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return gradient | {"loss": torch.tensor(found["loss"], dtype=model.dtype)}, found["sharing_ratio"]


def exercise_of(model: Any, lessons: Sequence[Lesson], **changes: Any) -> Exercise:
    """The only micro-batch of some lessons; `changes` are made before it is decided what should be predicted."""
    trees = [tree_of([one]) for one in lessons]
    rows = sampled_rows(trees)
    ((batch, _),) = Packer(model, 1 << 20, packing="flat").batches(trees, rows, range(len(rows)))
    return replace(Exercise.packed(replace(batch, **changes)), inputs=Exercise.packed(batch).inputs)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), other=st.integers(0, 10_000))
def test_what_a_tool_said_is_no_target(seed: int, other: int) -> None:
    """Every target that the demonstrator did not write is exchanged: the loss stays the same to the last bit."""
    model, lessons = toy(), some_lessons(seed, count=3)
    here = exercise_of(model, lessons)
    ids_RF = here.inputs["input_ids"]
    written_RF = torch.zeros(ids_RF.shape, dtype=torch.bool)
    written_RF[here.where[0], here.where[1] + 1] = True
    assert int(written_RF.sum()) == sum(int(one.action.sum()) for one in lessons)
    drawn_RF = torch.from_numpy(np.random.default_rng(other).integers(VOCABULARY, size=tuple(ids_RF.shape)))
    changed = exercise_of(model, lessons, ids_RF=torch.where(written_RF, ids_RF, drawn_RF))
    total = float(written_RF.sum())
    losses = [SupervisedLearner(copy.deepcopy(model)).teach([one], total)["loss"] for one in (here, changed)]
    assert losses[0] == losses[1]
    worse = exercise_of(model, lessons, ids_RF=torch.where(written_RF, (ids_RF + 1) % VOCABULARY, ids_RF))
    assert SupervisedLearner(copy.deepcopy(model)).teach([worse], total)["loss"] != losses[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_result_after_the_last_action_changes_nothing(seed: int) -> None:
    lessons = some_lessons(seed)
    model = toy()
    more = [Lesson(np.append(one.tokens, [1, 2, 3]), np.append(one.action, [False] * 3)) for one in lessons]
    options: dict[str, Any] = {"apart": True, "packing": "flat"}
    plain, longer = (learned(copy.deepcopy(model), some, **options)[0] for some in (lessons, more))
    check_equal(longer, plain, rounding(lambda moved: learned(moved, lessons, **options)[0], model))


@pytest.mark.numeric
@pytest.mark.parametrize(("family", "dtype"), [("llama", F64), ("qwen3", F64), ("gpt2", F64), ("llama", F32)])
def test_packed_lessons_have_the_loss_and_the_gradient_of_single_ones(family: str, dtype: torch.dtype) -> None:
    model, lessons = toy(dtype, family), some_lessons(1, count=6)
    apart, no_sharing = learned(copy.deepcopy(model), lessons, apart=True, packing="flat")
    packed, sharing = learned(copy.deepcopy(model), lessons)
    assert no_sharing == 1.0
    assert sharing > 1.2
    allowed = rounding(lambda moved: learned(moved, lessons, apart=True, packing="flat")[0], model)
    check_equal(packed, apart, allowed)
    small, _ = learned(copy.deepcopy(model), lessons, micro_batch_tokens=48)
    check_equal(small, apart, allowed)


@pytest.mark.numeric
def test_the_loss_is_the_cross_entropy_with_all_other_labels_ignored() -> None:
    model, lessons = toy(), some_lessons(2, count=1)
    (one,) = lessons
    ids, labels = torch.from_numpy(one.tokens)[None], torch.from_numpy(np.where(one.action, one.tokens, -100))[None]

    def theirs(moved: Any) -> Numbers:
        moved.zero_grad()
        loss = torch.nn.functional.cross_entropy(moved(input_ids=ids).logits[0, :-1], labels[0, 1:], ignore_index=-100)
        loss.backward()
        return {name: parameter.grad for name, parameter in moved.named_parameters()} | {"loss": loss.detach()}

    check_equal(learned(copy.deepcopy(model), lessons)[0], theirs(copy.deepcopy(model)), rounding(theirs, model))


def test_equal_lessons_count_twice() -> None:
    model, (one, other) = toy(), some_lessons(3, count=2)
    found = SupervisedLearner(copy.deepcopy(model)).learn([tree_of([one, one, other])])
    assert found["learned_tokens"] == 2 * one.action.sum() + other.action.sum()


@pytest.mark.numeric
def test_steps_lower_the_surprise_which_is_the_loss_before_a_step() -> None:
    learner, lessons = SupervisedLearner(toy(), LearnerConfig(learning_rate=1e-2)), some_lessons(4)
    tree = tree_of(lessons)
    before = learner.surprise([tree])

    def nats(moved: Any) -> Numbers:
        return {"nats": torch.tensor(SupervisedLearner(moved).surprise([tree]), dtype=F64)}

    allowed = rounding(nats, learner.model)
    first = learner.learn([tree])
    check_equal({"nats": torch.tensor(first["loss"], dtype=F64)}, {"nats": torch.tensor(before, dtype=F64)}, allowed)
    for _ in range(60):
        last = learner.learn([tree])
    assert learner.surprise([tree]) < 0.2 * before
    assert last["accuracy"] > 0.9 > first["accuracy"]


def test_each_batch_is_one_step_of_the_schedule_whatever_epochs_say() -> None:
    schedule = Schedule(decay="linear", steps=4)
    learner = SupervisedLearner(toy(), LearnerConfig(learning_rate=1.0, epochs=2, minibatches=2, schedule=schedule))
    lessons = [tree_of(some_lessons(4))]
    assert [learner.learn(lessons)["learning_rate"] for _ in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_a_rate_replaces_the_schedule() -> None:
    model = toy()
    exercise = exercise_of(model, some_lessons(5))
    learner = SupervisedLearner(model, LearnerConfig(learning_rate=1.0), betas=(0.5, 0.6))
    assert learner.optimizer.param_groups[0]["betas"] == (0.5, 0.6)
    before = copy.deepcopy(model.state_dict())
    assert learner.teach([exercise], 1.0, rate=0.0)["learning_rate"] == 0.0
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
