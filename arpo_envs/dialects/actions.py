"""What a model can do in one action, and what a dialect is."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct


class Call(Struct, frozen=True):
    """The model calls a tool."""

    tool: str
    arguments: Mapping[str, Any]


class Answer(Struct, frozen=True):
    """The model answers and so ends the episode."""

    text: str


class Mistake(Struct, frozen=True):
    """The model wrote neither; `text` tells it what to do.

    `kind` is "format" for text that is not an action at all, which spoils the format reward, and
    "call" for a well-formed call that cannot be made (unknown tool, empty or wrong arguments).
    `unfinished` says that the text ends inside a thought or a call: an engine that stopped at a stop string may continue.
    """

    kind: Literal["format", "call"]
    text: str
    unfinished: bool = False


Action = Call | Answer | Mistake

RESERVED = frozenset({"answer", "think", "result", "tool_call", "tool_response"})
"""Tag names with a meaning of their own, which no tool may use."""


@runtime_checkable
class Dialect(Protocol):
    """One way of writing tool calls, for a fixed set of tools.

    `parse(call(tool, arguments))` is that call for all arguments that the tool accepts, whatever marks their strings contain.
    """

    @property
    def name(self) -> str:
        """The name by which `make_dialect` knows it."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings after which an action is likely to be complete; they belong to the action. `parse` does not rely on them."""
        ...

    def instructions(self) -> str:
        """Tells a model how to call these tools and how to answer."""
        ...

    def parse(self, text: str) -> Action:
        """Reads one action of the model; what follows the first complete action is ignored."""
        ...

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call, as a perfect model would; a stop string occurs only at its end."""
        ...

    def answer(self, text: str) -> str:
        """Writes an answer, as a perfect model would; the dialect's own marks in it are neutralised."""
        ...

    def result(self, text: str, *, trusted: bool = False) -> str:
        """Wraps text for the model: a tool's is neutralised; this package's own (`trusted`) may contain the marks."""
        ...

    def neutralise(self, text: str) -> str:
        """Makes sure that no text from outside can look like this dialect's own marks."""
        ...
