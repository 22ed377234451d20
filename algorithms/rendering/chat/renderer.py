"""Renders for a chat model: its template writes the first prompt, a bridge adds each result, history stays as it is."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arpo_envs import ConfigError, ToolSpec, make_dialect

from ..renderer import NO_ROOM, Encoded
from ..spelling import Piece, Speller, pattern_of
from ..text import CUT_MARK, OWN_MARKS, SEAM, TextRenderer, closing_mark
from .bridge import find_bridge
from .calls import HERMES, CallFormat, native_format
from .rewriting import Rewrite, normalised_turns, rewritten_turns
from .template import ChatTemplate, Message, assistant, system, user

_CALL = re.compile(r"(.*?)<tool_call>\s*(\{.*\})\s*</tool_call>\s*", re.DOTALL)
_WRAPPED = re.compile(r"<tool_response>(.*)</tool_response>", re.DOTALL)


class ChatRenderer(TextRenderer):
    """Renders for any Hugging Face chat model.

    With dialect "tags" an episode is one assistant turn, as in the ARPO paper: results are inserted unchanged.
    If the model ends the turn without an action, the turn is opened again.

    With dialect "json" each action is an assistant turn and each result a separate turn, in the model's own format
    where `calls.py` knows it; other models are given the format of Hermes in their instructions.

    Args:
        tokenizer: a `transformers` tokenizer with a chat template.
        dialect: name of the dialect to make the environment with.
        with_instructions: whether the prompt tells the model about its tools.
        stop_tokens: ids that end a turn, besides the template's own and the tokenizer's `eos_token`.
        template_options: more variables of the template, e.g. `{"enable_thinking": False}`.
        allow_rewriting_template: accept a template that rewrites earlier turns, for evaluation only, never for training.

    Raises:
        ConfigError: there is no chat template, no token ends a turn, or the template rewrites earlier turns.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        dialect: str = "tags",
        with_instructions: bool = True,
        stop_tokens: Iterable[int] = (),
        template_options: Mapping[str, Any] | None = None,
        allow_rewriting_template: bool = False,
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError("The tokenizer has no chat template; use TextRenderer, or set tokenizer.chat_template.")
        super().__init__(tokenizer, dialect=dialect, with_instructions=with_instructions, stop_tokens=stop_tokens)
        make_dialect(dialect, ())  # refuses an unknown name
        self.template = ChatTemplate(tokenizer, template_options or {})
        added = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if not t.special and t.content.strip()}
        marks = {i: mark for i, mark in added.items() if mark in self.template.source}
        self._marks = set(marks.values())
        self._own = pattern_of(self._marks & OWN_MARKS[dialect])
        control = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in self._control_ids}
        self._speller = Speller(tokenizer, control | marks)
        self._end = self._turn_end()
        own = tokenizer.convert_tokens_to_ids(self._end)
        self.stop_tokens = tuple(dict.fromkeys([int(own), *self.stop_tokens]))
        self._reopen = self._end + self.template.turn_end.removeprefix(self._end) + self.template.generation_prompt
        self.rewrites: tuple[Rewrite, ...] = ()
        """Where the template rewrites earlier turns; a trainer refuses a renderer that has any."""
        self.normalises: tuple[Rewrite, ...] = ()
        """Where the template would tidy up turns; sampled tokens stay as they were sampled."""
        if dialect == "json":
            self._set_up_turns(allow_rewriting_template)

    def _set_up_turns(self, allow_rewriting: bool) -> None:
        native = native_format(self.template)
        self.calls: CallFormat = native or HERMES
        tools = self.template.tools if native is not None else ()
        bridge = find_bridge(self.template, "tool", tools) if native is not None else None
        bridge = bridge or find_bridge(self.template, "user", tools)
        if bridge is None or not bridge.head.startswith(self._end):
            raise ConfigError(
                "The chat template cannot be continued with results in separate turns. Use dialect='tags' instead."
            )
        self._native, self._bridge = native is not None, bridge
        self.rewrites = rewritten_turns(self.template, bridge, self.calls, self._raw)
        self.normalises = normalised_turns(self.template, bridge, self.calls, self._raw)
        if self.rewrites and not allow_rewriting:
            raise ConfigError(
                f"The chat template rewrites earlier turns: {self.rewrites[0]}. A model must not be trained on contexts that "
                "its template would not show it. Use a template that keeps history, or dialect='tags', where an episode is "
                "one turn. To evaluate anyway: allow_rewriting_template=True."
            )

    def _turn_end(self) -> str:
        """Returns the control token that ends an assistant turn; the end-of-text token where the template names none."""
        tokens = self._raw(self.template.turn_end)
        if tokens and tokens[0] in self._control_ids:
            return str(self.tokenizer.convert_ids_to_tokens(tokens[0]))
        return str(self.tokenizer.eos_token)

    # --- the protocol -----------------------------------------------------------------------------------

    def start(
        self, instructions: str, task: str, tools: Sequence[ToolSpec], examples: Sequence[Sequence[str]] = ()
    ) -> tuple[int, ...]:
        """Returns the tokens of the first prompt, with the tools in the template's own format where it has one.

        Raises:
            ConfigError: the template refuses to render it.
        """
        functions: list[dict[str, Any]] = []
        if self.dialect == "json" and self._native and self.with_instructions:
            functions = [spec.function() for spec in tools]
            instructions = instructions.removesuffix(make_dialect("json", tools).instructions()).strip()
        shown = [message for example in examples for message in self._shown(example)]

        def prompt(task: str) -> str:
            first, *others = [*shown, user(task)]
            messages = [first, *others]
            if self.with_instructions and instructions:
                takes = self.template.takes_system
                told = [system(instructions), first] if takes else [user(f"{instructions}\n\n{first['content']}")]
                messages = [*told, *others]
            text = self.template.render(messages, prompt=True, tools=functions)
            if text is None:
                raise ConfigError("The chat template cannot render a prompt of system instructions and a user's question.")
            return text

        return self._around(prompt, self._foreign(task, own=set()))

    def _shown(self, example: Sequence[str]) -> list[Message]:
        """Returns an example as the turns that the episode would have had."""
        question, turns = user(self._quoted(example[0])), [*map(self._told, example[1:])]
        if self.dialect != "json":
            return [question, assistant(SEAM.join(turns))]
        return [question, *(self._turn(text, acts=at % 2 == 0) for at, text in enumerate(turns))]

    def _turn(self, text: str, *, acts: bool) -> Message:
        """Returns an action, or a result, as a message of its own."""
        if acts:
            return assistant(self._own_words(text))
        wrapped = _WRAPPED.fullmatch(text) if self._bridge.role == "tool" else None
        return self._bridge.message(text if wrapped is None else wrapped[1])

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns an observation's tokens; see `Renderer.observation`."""
        text = self._foreign(text, own=OWN_MARKS[self.dialect])
        if self.dialect == "json":
            return self._next_turn(text, limit, ended)
        again = self._raw(self._reopen)[1:] if ended else ()
        inner = super().observation(text, limit - len(again))
        return inner._replace(tokens=(*again, *inner.tokens)) if inner.fits else inner

    def action(self, text: str) -> str:
        """Returns an action in the environment's dialect; see `Renderer.action`."""
        return self.calls.to_dialect(text) if self.dialect == "json" else text

    def _own_words(self, action: str) -> str:
        """Returns a call in the model's own format, where it has one; text before it stays."""
        found = _CALL.fullmatch(action) if self.dialect == "json" and self._native else None
        if found is None:
            return action
        call = json.loads(found[2])
        return found[1] + self.calls.call(call["name"], call.get("arguments", {}))

    # --- results in separate turns ------------------------------------------------------------------------

    def _next_turn(self, text: str, limit: int, ended: bool) -> Encoded:
        wrapped = _WRAPPED.fullmatch(text) if self._bridge.role == "tool" else None
        content = wrapped[1] if wrapped is not None else text

        def way(content: str) -> tuple[int, ...]:
            return self._way(content, ended)

        def turn(content: str, cut: bool) -> Encoded:
            seen = self.text(self._encode(self._bridge.seen(content)))
            return Encoded(way(content), f"<tool_response>{seen}</tool_response>" if wrapped is not None else seen, cut)

        if len(way(content)) <= limit:
            return turn(content, cut=False)
        tail = CUT_MARK if wrapped is not None else CUT_MARK + closing_mark(content)
        kept = self._shortened(self._encode(content), limit, tail, way)
        return turn(kept, cut=True) if kept is not None else NO_ROOM

    def _way(self, content: str, ended: bool) -> tuple[int, ...]:
        """Returns the tokens from an action to the next; those of the turn's end only if the model did not sample them."""
        bridge = self._bridge
        inner = self._pieces(bridge.change(content))
        tokens = self._speller.join([Piece(bridge.head, own=True), *inner, Piece(bridge.tail, own=True)])
        return tokens[1:] if ended else tokens

    def _pieces(self, text: str) -> list[Piece]:
        """Returns a text in pieces of outside text and of the dialect's own marks; see `TextRenderer`."""
        pieces, at = [], 0
        for mark in self._own.finditer(text):
            pieces += [Piece(text[at : mark.start()], own=False), Piece(mark[0], own=True)]
            at = mark.end()
        return [*pieces, Piece(text[at:], own=False)]

    def _quoted(self, text: str) -> str:
        """Returns outside text for a prompt; see `TextRenderer`."""
        return self._speller.apart(self._speller.spelt(self._foreign(text.replace(SEAM, "?"), own=set())))

    def _foreign(self, text: str, own: set[str]) -> str:
        """Returns outside text with control tokens, and marks the template gives a meaning, broken up."""
        text = self.harmless(text)
        for mark in self._marks - own:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text
