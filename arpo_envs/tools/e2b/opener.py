"""What a session asks of the tool that opened it, so that it need not import the tool, which imports it."""

from typing import Any, Protocol

from .calls import Deadline


class Opener(Protocol):
    """The settings of `E2BTool`, and what starts sandboxes with them."""

    template: str | None
    timeout: float
    lifetime: int
    fork: str
    retries: int

    def key(self) -> str:
        """Returns the key of the account."""
        ...

    def told(self, error: BaseException) -> str:
        """Returns what an error says, without the key."""
        ...

    def start(self, template: str | None, seed: int, deadline: Deadline) -> Any:
        """Returns a new sandbox."""
        ...
