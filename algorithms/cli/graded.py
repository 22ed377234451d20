"""What the text of an answer is worth: exact match and F1, as the published script of the benchmark computes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arpo_envs import Answer, ConfigError, Task, members
from arpo_envs.rewards import published_scores
from arpo_envs.rewards.published import Rule

from ..evaluation import Graded
from ..rendering.renderer import Renderer
from ..rollout import MakeEnv
from ..tree import RolloutTree, Status

RULES: Mapping[str, Rule] = {"hotpotqa": "hotpotqa", "2wiki": "hotpotqa", "musique": "musique"}
"""Benchmarks with rules of their own for F1; all others have SQuAD's."""


@dataclass(frozen=True)
class Grader:
    """Grades the answers of one environment.

    Args:
        dialect: that its answers are written in; None if it reads actions as they are.
        tasks: where its questions come from; None if it does not say.
        renderer: that wrote what it read.
        rule: whose F1.
    """

    dialect: Any
    tasks: Any
    renderer: Renderer
    rule: Rule

    @classmethod
    def of(cls, make_env: MakeEnv, renderer: Renderer, benchmark: str | None) -> "Grader":
        """Returns the grader of an environment.

        Args:
            make_env: makes it.
            renderer: of the evaluation.
            benchmark: whose questions are asked; None for the environment's own.
        """
        env = make_env()
        dialect, tasks = members.DIALECT.through(env), members.TASKS.through(env)
        env.close()
        return cls(dialect, tasks, renderer, RULES.get(benchmark or "", "squad"))

    def __call__(self, tree: RolloutTree, leaf: int) -> Graded:
        """Returns the answer at the end of a path, and its scores if the question asks for a short text; without it, 0.

        Where no dialect says which part of an action is the answer, there are no such scores.
        """
        answer, accepted = self._answer(tree, leaf), self._accepted(tree.task)
        if not accepted or self.dialect is None:
            return Graded(answer)
        if answer is None:
            return Graded(None, {"em": 0.0, "f1": 0.0})
        scores = published_scores(answer, accepted, self.rule)
        return Graded(answer, {"em": scores.exact, "f1": scores.f1})

    def _answer(self, tree: RolloutTree, leaf: int) -> str | None:
        end = tree.nodes[leaf]
        if end.status is not Status.ANSWERED or self.dialect is None:
            return None
        said = self.dialect.parse(self.renderer.action(end.text))
        return said.text if isinstance(said, Answer) else None

    def _accepted(self, task: str) -> tuple[str, ...]:
        """Returns the accepted answers of a question, none if they are not compared as text."""
        if self.tasks is None or not task:
            return ()
        try:
            found: Task = self.tasks.get(task)
        except ConfigError:  # a source that can draw questions and not find them again
            return ()
        is_text = found.meta.get("answer_type", "text") == "text" and "scorer" not in found.meta
        return found.answers if is_text else ()
