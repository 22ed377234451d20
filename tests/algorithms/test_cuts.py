"""What does not fit is cut between two characters, with the whole way to the next action around it, or it ends the path."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from chat_toys import FAMILIES, family_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import COUNT, CountEnv, CountTool, Plan, grow
from tokenizer_toys import NORMALISERS, toy
from turns import some_slow

from algorithms.policies import Generation, Sampling
from algorithms.rendering import Encoded, Renderer, ScriptedRenderer, TextRenderer
from algorithms.rendering.chat import ChatRenderer
from algorithms.tree import RolloutTree, Status
from arpo_envs.dialects import make_dialect
from arpo_envs.tools import ToolResult

JAPANESE = "東京は日本の首都です。人口は約千四百万人、\U0001f469\u200d\U0001f52c と ﷽ の町。"
BODIES = [JAPANESE, "The capital is Tokyo. " * 3, '"\n\\' * 12, "\ufffd" * 15, "ab\ufffd日\ufffd", "\U0001f1ef\U0001f1f5" * 6]


PIECES = ("bytes", "fallback")
RENDERERS = [
    "scripted",
    *(f"text, {pieces}{normaliser}" for pieces in PIECES for normaliser in ("", ", NFKC")),
    *(f"{dialect}, {tokenizer}" for tokenizer in (*PIECES, *FAMILIES) for dialect in ("tags", "json")),
]
"""Every kind of renderer and template."""


@cache
def renderer(name: str) -> Renderer:
    if name == "scripted":
        return ScriptedRenderer()
    kind, tokenizer, *normaliser = name.split(", ")
    if kind == "text":
        return TextRenderer(toy(*(NORMALISERS[some] for some in normaliser), pieces=tokenizer))
    if tokenizer in PIECES:
        return ChatRenderer(toy(pieces=tokenizer, normalized=tokenizer == "bytes", chat=True), dialect=kind)
    return ChatRenderer(family_tokenizer(tokenizer), dialect=kind, allow_rewriting_template=True)


def whole_way(some: Renderer, encoded: Encoded, ended: bool) -> tuple[int, ...]:
    """Returns the tokens that an observation's text must have: the whole way from an action to the next."""
    if isinstance(some, ChatRenderer) and some.dialect == "json":
        content = encoded.text
        if some._bridge.role == "tool":
            content = content.removeprefix("<tool_response>").removesuffix("</tool_response>")
        return tuple(some.tokenizer.encode(some._bridge.text(content), add_special_tokens=False)[1 if ended else 0 :])
    if isinstance(some, TextRenderer):
        again = some._raw(some._reopen)[1:] if isinstance(some, ChatRenderer) and ended else ()
        return (*again, *some.tokenizer.encode(encoded.text, add_special_tokens=False))
    return tuple(map(ord, encoded.text))


def same(some: Renderer, tokens: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether tokens are the same; a tokenizer that puts spaces after marks may put some more when it encodes their text."""
    if isinstance(some, TextRenderer) and some.tokenizer.encode("x") == some.tokenizer.encode(" x")[1:]:
        space = some.tokenizer.encode(" x")[0]
        tokens, others = (tuple(token for token in part if token != space) for part in (tokens, others))
    return tokens == others


USUAL = {name for name in RENDERERS if name.endswith(("scripted", "bytes", "fallback", "NFKC", "qwen2.5", "gemma"))}


@pytest.mark.parametrize("name", some_slow(RENDERERS, USUAL))
def test_an_observation_is_whole_or_does_not_fit(name: str) -> None:
    some = renderer(name)
    dialect = make_dialect(some.dialect, [COUNT])
    several = name == "scripted" or name.split(", ")[1] in ("bytes", "fallback", "qwen2.5")
    bodies = BODIES if several else [JAPANESE[:9], '"\n\\' * 4]
    for number, body in enumerate(bodies):
        ended = bool(number % 2)
        text = dialect.result(body)
        full = some.observation(text, 10_000, ended=ended)
        assert same(some, full.tokens, whole_way(some, full, ended))
        fitted = []
        for limit in range(len(full.tokens) + 2):
            encoded = some.observation(text, limit, ended=ended)
            fitted.append(encoded.fits)
            assert len(encoded.tokens) <= limit
            assert encoded.cut == (len(full.tokens) > limit)
            if not encoded.fits:
                assert encoded == ((), "", True, False)
                continue
            assert same(some, encoded.tokens, whole_way(some, encoded, ended)), "the way to the next action is whole"
            assert encoded.text.count("\ufffd") <= full.text.count("\ufffd"), "no half of a character"
            if encoded.cut:
                closing = text[text.rindex("</") :]
                before, mark, after = encoded.text.rpartition("[cut]")
                assert (mark, after) == ("[cut]", closing)
                kept = before.removesuffix("… ").removesuffix("... ")
                assert full.text.replace(" ", "").startswith(kept.replace(" ", ""))
                assert kept == "" or text[: text.index(">") + 1] in kept, "the opening tag is whole"
        assert fitted == sorted(fitted), "what fits once fits wherever there is more room"
        assert not fitted[0]
        assert fitted[-1]


@given(body=st.text(max_size=40), limit=st.integers(0, 200), name=st.sampled_from(sorted(RENDERERS)))
@settings(max_examples=200, deadline=None)
def test_the_text_of_a_cut_is_what_its_tokens_decode_to(body: str, limit: int, name: str) -> None:
    some = renderer(name)
    encoded = some.observation(make_dialect(some.dialect, [COUNT]).result(body), limit)
    seen = encoded.text.removeprefix("<tool_response>").removesuffix("</tool_response>")
    assert len(encoded.tokens) <= limit
    if some.dialect == "json" and some._bridge.change("\n") != "\n":  # type: ignore[attr-defined]
        return  # the template writes a result as JSON
    assert seen in some.text(encoded.tokens)


def test_a_cut_uses_the_room_up_to_a_character() -> None:
    some = TextRenderer(toy())
    text = f"<result>{JAPANESE}</result>"
    for limit in range(30, len(some.observation(text, 1000).tokens)):
        assert limit - 4 <= len(some.observation(text, limit).tokens) <= limit


def test_the_empty_observation_always_fits() -> None:
    for some in (ScriptedRenderer(), TextRenderer(toy())):
        assert some.observation("", 0) == ((), "", False, True)


# --- what does not fit ends the path ------------------------------------------------------------------------


class Caller:
    """Calls the tool again and again, and remembers the contexts in which it was asked for an action."""

    version, vocabulary_size = 0, 600

    def __init__(self, renderer: TextRenderer, context_length: int, ended: bool) -> None:
        tokens = renderer.tokenizer.encode(make_dialect(renderer.dialect, [COUNT]).call("count", {"text": "x"}))
        self.action = (*tokens, renderer.stop_tokens[0]) if ended else tuple(tokens)
        self.context_length, self.contexts = context_length, list[tuple[int, ...]]()

    async def generate(self, context: Any, params: Sampling, **rest: Any) -> Generation:
        self.contexts.append(tuple(context))
        tokens = self.action[: params.max_tokens]
        end = "stop" if tokens == self.action else "length"
        return Generation(tokens, (-1.0,) * len(tokens), (1.0,) * len(tokens), end, 0)  # type: ignore[arg-type]

    async def load(self, weights: Mapping[str, Any], version: int) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("name", ["tags, qwen2.5", "json, qwen2.5", "json, gemma", "text, bytes"])
def test_no_action_is_drawn_after_half_a_way(name: str, ended: bool) -> None:
    some: Any = renderer(name)
    start = len(some.start("", "Question a?", [COUNT]))
    refused = []
    for room in range(20, 200, 9):
        policy = Caller(some, start + 300 + room, ended)
        env = lambda: CountEnv(CountTool(hook=lambda history: ToolResult("日本 " * 20)), dialect=some.dialect)  # noqa: E731
        (tree,) = grow(env=env, plan=Plan(rollouts=1), script=policy, renderer=some, answer_reserve=16, action_tokens=100)  # type: ignore[arg-type]
        refused.append(check_path(tree, some, policy, ended))
    assert any(refused)


def check_path(tree: RolloutTree, some: TextRenderer, policy: Caller, ended: bool) -> bool:
    """Returns whether the path ended because an observation did not fit."""
    for way in (node for node in tree.nodes if node.kind == "observation"):
        assert way.tokens == whole_way(some, Encoded(way.tokens, way.text, True), ended)
    (leaf,) = tree.leaves()
    last = tree.nodes[leaf]
    refused = tree.nodes[last.parent].kind == "action"
    if refused:
        assert last.status == Status.CONTEXT_FULL
        assert last.tokens == ()
        assert last.reward == -1.0, "what is forfeited without an answer"
        assert tuple(tree.tokens(leaf)) not in policy.contexts, "no action was drawn after what did not fit"
    return refused
