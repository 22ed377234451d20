"""One evaluation against another: the same questions, found by their ids, and a paired test of each score both have."""

from collections.abc import Sequence

from arpo_envs import ConfigError

from .attempts import Attempt
from .paired import Difference, paired_difference
from .scores import strata_of, values_of

COMPARED = ("success", "em", "f1", "judge")


def compared(own: Sequence[Attempt], other: Sequence[Attempt], *, seed: int = 0) -> dict[str, Difference]:
    """Returns how far an evaluation is above another one in success, and in each other score of answers that both have.

    Args:
        own: answers of the first evaluation.
        other: of the second, to the same questions.
        seed: of the intervals and of the test.

    Raises:
        ConfigError: the questions differ, or no question has an answer that counts on both sides.
    """
    questions = _asked(own, other)
    _require_same(questions, _asked(other, own))
    mine, theirs = values_of(own), values_of(other)
    strata = strata_of(other) | strata_of(own)
    found = {}
    for name in COMPARED:
        if name in mine and name in theirs:
            one, two = ({question: values.get(question, ()) for question in questions} for values in (mine[name], theirs[name]))
            if any(len(one[question]) and len(two[question]) for question in questions):
                found[name] = paired_difference(one, two, strata, seed=seed)
    if not found:
        raise ConfigError("Nothing can be compared: no question has an answer that counts in both evaluations.")
    return found


def _asked(own: Sequence[Attempt], other: Sequence[Attempt]) -> set[str]:
    """Returns the questions; one that never began has no id, but the other side may name what was asked in its place."""
    names = {one.question: one.id for some in (other, own) for one in some if one.id}
    return {one.id or names.get(one.question, one.key) for one in own}


def _require_same(own: set[str], other: set[str]) -> None:
    if own == other:
        return
    told = [
        f"{len(only)} only {where}, such as {min(only)!r}"
        for only, where in ((own - other, "in this evaluation"), (other - own, "in the other"))
        if only
    ]
    raise ConfigError(
        f"A paired test needs the same questions on both sides, but of {len(own | other)} questions, {' and '.join(told)}. "
        "Evaluate both with the same environment, arguments and number of questions."
    )
