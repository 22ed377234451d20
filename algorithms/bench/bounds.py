"""What a measured number should be, and how a table shows whether it is."""

import operator
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

_COMPARE = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Bound:
    """A bound on a measured number; a missed one is shown, but only `arpo bench --check` fails on it.

    Args:
        relation: of the number to the limit.
        limit: in the number's unit.

    >>> [cell.plain for cell in Bound("≥", 0.95).cells(0.93, "×")]
    ['0.93×', '≥ 0.95× missed']
    """

    relation: Literal["≥", "≤", "<"]
    limit: float

    def met(self, value: float) -> bool:
        """Returns whether a number keeps within the bound."""
        return bool(_COMPARE[self.relation](value, self.limit))

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:.6g}"

    def cells(self, value: float, unit: str = "") -> tuple[Text, Text]:
        """Returns the table's cells for a number and its bound; red where it is missed."""
        bound = f"{self}{unit}"
        if self.met(value):
            return Text(f"{value:,.2f}{unit}", "bold"), Text(bound, "dim")
        return Text(f"{value:,.2f}{unit}", "bold red"), Text(f"{bound} missed", "red")
