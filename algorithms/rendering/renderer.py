"""What a renderer is: the only thing through which text becomes tokens, and tokens text."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from arpo_envs import ToolSpec, members


class Encoded(NamedTuple):
    """An observation as it is appended: whole, cut, or not at all.

    Args:
        tokens: what is appended.
        text: their text.
        cut: whether something was left out.
        fits: False if not even the shortest cut fits: then nothing is appended, and no action may follow.
    """

    tokens: tuple[int, ...]
    text: str
    cut: bool
    fits: bool = True


NO_ROOM = Encoded((), "", cut=True, fits=False)
"""An observation for which there is no room."""


REWRITES: members.Member[Sequence[str]] = members.Member("rewrites", ())
"""The changes, in words, that a renderer's chat template makes to earlier turns; with any, the renderer may only evaluate."""

CALLS: members.Member[Any] = members.Member("calls", None)
"""The `CallFormat` in which the model writes calls, which `action` translates; trees keep its name."""
WITH_INSTRUCTIONS: members.Member[bool] = members.Member("with_instructions", False)
"""Whether the first prompt holds the environment's instructions, so that trees keep them as well."""


@runtime_checkable
class Renderer(Protocol):
    """Turns tasks and observations into tokens, and tokens into text."""

    @property
    def dialect(self) -> str:
        """Name of the dialect it speaks."""
        ...

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Token ids that end an action."""
        ...

    def start(
        self, instructions: str, task: str, tools: Sequence[ToolSpec], examples: Sequence[Sequence[str]] = ()
    ) -> tuple[int, ...]:
        """Returns the tokens of the first prompt.

        Args:
            instructions: what the policy is told.
            task: the question.
            tools: that it may call.
            examples: episodes to show before the task: the question, and by turns what was written and what came back.
        """
        ...

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns at most `limit` tokens to append after an action; a cut is marked in the text.

        What leads from the action to the next one is never cut: it fits as a whole, if only with a mark in place of the
        text, or the result says that it does not fit.

        Args:
            text: what the environment returned.
            limit: in tokens.
            ended: whether the model ended its turn itself: the action's last token is a stop token.
        """
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Returns the text of sampled tokens, control tokens left out."""
        ...

    def action(self, text: str) -> str:
        """Returns a model's action in the environment's dialect, if the model writes calls in its own format."""
        ...
