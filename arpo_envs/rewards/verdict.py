"""A checker's judgement of an answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """The judgement of one answer.

    Args:
        success: whether the answer counts as right.
        accuracy: how right it is, in [0, 1]; 0 or 1 for every answer type except text.
        note: why, if that is not obvious ("timeout", "not a number", …); empty otherwise.
    """

    success: bool
    accuracy: float
    note: str = ""

    @classmethod
    def of(cls, equal: bool, note: str = "") -> "Verdict":
        """Returns the verdict of a checker that knows only right and wrong.

        >>> Verdict.of(True)
        Verdict(success=True, accuracy=1.0, note='')
        """
        return cls(equal, float(equal), note)
