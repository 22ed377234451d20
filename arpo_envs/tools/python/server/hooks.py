"""Disables the interpreter's fork hooks before anything that would register one is imported."""

import os
import posix


def forget_fork_hooks() -> None:
    """Makes `os.register_at_fork` do nothing: a clone must be equal to its original, `random`'s state included.

    There is one thread, so no lock can be held at a fork, which is what these hooks are for.
    """

    def register_at_fork(*, before: object = None, after_in_child: object = None, after_in_parent: object = None) -> None:
        """Does nothing: nothing may run when the interpreter is cloned."""

    os.register_at_fork = posix.register_at_fork = register_at_fork
