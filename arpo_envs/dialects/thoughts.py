"""Where the model's thoughts end, and what was only a thought: one rule for both dialects."""

import re

from .reading import behind_space, json_end

THINK, END_OF_THINK = "<think>", "</think>"


def thought_end(text: str, mark: re.Pattern[str]) -> int:
    """Returns where a thought ends that the chat template opened in the prompt; 0 if there is none.

    It ends after the first `</think>` that closes nothing and is not inside a body: calls before it were only mentioned.
    A text that begins with `<think>` opens its thoughts itself.

    Args:
        text: one action of a model.
        mark: finds the dialect's marks; its groups are the slash of a closing one, and the name.

    >>> mark = re.compile("<(/?)(think|search)>")
    >>> text = "<search>x</search> may help.</think><search>y</search>"
    >>> text[thought_end(text, mark):]
    '<search>y</search>'
    >>> thought_end("<search>a </think> b</search>", mark)
    0
    """
    if END_OF_THINK not in text or text.lstrip().startswith(THINK):
        return 0
    at, exact = 0, True
    while (found := mark.search(text, at)) is not None:
        closing, name = found.groups()
        at = found.end()
        if name == "think":
            if closing:
                return at
            at = text.find(END_OF_THINK, at) + len(END_OF_THINK)
            if at < len(END_OF_THINK):
                return 0
        elif not closing and name != "result":
            close = f"</{name}>"
            end = json_end(text, at, close) if exact else -1
            if end < 0:
                exact = exact and not text.startswith("{", behind_space(text, at))  # each error takes time for all text before
                end = text.find(close, at)
                if (behind := _spoken_of(text, mark, at, end)) or end < 0:
                    return behind
            at = end + len(close)
    return 0


def _spoken_of(text: str, mark: re.Pattern[str], start: int, end: int) -> int:
    """Returns where a thought that looked like a body ends: after a `</think>` that nothing in it opened; 0 if it is a body.

    It is still a body if it is closed, at `end`, and no other begins between the `</think>` and there.
    """
    at, stop = start, end if end >= 0 else len(text)
    while (closed := text.find(END_OF_THINK, at, stop)) >= 0:
        if text.find(THINK, at, closed) < 0:
            break
        at = closed + len(END_OF_THINK)
    else:
        return 0
    behind = closed + len(END_OF_THINK)
    begun = any(not found[1] and found[2] not in {"think", "result"} for found in mark.finditer(text, behind, stop))
    return behind if end < 0 or begun else 0
