"""The only place where text meets tokens.

Sampled ids are never re-encoded: the first prompt is encoded once, and each observation adds its own
tokens. Text from outside is encoded so that it can never become a control token.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from arpo_envs import ConfigError, Dialect, ToolSpec

CUT_MARK = "… [cut]"


class Encoded(NamedTuple):
    """Tokens of an observation, the text they stand for, and whether it was cut to fit."""

    tokens: tuple[int, ...]
    text: str
    cut: bool


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

    def start(self, instructions: str, task: str, tools: Sequence[ToolSpec]) -> tuple[int, ...]:
        """Returns the tokens of the first prompt."""
        ...

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns at most `limit` tokens to append after an action; a cut is marked in the text.

        Args:
            text: what the environment said.
            limit: in tokens.
            ended: whether the model ended its turn itself: the action's last token is a stop token.
        """
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Returns the text of sampled tokens, control tokens left out."""
        ...

    def action(self, text: str) -> str:
        """Returns what a model wrote in the environment's dialect, if it writes calls in a way of its own."""
        ...


def closing_mark(text: str) -> str:
    """Returns the closing tag an observation ends with, which a cut must keep; "" if there is none.

    >>> closing_mark("<result>Paris</result>")
    '</result>'
    """
    mark = re.search(r"</[\w-]{1,64}>\Z", text)
    return mark[0] if mark is not None else ""


@dataclass(frozen=True)
class ScriptedRenderer:
    """One token per Unicode character, for `ScriptedPolicy`."""

    dialect: str = "tags"
    stop_tokens: tuple[int, ...] = ()

    def start(self, instructions: str, task: str, tools: Sequence[ToolSpec]) -> tuple[int, ...]:
        """Returns the task's characters."""
        return tuple(map(ord, task + "\n"))

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns the text's characters."""
        if len(text) <= limit:
            return Encoded(tuple(map(ord, text)), text, False)
        tail = CUT_MARK + closing_mark(text)
        text = (text[: max(0, limit - len(tail))] + tail)[:limit]
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
        dialect: name of the dialect the environment shall be made with.
        with_instructions: whether the prompt tells the model about its tools; a policy trained from
            scratch on one environment does not need to read the same text every time.

    Raises:
        ConfigError: the tokenizer has no token that ends a text.
    """

    def __init__(self, tokenizer: Any, *, dialect: str = "tags", with_instructions: bool = True) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError("The tokenizer has no eos_token; set one, so that a policy can end its turn.")
        self.tokenizer = tokenizer
        self.dialect = dialect
        self.with_instructions = with_instructions
        self.stop_tokens: tuple[int, ...] = (int(tokenizer.eos_token_id),)
        control = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        # many tokenizers name only some of their control tokens: Llama 3 leaves out <|start_header_id|>
        control |= {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._control_ids = frozenset(control)
        marks = sorted(filter(None, control.values()), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, marks)) if marks else r"(?!)")

    def start(self, instructions: str, task: str, tools: Sequence[ToolSpec]) -> tuple[int, ...]:
        """Returns the tokens of the first prompt; see `Renderer.start`."""
        task = self.harmless(task)
        if getattr(self.tokenizer, "chat_template", None):
            messages = [{"role": "user", "content": task}]
            if self.with_instructions:
                messages.insert(0, {"role": "system", "content": instructions})
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return tuple(self.tokenizer.encode(text, add_special_tokens=False))
        text = f"{instructions}\n\n{task}\n" if self.with_instructions else f"{task}\n"
        return tuple(self.tokenizer.encode(text, add_special_tokens=True))

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns an observation's tokens; see `Renderer.observation`."""
        text = self.harmless(text)
        tokens = self._encode(text)
        if len(tokens) <= limit:
            return Encoded(tokens, text, False)
        tail = self._encode(CUT_MARK + closing_mark(text))
        head = tokens[: max(0, limit - len(tail))]
        kept = (*head, *tail)[:limit]
        return Encoded(kept, self.text(kept), True)

    def text(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens, control tokens left out."""
        kept = [token for token in tokens if token not in self._control_ids]
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    def action(self, text: str) -> str:
        """Returns the text as it is."""
        return text

    def harmless(self, text: str) -> str:
        """Returns the text with every control token's string broken up: `<|im_end|>` becomes `< |im_end|>`.

        Lone surrogates, which a model's JSON may smuggle into a tool's text, become question marks.
        """
        text = text.encode("utf-8", "replace").decode("utf-8")
        return self._control.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)

    def _encode(self, text: str) -> tuple[int, ...]:
        tokens = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        if self._control_ids.intersection(tokens):
            raise ConfigError(f"The tokenizer turned outside text into a control token: {text[:80]!r}.")
        return tokens


def check_dialect(renderer: Renderer, dialect: Dialect) -> None:
    """Refuses an environment and a renderer that speak different dialects.

    Raises:
        ConfigError: they differ.
    """
    if renderer.dialect != dialect.name:
        raise ConfigError(
            f"The renderer speaks {renderer.dialect!r}, the environment {dialect.name!r}. "
            f"Make the environment with dialect={renderer.dialect!r}."
        )
