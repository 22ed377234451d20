"""A separate process in which a function may hang, crash or eat memory without harm."""

from .host import Overrun, Raised, shared_worker

__all__ = ["Overrun", "Raised", "shared_worker"]
