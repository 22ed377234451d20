"""What a mutant is: a change that switches off one protection of the interpreter, and the tests that must notice.

The mutants themselves are in `mutants_server` and `mutants_isolation`. Keep their texts short: they must be in their file once,
whatever else changes there.
"""

from dataclasses import dataclass
from pathlib import PurePath

TOOL = PurePath("arpo_envs/tools/python")


@dataclass(frozen=True)
class Mutant:
    """One change of the code.

    Args:
        file: below the tool's folder.
        old: text that is there once.
        new: what replaces it.
        tests: what is run, as for pytest.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> PurePath:
        """The file, from the checkout's root."""
        return TOOL / self.file


def in_(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"test_{file}.py::test_{test}" for test in tests)


def of(file: str, *changes: tuple[str, str, tuple[str, ...]]) -> tuple[Mutant, ...]:
    return tuple(Mutant(file, *change) for change in changes)
