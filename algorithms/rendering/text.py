"""The only place where text meets tokens.

Sampled ids are never re-encoded: the first prompt is encoded once, and each observation adds its own
tokens. Text from outside is encoded so that it can never become a control token.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from arpo_envs import ConfigError, Dialect, ToolSpec

from .renderer import NO_ROOM, Encoded, Renderer
from .spelling import Piece, Speller, pattern_of

CUT_MARK = "… [cut]"

OWN_MARKS = {
    "tags": {"<think>", "</think>"},
    "json": {"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"},
}
"""Marks that the environment's dialect itself keeps out of a tool's text, and that its own messages may contain."""

SEAM = "\ue000"
"""Stands between two turns of an example, whose tokens do not merge: in an episode, each turn is encoded by itself."""

_TASK = "DUMMYTASK"
_STOPPED = {"json": re.compile(r"</tool_call>\s*\Z")}
_STOPPED_USUALLY = re.compile(r"</[\w.-]{1,64}>\s*\Z")
"""Matches actions after which the dialect's own stop strings end a turn."""


def closing_mark(text: str) -> str:
    """Returns the closing tag an observation ends with, which a cut must keep; "" if there is none.

    >>> closing_mark("<result>Paris</result>")
    '</result>'
    """
    mark = re.search(r"</[\w.-]{1,64}>\Z", text)
    return mark[0] if mark is not None else ""


def _opening_mark(text: str) -> str:
    """Returns the opening tag an observation begins with, which a cut keeps whole; "" if there is none."""
    mark = re.match(r"<[\w.-]{1,64}>", text)
    return mark[0] if mark is not None else ""


@dataclass(frozen=True)
class ScriptedRenderer:
    """One token per Unicode character, for `ScriptedPolicy`."""

    dialect: str = "tags"
    stop_tokens: tuple[int, ...] = ()

    def start(
        self, instructions: str, task: str, tools: Sequence[ToolSpec], examples: Sequence[Sequence[str]] = ()
    ) -> tuple[int, ...]:
        """Returns the task's characters."""
        return tuple(map(ord, task + "\n"))

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns the text's characters."""
        if len(text) <= limit:
            return Encoded(tuple(map(ord, text)), text, False)
        tail = CUT_MARK + closing_mark(text)
        if len(tail) > limit:
            return NO_ROOM
        kept = text[: limit - len(tail)]
        text = (kept if len(kept) >= len(_opening_mark(text)) else "") + tail
        return Encoded(tuple(map(ord, text)), text, True)

    def text(self, tokens: Sequence[int]) -> str:
        """Returns the characters."""
        return "".join(map(chr, tokens))

    def action(self, text: str) -> str:
        """Returns the text as it is."""
        return text


class TextRenderer:
    """Renders for a Hugging Face tokenizer: its chat template where it has one, plain text otherwise.

    As in the paper, everything after the first prompt is one assistant turn: tool results are
    inserted into it, without turn boundaries.

    Args:
        tokenizer: a `transformers` tokenizer.
        dialect: name of the dialect to make the environment with.
        with_instructions: whether the prompt tells the model about its tools; a policy trained from
            scratch on one environment does not need to read the same text every time.
        stop_tokens: ids that end a turn, besides the tokenizer's `eos_token`.

    Raises:
        ConfigError: the tokenizer has no token that ends a text, or adds control tokens to every text.
    """

    def __init__(
        self, tokenizer: Any, *, dialect: str = "tags", with_instructions: bool = True, stop_tokens: Iterable[int] = ()
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError("The tokenizer has no eos_token; set one, so that a policy can end its turn.")
        self.tokenizer = tokenizer
        self.dialect = dialect
        self.with_instructions = with_instructions
        self.stop_tokens: tuple[int, ...] = tuple(dict.fromkeys([int(tokenizer.eos_token_id), *map(int, stop_tokens)]))
        control = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        # many tokenizers name only some of their control tokens: Llama 3 leaves out <|start_header_id|>
        control |= {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._control_ids = frozenset(control)
        self._control = pattern_of(control.values())
        self._speller = Speller(tokenizer, control)
        if self._control_ids.intersection(self._raw("")):
            raise ConfigError(
                "The tokenizer adds control tokens even where add_special_tokens=False asks for none, so each observation "
                "would begin or end a text. Use a fast tokenizer, or one that respects that argument."
            )

    def start(
        self, instructions: str, task: str, tools: Sequence[ToolSpec], examples: Sequence[Sequence[str]] = ()
    ) -> tuple[int, ...]:
        """Returns the tokens of the first prompt; see `Renderer.start`."""
        templated = bool(getattr(self.tokenizer, "chat_template", None))
        shown = [(self._quoted(question), SEAM.join(map(self._told, turns))) for question, *turns in examples]

        def prompt(task: str) -> str:
            if not templated:
                task = "\n\n".join([*(f"{question}\n{SEAM}{turns}{SEAM}" for question, turns in shown), task])
                return f"{instructions}\n\n{task}\n" if self.with_instructions else f"{task}\n"
            pairs = [message for pair in shown for message in zip(("user", "assistant"), pair, strict=True)]
            messages = [{"role": role, "content": content} for role, content in (*pairs, ("user", task))]
            if self.with_instructions:
                messages.insert(0, {"role": "system", "content": instructions})
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

        tokens = self._around(prompt, self.harmless(task))
        return tokens if templated else (*self._beginning(), *tokens)

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns an observation's tokens; see `Renderer.observation`."""
        text = self.harmless(text)
        tokens = self._encode(text)
        if len(tokens) <= limit:
            return Encoded(tokens, self.text(tokens), False)
        kept = self._shortened(tokens, limit, CUT_MARK + closing_mark(text), self._encode)
        if kept is None:
            return NO_ROOM
        tokens = self._encode(kept)
        return Encoded(tokens, self.text(tokens), True)

    def text(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens, control tokens left out."""
        kept = [token for token in tokens if token not in self._control_ids]
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    def action(self, text: str) -> str:
        """Returns the text as it is."""
        return text

    def written(self, action: str) -> tuple[int, ...]:
        """Returns the tokens that a policy would have drawn to write an action of the environment's dialect.

        They include the end of its turn, unless the action ends in a stop string.
        """
        text = self.harmless(self._own_words(action))
        tokens = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        stopped = _STOPPED.get(self.dialect, _STOPPED_USUALLY).search(text) is not None
        return tokens if stopped else (*tokens, self.stop_tokens[0])

    def _own_words(self, action: str) -> str:
        """Returns an action as the model writes it: the inverse of `action`."""
        return action

    def harmless(self, text: str) -> str:
        """Returns the text with every control token's string broken up: `<|im_end|>` becomes `< |im_end|>`.

        Lone surrogates, which can enter a tool's text through a model's JSON, become question marks.
        """
        text = text.encode("utf-8", "replace").decode("utf-8")
        return self._control.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)

    def _encode(self, text: str) -> tuple[int, ...]:
        """Returns the tokens of outside text, none of which is a control token."""
        return self._speller.join(self._pieces(text))

    def _told(self, text: str) -> str:
        """Returns an example's turn, in which only the dialect's own marks are marks: it quotes what tools returned."""
        own, told, at, text = pattern_of(OWN_MARKS.get(self.dialect, set())), "", 0, text.replace(SEAM, "?")
        for mark in own.finditer(text):
            told += self._quoted(text[at : mark.start()]) + mark[0]
            at = mark.end()
        return told + self._quoted(text[at:])

    def _quoted(self, text: str) -> str:
        """Returns outside text for a prompt, which holds no mark and spoils none."""
        return self._speller.apart(self._speller.spelt(self.harmless(text.replace(SEAM, "?"))))

    def _pieces(self, text: str) -> list[Piece]:
        """Returns a text in pieces of outside text and of marks that it may hold."""
        return [Piece(text, own=False)]

    def _around(self, prompt: Callable[[str], str], task: str) -> tuple[int, ...]:
        """Returns the tokens of a prompt with a task in it, which adds no marks; those on both sides of a seam do not merge."""
        text = prompt(self._speller.spelt(task))
        before, found, after = prompt(_TASK).partition(_TASK)
        inside = text[len(before) : len(text) - len(after)]  # the task as it appears in the prompt, which may drop spaces
        if not found or text != before + inside + after:
            return tuple(token for part in text.split(SEAM) for token in self._raw(part))
        *parts, before = before.split(SEAM)
        tokens = self._speller.join([Piece(before, own=True), Piece(inside, own=False), Piece(after, own=True)])
        return (*(token for part in parts for token in self._raw(part)), *tokens)

    def _beginning(self) -> tuple[int, ...]:
        """Returns what the tokenizer puts before a text, but not what it puts after it, which would end the text."""
        bare, whole = self._raw(_TASK), tuple(self.tokenizer.encode(_TASK, add_special_tokens=True))
        starts = range(len(whole) - len(bare) + 1)
        return next((whole[:at] for at in starts if whole[at : at + len(bare)] == bare), ())

    def _shortened(self, tokens: Sequence[int], limit: int, tail: str, encode: Callable[[str], Sequence[int]]) -> str | None:
        """Returns the longest beginning of a text that fits, and `tail`; None if `tail` alone does not fit.

        It ends between two tokens and between two characters, and never inside the tag that opens the text.

        Args:
            tokens: of the whole text.
            limit: in tokens of what `encode` returns.
            tail: text that follows.
            encode: turns a text into the tokens to append.
        """
        text, least = self.text(tokens), len(encode(tail))
        opening = len(_opening_mark(text))
        if least > limit:
            return None

        def kept(count: int) -> str:
            pairs = zip(self.text(tokens[:count]), text, strict=False)
            beginning = "".join(letter for letter, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            return (beginning if len(beginning) >= opening else "") + tail

        shortest, longest = 0, min(limit - least, len(tokens))
        while shortest < longest:  # a text may take more tokens next to its tail, or after a template has changed it
            count = (shortest + longest + 1) // 2
            shortest, longest = (count, longest) if len(encode(kept(count))) <= limit else (shortest, count - 1)
        return kept(shortest)

    def _raw(self, text: str) -> tuple[int, ...]:
        """Returns the tokens of text that may hold control tokens, as a template writes them."""
        return self._speller.encode(text)


def require_dialect(renderer: Renderer, dialect: Dialect) -> None:
    """Refuses an environment and a renderer that speak different dialects.

    Raises:
        ConfigError: they differ.
    """
    if renderer.dialect != dialect.name:
        raise ConfigError(
            f"The renderer speaks {renderer.dialect!r}, the environment {dialect.name!r}. "
            f"Make the environment with dialect={renderer.dialect!r}."
        )
