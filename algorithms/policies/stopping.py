"""Where an action ends: stop strings found in a stream of tokens, without decoding all of it at every token."""

from collections.abc import Sequence
from typing import Any

_MARGIN = 4
"""Tokens decoded before the longest stop string could begin: some tokenizers treat the first ones specially."""


class StopStrings:
    """Says whether the last token of an action completes a stop string.

    Args:
        tokenizer: a `transformers` tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._may_end: dict[tuple[tuple[str, ...], int], bool] = {}

    def completed(self, action: Sequence[int], stops: tuple[str, ...]) -> bool:
        """Whether one of `stops` is complete with the last token of `action`, and was not before.

        Args:
            action: ids of the action so far, at least one; a probe's tokens belong to it.
            stops: the strings.
        """
        if not stops or not self._may_complete(action[-1], stops):
            return False
        longest = max(len(stop.encode()) for stop in stops)  # a visible token is at least one byte
        count = longest + _MARGIN
        while True:
            text = self.text(action[-count:])
            if any(stop in text for stop in stops):
                before = self.text(action[-count:-1])  # one that ended nothing may be there already
                return any(text.count(stop) > before.count(stop) for stop in stops)
            if count >= len(action) or len(text) > longest:
                return False
            count *= 2  # there are tokens that decode to nothing

    def text(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens, special ones included."""
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def _may_complete(self, token: int, stops: tuple[str, ...]) -> bool:
        """Whether a token can be the last one of a stop string: its text has the last character, or part of one."""
        key = (stops, token)
        if key not in self._may_end:
            text = self.text([token])
            plain = text != "" and "\ufffd" not in text
            self._may_end[key] = not plain or any(stop[-1:].isspace() or stop[-1:] in text for stop in stops)
        return self._may_end[key]
