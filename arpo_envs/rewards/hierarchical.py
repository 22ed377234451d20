"""The paper's hierarchical reward (arXiv 2507.19849, Eq. 8), after Tool-Star."""

from dataclasses import dataclass

from ..errors import ConfigError
from ..outcome import Outcome, Score
from ..tasks import Task
from .checking import check


@dataclass(frozen=True)
class HierarchicalReward:
    """Accuracy with a bonus for really using several tools, 0 for a wrong answer, -1 for a malformed episode.

    R = Acc + bonus if Acc > 0 and every tool of `bonus_tools` ran without an error; Acc if Acc > 0; 0 if the
    episode was well formed but Acc = 0; -1 if there was no answer or an action was badly formed. Acc comes from `check`:
    the best token F1 over the accepted answers for short texts, 0 or 1 for mathematics, numbers and choices. Tags in tool
    results change nothing: only `Outcome` is read.

    Args:
        bonus: what using all `bonus_tools` earns; the paper's r_M.
        bonus_tools: tools that must all have been used; empty for no bonus.

    Raises:
        ConfigError: the bonus is negative.

    >>> from arpo_envs.tasks import Task
    >>> rule, task = HierarchicalReward(), Task("t", "Capital of France?", ("Paris",))
    >>> [rule(task, Outcome(text, True, frozenset({"search"}))).value for text in ("paris", "Rome", None)]
    [1.0, 0.0, -1.0]
    """

    bonus: float = 0.1
    bonus_tools: frozenset[str] = frozenset({"search", "python"})

    def __post_init__(self) -> None:
        """Checks the bonus."""
        if self.bonus < 0:
            raise ConfigError(f"bonus must not be negative, got {self.bonus}.")

    def __call__(self, task: Task, outcome: Outcome) -> Score:
        """Returns the episode's reward; success is 1 exactly when the checker calls the answer right.

        Raises:
            ConfigError: the task's answer type is unknown, or the task contradicts it.
        """
        if outcome.answer is None:
            return Score(-1.0, 0.0)
        verdict = check(task, outcome.answer)
        success, accuracy = float(verdict.success), verdict.accuracy
        if not outcome.well_formed:
            return Score(-1.0, success)
        earned = bool(self.bonus_tools) and self.bonus_tools <= outcome.tools_used
        return Score(accuracy + (self.bonus if earned and accuracy > 0 else 0.0), success)
