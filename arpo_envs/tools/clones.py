"""The sessions of a copied environment: all of them, or none."""

from typing import Any

from ..errors import CloneError
from . import Session


def cloned_sessions(sessions: dict[int, Session], memo: dict[int, Any]) -> dict[int, Session]:
    """Clones all sessions, or none: if one fails, the clones made before it are closed.

    Args:
        sessions: of an environment, by tool.
        memo: `deepcopy`'s: a clone made before is taken from it, and each new one is noted there.

    Raises:
        CloneError: one could not be cloned.
    """
    clones: dict[int, Session] = {}
    try:
        for key, session in sessions.items():
            clones[key] = _cloned(session, memo)
    except BaseException:
        for made in clones.values():
            made.close()
        raise
    return clones


def _cloned(session: Session, memo: dict[int, Any]) -> Session:
    """Clones a session once per copy of the stack, even if others hold it too."""
    if id(session) not in memo:
        (child,) = session.clone(1)
        if isinstance(child, CloneError):
            raise child
        memo[id(session)] = child
    twin: Session = memo[id(session)]
    return twin
