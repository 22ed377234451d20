"""Where text meets tokens: nothing is re-encoded, nothing from outside becomes a control token."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import byte_tokenizer
from rollout_toys import COUNT, CountEnv, CountTool, Plan, calls_then_answer, grow, statuses
from tokenizer_toys import MARKS, toy
from transformers import ByT5Tokenizer

from algorithms.policies import Generation, Sampling
from algorithms.rendering import CUT_MARK, Renderer, ScriptedRenderer, TextRenderer, closing_mark, require_dialect
from algorithms.tree import RolloutTree, Status
from arpo_envs.dialects import make_dialect
from arpo_envs.errors import ConfigError
from arpo_envs.tools import ToolResult

CONTROL = ["<|bos|>", "<|eos|>", "<|header|>"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HOSTILE = st.lists(st.one_of(st.sampled_from([*CONTROL, "<|", "|>", "<", "e", "os|>"]), TEXTS), max_size=6).map("".join)


def renderer(**options: Any) -> TextRenderer:
    tokenizer = byte_tokenizer(bos=options.pop("bos", False), chat=options.pop("chat", False))
    return TextRenderer(tokenizer, **options)


def control_ids(some: TextRenderer) -> set[int]:
    return set(
        some.tokenizer.convert_tokens_to_ids([mark for mark in (*CONTROL, *MARKS) if mark in some.tokenizer.get_vocab()])
    )


# --- the first prompt --------------------------------------------------------------------------------------


def test_without_a_chat_template_the_prompt_is_plain_text() -> None:
    some = renderer()
    assert some.text(some.start("Use tools.", "Where?", [COUNT])) == "Use tools.\n\nWhere?\n"
    assert renderer(with_instructions=False).text(renderer().start("", "Where?", [])).endswith("Where?\n")
    bare = renderer(with_instructions=False)
    assert bare.text(bare.start("Use tools.", "Where?", [])) == "Where?\n"


def test_the_tokenizers_own_beginning_is_kept_once() -> None:
    some = renderer(bos=True)
    tokens = some.start("Use tools.", "Where?", [])
    assert tokens[0] == some.tokenizer.bos_token_id
    assert tokens.count(some.tokenizer.bos_token_id) == 1


ENDS = [
    "$A",
    "$A <|end|>",
    "<|begin|> $A",
    "<|begin|> $A <|end|>",
    "<|begin|> $A <|header|>",
    "<|begin|> <|header|> $A <|end|>",
]
"""What tokenizers put around a text."""


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("pieces", ["bytes", "fallback"])
def test_a_prompt_begins_as_the_tokenizer_wants_it_and_never_ends(ends: str, pieces: str) -> None:
    tokenizer = toy(pieces=pieces, ends=ends)
    some = TextRenderer(tokenizer)
    tokens = list(some.start("Use tools.", "Where?", [COUNT]))
    bare = tokenizer.encode("Use tools.\n\nWhere?\n", add_special_tokens=False)
    assert tokens == tokenizer.encode("Use tools.\n\nWhere?\n")[: len(tokens)]
    assert tokens[-len(bare) :] == bare
    assert len(tokens) - len(bare) == sum(mark.startswith("<") for mark in ends.partition("$A")[0].split())
    assert not set(tokens[1:]) & set(some.stop_tokens)
    assert not control_ids(some) & set(some.observation("x", 100).tokens), "nothing is put around what follows"


def test_t5s_tokenizer_does_not_end_the_prompt() -> None:
    some = TextRenderer(ByT5Tokenizer())
    assert some.tokenizer.encode("x")[-1] == some.tokenizer.eos_token_id
    prompt = some.start("Use tools.", "東京?", [COUNT])
    assert some.text(prompt) == "Use tools.\n\n東京?\n"
    assert len(prompt) == len("Use tools.\n\n東京?\n".encode())
    assert some.observation("<result>東京</result>", 1000).text == "<result>東京</result>"


def test_with_a_chat_template_roles_are_control_tokens_and_the_assistant_begins() -> None:
    some = renderer(chat=True, bos=True)
    tokens = some.start("Use tools.", "Where?", [])
    text = some.tokenizer.decode(tokens)
    assert text == "<|header|>system\nUse tools.<|eos|><|header|>user\nWhere?<|eos|><|header|>assistant\n"
    bare = renderer(chat=True, with_instructions=False)
    assert "system" not in bare.tokenizer.decode(bare.start("Use tools.", "Where?", []))


@given(HOSTILE)
@settings(max_examples=60, deadline=None)
def test_a_task_adds_no_control_tokens(task: str) -> None:
    for some in (renderer(), renderer(chat=True), renderer(bos=True)):
        ids = control_ids(some)
        plain = sum(t in ids for t in some.start("Use tools.", "harmless", []))
        assert sum(t in ids for t in some.start("Use tools.", task, [])) == plain


# --- observations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", [False, True])
@given(text=HOSTILE)
@settings(max_examples=80, deadline=None)
def test_no_text_from_outside_becomes_a_control_token(bos: bool, text: str) -> None:
    some = renderer(bos=bos)
    encoded = some.observation(text, 10_000)
    assert not control_ids(some).intersection(encoded.tokens)
    assert not encoded.cut
    assert not any(mark in encoded.text for mark in CONTROL)
    assert some.text(encoded.tokens) == encoded.text, "the text is what the model saw"
    assert encoded.text.replace(" ", "") == text.replace(" ", ""), "only spaces were added"


def test_control_tokens_that_a_tokenizer_does_not_name_are_neutralised_too() -> None:
    some = renderer()
    assert "<|header|>" not in some.tokenizer.all_special_tokens
    assert some.observation("a<|header|>assistant", 100).text == "a< |header|>assistant"
    header = some.tokenizer.convert_tokens_to_ids("<|header|>")
    assert some.text([70, header, 71]) == some.text([70, 71])


def test_lone_surrogates_are_survived() -> None:
    assert renderer().observation("<result>a\ud800b</result>", 100).text == "<result>a?b</result>"


def test_a_models_json_cannot_crash_a_rollout_with_a_lone_surrogate() -> None:
    """The argument reaches the tool as JSON means it; the observation is repaired, and the tree can be written."""
    tool = CountTool(hook=lambda history: ToolResult(f"you said {history[-1]}"))

    class Says:
        version, context_length, vocabulary_size = 0, 512, 300

        async def generate(self, context: Any, params: Sampling, **rest: Any) -> Generation:
            said = '<tool_call>{"name": "count", "arguments": {"text": "\\ud800"}}</tool_call>'
            text = "1" if "you said" in some.text(context) else said
            tokens = tuple(some.tokenizer.encode(text))
            return Generation(tokens, (-1.0,) * len(tokens), (1.0,) * len(tokens), "stop", 0)

        async def load(self, weights: Mapping[str, Any], version: int) -> None: ...

        async def close(self) -> None: ...

    some = renderer(dialect="json", with_instructions=False)
    (tree,) = grow(plan=Plan(rollouts=2), script=Says(), env=lambda: CountEnv(tool, dialect="json"), renderer=some)  # type: ignore[arg-type]
    assert statuses(tree) == [Status.ANSWERED] * 2
    assert RolloutTree.from_json(tree.to_json().encode().decode()) == tree
    assert json.loads(tree.to_json())["task"]


@given(TEXTS, st.integers(0, 80))
@settings(max_examples=120, deadline=None)
def test_a_cut_keeps_to_its_limit_and_to_its_closing_tag(body: str, limit: int) -> None:
    text = f"<result>{body}</result>"
    for some in (renderer(), ScriptedRenderer()):
        encoded = some.observation(text, limit)
        assert len(encoded.tokens) <= limit
        whole = some.observation(text, 10_000)
        assert encoded.cut == (len(whole.tokens) > limit)
        if not encoded.cut:
            assert encoded == whole
        tail = CUT_MARK + "</result>"
        if encoded.cut and limit >= len(tail.encode()):
            assert encoded.text.endswith(tail)
        assert some.text(encoded.tokens) == encoded.text


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<result>x</result>", "</result>"),
        ("{}</tool_response>", "</tool_response>"),
        ("no tag", ""),
        ("", ""),
        ("a </b> c -> d>", ""),
        ("</" + "x" * 10_000 + ">", ""),
        ("a</>", ""),
    ],
)
def test_closing_marks(text: str, mark: str) -> None:
    assert closing_mark(text) == mark


# --- history -----------------------------------------------------------------------------------------------


def test_history_is_never_rendered_again() -> None:
    """The whole trajectory is the prompt's tokens, then exactly what was drawn and what each observation added."""
    encoded: list[str] = []

    class Counting(TextRenderer):
        def _encode(self, text: str) -> tuple[int, ...]:
            encoded.append(text)
            return super()._encode(text)

    class Split:
        """Writes tokens that its tokenizer would never choose: one per byte, unmerged."""

        version, context_length, vocabulary_size = 0, 2048, 300

        async def generate(self, context: Any, params: Sampling, *, seed: int, offset: int = 0, tail: str = "") -> Generation:
            before = some.text(context[: len(context) - offset])
            action = calls_then_answer(2)(before, seed)
            tokens = tuple(some.tokenizer.convert_tokens_to_ids(list(action)))[offset : offset + params.max_tokens]
            end = "stop" if offset + len(tokens) == len(action) else "length"
            return Generation(tokens, (-1.0,) * len(tokens), (1.0,) * len(tokens), end, 0)  # type: ignore[arg-type]

        async def load(self, weights: Mapping[str, Any], version: int) -> None: ...

        async def close(self) -> None: ...

    some = Counting(byte_tokenizer())
    (tree,) = grow(plan=Plan(rollouts=1), script=Split(), renderer=some)  # type: ignore[arg-type]
    (leaf,) = tree.leaves()
    action = next(n for n in tree.nodes if n.kind == "action")
    assert some.tokenizer.encode(action.text) != list(action.tokens), "another segmentation than the tokenizer's"
    assert statuses(tree) == [Status.ANSWERED]
    assert encoded == [n.text for n in tree.nodes if n.kind == "observation"], "each observation once, and nothing else"
    assert tree.tokens(leaf) == [t for n in tree.nodes for t in n.tokens]


def test_dialects_must_agree() -> None:
    require_dialect(renderer(dialect="json"), make_dialect("json", [COUNT]))
    with pytest.raises(ConfigError, match=r"speaks 'tags', the environment 'json'.*dialect='tags'"):
        require_dialect(renderer(), make_dialect("json", [COUNT]))


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no eos_token"):
        TextRenderer(tokenizer)


def test_a_tokenizer_that_always_adds_control_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_tokenizer(bos=True)
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text, **rest: encode(text))
    with pytest.raises(ConfigError, match="adds control tokens even where add_special_tokens=False"):
        TextRenderer(tokenizer)


@pytest.mark.parametrize("some", [renderer(), ScriptedRenderer()], ids=lambda r: type(r).__name__)
def test_renderers_have_the_members_of_the_protocol(some: object) -> None:
    assert isinstance(some, Renderer)


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_text_survives_the_round_trip(text: str) -> None:
    for some in (renderer(), ScriptedRenderer()):
        assert some.text(some.observation(text, 10_000).tokens) == text


def test_without_a_template_examples_stand_between_the_instructions_and_the_question() -> None:
    some = TextRenderer(byte_tokenizer())
    shown = [("One?", "<count>x</count>", "<result>1</result>", "<answer>1</answer>")]
    text = some.text(some.start("Count.", "Two?", [], shown))
    assert text == "Count.\n\nOne?\n<count>x</count><result>1</result><answer>1</answer>\n\nTwo?\n"
