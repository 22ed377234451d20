"""Held-out evaluation, by the training loop's own rollouts: answers kept one by one, what they come to, how sure that is.

An answer becomes an `Attempt`, a file of attempts is an evaluation that can be continued, `estimates` sums it up, and
`compared` tests it against another one. `entropy_profile` measures where a policy is uncertain. `contrasts` compares runs of
several algorithms. A `Judge` says whether answers are right.
"""

from .against import compared
from .around_results import Average, EntropyProfile, ToolProfile, entropy_profile
from .attempt_file import AttemptFile, read_attempts, require_new
from .attempts import Attempt, Grade, Graded, attempts_of
from .bootstrap import bootstrap_intervals
from .contrast import Contrast, contrasts, pairs_needed
from .curves import over_cost
from .held_out import Evaluation, ask, evaluate
from .interquartile import interquartile_interval, interquartile_mean
from .intervals import wilson
from .judge import Claim, Judge, JudgedFile, Judgement
from .judge_server import ServedJudge
from .paired import Difference, paired_difference
from .pass_at_k import pass_at_k
from .prices import Prices
from .scores import COSTS, Estimate, estimates

__all__ = [
    "COSTS",
    "Attempt",
    "AttemptFile",
    "Average",
    "Claim",
    "Contrast",
    "Difference",
    "EntropyProfile",
    "Estimate",
    "Evaluation",
    "Grade",
    "Graded",
    "Judge",
    "JudgedFile",
    "Judgement",
    "Prices",
    "ServedJudge",
    "ToolProfile",
    "ask",
    "attempts_of",
    "bootstrap_intervals",
    "compared",
    "contrasts",
    "entropy_profile",
    "estimates",
    "evaluate",
    "interquartile_interval",
    "interquartile_mean",
    "over_cost",
    "paired_difference",
    "pairs_needed",
    "pass_at_k",
    "read_attempts",
    "require_new",
    "wilson",
]
