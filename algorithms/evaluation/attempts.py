"""One answer to one question, as a record that is kept: how it ended, what it scored, and what it cost."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..metrics import as_json
from ..rollout import MISTAKE
from ..tree import RolloutTree, Status

_CUT = (Status.TRUNCATED, Status.CONTEXT_FULL, Status.STALLED)


@dataclass(frozen=True)
class Graded:
    """What the text of an answer is worth.

    Args:
        answer: that was given; None if there was none.
        scores: by name, each in [0, 1]; empty if the question's answers are not compared as text.
    """

    answer: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


Grade = Callable[[RolloutTree, int], Graded]
"""(tree, leaf) -> what its answer is worth."""


@dataclass(frozen=True)
class Attempt:
    """One answer to one question.

    Args:
        question: its position among the questions.
        sample: its position among the answers to this question.
        id: of the question; "" if the environment gives none.
        env: that it was asked in, of a mixture; otherwise "".
        status: how it ended.
        success: in [0, 1]; None if it failed through no fault of the model. Then it counts nowhere.
        reward: that was paid in all; None likewise.
        answer: that was given; None if there was none.
        scores: of its text, by name.
        measures: of the environment, by name.
        tool_calls: that ran.
        turns: actions.
        tokens: that the policy sampled.
        malformed: actions that were neither a call nor an answer.
        truncated: whether it ran out of turns or of context, or had stalled.
        read_tokens: of the context before each action, added up: what a server that keeps nothing reads; None in files that
            were written before this was counted.
    """

    question: int
    sample: int
    id: str
    env: str
    status: str
    success: float | None
    reward: float | None
    answer: str | None
    scores: Mapping[str, float]
    measures: Mapping[str, float]
    tool_calls: int
    turns: int
    tokens: int
    malformed: int
    truncated: bool
    read_tokens: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it says something about the model."""
        return self.success is not None

    @property
    def key(self) -> str:
        """What tells its question from others: the id, or where it was asked."""
        return self.id or f"#{self.question}"

    def line(self) -> str:
        """Returns it as one line of JSON."""
        return json.dumps(as_json(asdict(self)), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"

    @classmethod
    def read(cls, line: str | bytes) -> "Attempt":
        """Reads what `line` wrote.

        Raises:
            ValueError: it is something else.
        """
        record = json.loads(line)
        names = {one.name for one in fields(cls)}
        if not isinstance(record, dict) or {*record, "read_tokens"} != names:
            raise ValueError(f"A record of an evaluation has the names {', '.join(sorted(names))}.")
        return cls(**record)


def attempts_of(trees: Sequence[RolloutTree], grade: Grade | None = None, *, first: int = 0) -> list[Attempt]:
    """Returns the record of each path, in order of questions and samples.

    Args:
        trees: frozen, without forks: one per question.
        grade: says what the text of an answer is worth.
        first: position of the first question.
    """
    return [
        _attempt(tree, leaf, (first + index, sample), grade(tree, leaf) if grade is not None else Graded())
        for index, tree in enumerate(trees)
        for sample, leaf in enumerate(tree.leaves())
    ]


def _attempt(tree: RolloutTree, leaf: int, place: tuple[int, int], graded: Graded) -> Attempt:
    end = tree.nodes[leaf]
    actions = [tree.nodes[index] for index, _ in tree.path(leaf) if tree.nodes[index].kind == "action"]
    counts = end.status is not None and end.status.is_model
    known: dict[str, Any] = {"success": None, "reward": None, "measures": {}, "scores": {}}
    if counts:
        known = {
            "success": float(end.success or 0.0),
            "reward": tree.total_reward(leaf),
            "measures": dict(end.measures or {}),
            "scores": dict(graded.scores),
        }
    return Attempt(
        *place,
        **known,
        id=tree.task,
        env=str(tree.meta.get("env", "")),
        status=str(end.status),
        answer=graded.answer,
        tool_calls=sum(bool(node.tool) for node in actions),
        turns=len(actions),
        tokens=sum(tree.sampled(leaf)),
        malformed=sum(node.tool_status == MISTAKE for node in actions),
        truncated=end.status in _CUT,
        read_tokens=_read_tokens(tree, leaf),
    )


def _read_tokens(tree: RolloutTree, leaf: int) -> int:
    before = total = 0
    for index, stop in tree.path(leaf):
        total += before if tree.nodes[index].kind == "action" else 0
        before += stop
    return total
