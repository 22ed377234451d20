"""Chat models: N turns bridged are the template's rendering of N turns, and nothing from outside becomes a control token."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
from chat_toys import FAMILIES, chat_tokenizer, family_tokenizer
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rollout_toys import COUNT

from algorithms.models.demonstrations.expert import Demonstration
from algorithms.models.demonstrations.lesson import lesson
from algorithms.rendering import CUT_MARK, Renderer
from algorithms.rendering.chat import ChatRenderer
from algorithms.rendering.chat.rewriting import thought
from algorithms.rendering.chat.template import assistant, system, user
from arpo_envs.dialects import make_dialect
from arpo_envs.errors import ConfigError

NATIVE = {"qwen2.5", "qwen2.5-training", "qwen3", "qwen3-training", "qwen3-2507", "llama3.1", "llama3.2"}
REWRITING = {"r1-distill", "qwen3.5"}
KEEPING = sorted(set(FAMILIES) - REWRITING)
THINKING = {"qwen3-training", "qwen3.5-training", "r1-distill-training"}
"""Families whose templates begin a thought, or write an empty one into earlier turns."""
JSON = make_dialect("json", [COUNT])
GUIDANCE = "Count what you are told to."
INSTRUCTIONS = f"{GUIDANCE}\n{JSON.instructions()}"

MARKS = ["<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|end_header_id|>", "<end_of_turn>", "<|end|>", "<|python_tag|>", "<bos>"]
ODD = [
    *MARKS,
    "<tool_call>",
    "</tool_response>",
    "<think>",
    "</think>",
    "\n",
    "\n\n",
    "  ",
    "\t",
    '"',
    "\\",
    "{",
    "<|",
    "\u2028",
    "Ko\u0308ln",
]
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
OUTSIDE = st.lists(st.one_of(st.sampled_from(ODD), WORDS), max_size=6).map("".join)
TURNS = st.lists(st.tuples(st.booleans(), WORDS, st.booleans(), OUTSIDE), min_size=1, max_size=3)


def renderer(family: str, dialect: str = "json", **options: Any) -> ChatRenderer:
    return ChatRenderer(family_tokenizer(family), dialect=dialect, **options)


@cache
def shared(family: str, dialect: str = "json") -> ChatRenderer:
    return renderer(family, dialect)


def rendered(some: ChatRenderer, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> list[int]:
    """Returns the template's own tokens of a conversation, the assistant's turn begun."""
    text = some.tokenizer.apply_chat_template(
        list(messages),
        tools=[tool.function() for tool in tools] or None,
        tokenize=False,
        add_generation_prompt=True,
        date_string="26 Jul 2024",
    )
    return some.tokenizer.encode(text, add_special_tokens=False)


def control_ids(some: ChatRenderer) -> set[int]:
    return {i for i, token in some.tokenizer.added_tokens_decoder.items() if token.special}


def first_messages(some: ChatRenderer, family: str) -> list[Mapping[str, Any]]:
    instructions = GUIDANCE if family in NATIVE else INSTRUCTIONS
    if not some.template.takes_system:
        return [user(f"{instructions}\n\nHow many?")]
    return [system(instructions), user("How many?")]


@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("family", [family for family in KEEPING if family not in THINKING])
def test_an_example_is_shown_as_the_episode_that_it_was(family: str, dialect: str) -> None:
    some, spoken = shared(family, dialect), make_dialect(dialect, [COUNT])
    call, result, answer = spoken.call("count", {"text": "x"}), spoken.result("4 <b>"), spoken.answer("4")
    episode = lesson(Demonstration("Count.", "How many?", ((call, result), (answer, "")), (COUNT,)), some)
    prompt = some.start("Count.", "And now?", [COUNT], [("How many?", call, result, answer)])
    was, shown = ("".join(some.tokenizer.decode(tokens).split()) for tokens in (episode.tokens, prompt))
    assert shown.startswith(was)
    assert "Andnow?" in shown
    if dialect == "tags":
        assert [*prompt[: len(episode.tokens)]] == episode.tokens.tolist(), "not only the text, but the tokens"


# --- N turns -----------------------------------------------------------------------------------------------


@pytest.mark.turns("family", always=5)
@pytest.mark.parametrize("family", KEEPING)
@given(turns=TURNS)
@settings(max_examples=40, deadline=None)
def test_bridging_n_turns_is_the_templates_rendering_of_n_turns(family: str, turns: list[tuple[bool, str, bool, str]]) -> None:
    some = shared(family)
    tools = [COUNT] if family in NATIVE else []
    opened, _ = thought(some.template.generation_prompt)
    messages = first_messages(some, family)
    tokens = list(some.start(INSTRUCTIONS, "How many?", [COUNT]))
    assert tokens == rendered(some, messages, tools)
    for calls, said, ended, outside in turns:
        action = "Well. " + some.harmless(said).replace("<", "[").strip()
        action = (action + ("\n" + some.calls.call("count", {"text": "x"}) if calls else "")).strip()
        if opened:  # a thought, by the prompt
            action = f"Hm.\n</think>\n\n{action}"
        elif family == "qwen3-training":  # it writes a thought into every turn, and asks for one
            action = f"<think>\nHm.\n</think>\n\n{action}"
        ids = some.tokenizer.encode(action, add_special_tokens=False)
        tokens += [*ids, some.stop_tokens[0]] if ended else ids
        result = JSON.result(outside)
        encoded = some.observation(result, 10_000, ended=ended)
        assert not encoded.cut
        tokens += encoded.tokens
        content = encoded.text
        if family in NATIVE:
            content = content.removeprefix("<tool_response>").removesuffix("</tool_response>")
            back = {"role": "tool", "name": "count", "tool_call_id": "1", "content": content}
        else:
            back = user(content)
        messages += [assistant(opened + action), back]
    assert tokens == rendered(some, messages, tools)


@pytest.mark.parametrize("family", sorted(NATIVE))
def test_a_call_written_out_is_what_the_template_makes_of_a_structured_one(family: str) -> None:
    some = shared(family)
    written = some.calls.call("count", {"text": 'Köln "49" \n'})
    call = {"type": "function", "function": {"name": "count", "arguments": {"text": 'Köln "49" \n'}}}
    result = {"role": "tool", "name": "count", "content": "1"}
    bare, structured = (
        rendered(some, [user("How many?"), turn, result], [COUNT])
        for turn in (assistant(written), {"role": "assistant", "content": "", "tool_calls": [call]})
    )
    assert bare == structured


@pytest.mark.turns("family", always=5)
@pytest.mark.parametrize("family", KEEPING)
@given(text=OUTSIDE, ended=st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_text_from_outside_becomes_a_control_token(family: str, text: str, ended: bool) -> None:
    for some in (shared(family), shared(family, "tags")):
        dialect = make_dialect(some.dialect, [COUNT])
        ids = control_ids(some) | set(some.tokenizer.convert_tokens_to_ids(sorted(some._marks)))
        harmless, hostile = (
            [t for t in some.observation(dialect.result(body), 10_000, ended=ended).tokens if t in ids] for body in ("x", text)
        )
        assert hostile == harmless
        harmless, hostile = ([t for t in some.start("Count.", body, []) if t in ids] for body in ("x", text))
        assert hostile == harmless


# --- tags: one assistant turn -------------------------------------------------------------------------------


@pytest.mark.turns("family", always=5)
@pytest.mark.parametrize("family", FAMILIES)
@given(words=WORDS, outside=OUTSIDE)
@settings(max_examples=20, deadline=None)
def test_with_tags_an_episode_is_one_assistant_turn(family: str, words: str, outside: str) -> None:
    """The text of the whole is the template's prompt and one turn; each result has its own tokens, whatever stands beside."""
    some = shared(family, "tags")
    tags = make_dialect("tags", [COUNT])
    action = f"<count>{some.harmless(words)}</count>"
    assume("\ufffd" not in words)
    encoded = some.observation(tags.result(outside), 10_000)
    whole = [*some.start(tags.instructions(), "How many?", [COUNT]), *some.tokenizer.encode(action), *encoded.tokens]
    first = [system(tags.instructions()), user("How many?")]
    if not some.template.takes_system:
        first = [user(f"{tags.instructions()}\n\nHow many?")]
    prompt = some.tokenizer.decode(rendered(some, first))
    normal = some.tokenizer.backend_tokenizer.normalizer.normalize_str
    assert some.tokenizer.decode(whole) == prompt + normal(action) + normal(encoded.text)
    assert list(encoded.tokens) == some.tokenizer.encode(encoded.text, add_special_tokens=False)


def test_a_turn_that_the_model_ended_is_opened_again() -> None:
    expected = {
        "qwen2.5": "\n<|im_start|>assistant\n",
        "llama3.1": "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "phi3": "\n<|assistant|>\n",
        "gemma": "\n<start_of_turn>model\n",
        "r1-distill": "<｜Assistant｜><think>\n",
    }
    for family, header in expected.items():
        some = shared(family, "tags")
        encoded = some.observation("<result>x</result>", 100, ended=True)
        assert some.tokenizer.decode(encoded.tokens) == header + "<result>x</result>"
        assert encoded.text == "<result>x</result>"


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen2.5", "llama3.1", "llama3", "gemma"])
@given(body=OUTSIDE, limit=st.integers(0, 120), ended=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_cut_keeps_to_its_limit_and_keeps_the_turns_whole(family: str, body: str, limit: int, ended: bool) -> None:
    some = shared(family)
    text = JSON.result(body * 5)
    encoded = some.observation(text, limit, ended=ended)
    assert len(encoded.tokens) <= limit
    whole = some.observation(text, 10_000, ended=ended)
    assert encoded.cut == (len(whole.tokens) > limit)
    if not encoded.cut:
        assert encoded == whole
    elif limit > 60:
        assert CUT_MARK in encoded.text
        ids = control_ids(some)
        turns = [[t for t in part.tokens if t in ids] for part in (encoded, whole)]
        assert turns[0] == turns[1], "every turn is still begun and ended"
        assert encoded.tokens[-2:] == whole.tokens[-2:], "the assistant's turn is begun"


@pytest.mark.parametrize("body", ["Köln is in Germany. " * 50, '"\n\\' * 100])
def test_a_cut_uses_the_room_there_is(body: str) -> None:
    for family in ("qwen2.5", "llama3.1", "llama3"):
        encoded = shared(family).observation(JSON.result(body), 150)
        assert encoded.cut
        assert 120 <= len(encoded.tokens) <= 150
        again = shared(family, "tags").observation(f"<result>{body}</result>", 150, ended=True)
        assert 140 <= len(again.tokens) <= 150
        assert shared(family, "tags").text(again.tokens).endswith(CUT_MARK + "</result>"), (
            "an opened turn leaves less room for the result"
        )


# --- what a template cannot do --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(REWRITING))
def test_a_template_that_drops_thoughts_is_refused_by_name(family: str) -> None:
    with pytest.raises(
        ConfigError, match=r"rewrites earlier turns: a turn that thinks: after .*Where is Köln.*allow_rewriting"
    ):
        renderer(family)
    some = renderer(family, allow_rewriting_template=True)
    assert [rewrite.turn for rewrite in some.rewrites] == ["a turn that thinks"]
    assert renderer(family, "tags").rewrites == ()


def test_an_empty_thought_put_into_the_prompt_and_dropped_from_history_is_refused() -> None:
    with pytest.raises(ConfigError, match="a plain turn"):
        renderer("qwen3", template_options={"enable_thinking": False})
    some = renderer("qwen3-training", template_options={"enable_thinking": False})
    assert some.rewrites == ()
    assert "<think>\n\n</think>\n\n" in some.tokenizer.decode(some.observation("<tool_response>1</tool_response>", 99).tokens)


def test_what_a_template_tidies_up_is_reported_and_sampled_tokens_stay() -> None:
    spaces = ["a turn that ends in spaces", "a turn that begins with spaces"]
    assert [tidied.turn for tidied in shared("llama3.1").normalises] == spaces
    assert [tidied.turn for tidied in shared("qwen3").normalises] == ["an empty thought"]
    assert shared("qwen2.5").normalises == ()


@pytest.mark.parametrize("family", KEEPING)
def test_templates_that_keep_history_are_not_refused(family: str) -> None:
    some = shared(family)
    assert some.rewrites == ()
    assert isinstance(some, Renderer)
    assert (some._native, some._bridge.role) == ((True, "tool") if family in NATIVE else (False, "user"))
    assert some.calls.name == ("llama3" if family in {"llama3.1", "llama3.2"} else "hermes")


def test_turns_end_with_the_templates_token_the_tokenizers_and_the_models() -> None:
    some = renderer("phi3", stop_tokens=[7])
    end, eos = some.tokenizer.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    assert some.stop_tokens == (end, eos, 7)


def altered(template: str, family: str = "qwen2.5") -> Any:
    tokenizer = chat_tokenizer(FAMILIES[family])
    tokenizer.chat_template = template
    return tokenizer


def test_a_template_that_drops_an_earlier_turn_is_refused() -> None:
    source = family_tokenizer("smollm2").chat_template
    window = source.replace("in messages %}", "in messages[-3:] %}", 1)
    with pytest.raises(ConfigError, match="rewrites earlier turns: a plain turn"):
        ChatRenderer(altered(window), dialect="json")


def test_a_template_without_an_end_of_turn_takes_tags_only() -> None:
    bare = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(ConfigError, match=r"separate turns\. Use dialect='tags'"):
        ChatRenderer(altered(bare), dialect="json")
    some = ChatRenderer(altered(bare), dialect="tags")
    assert some.tokenizer.decode(some.start("Count.", "How many?", [])) == "system: Count.\nuser: How many?\nassistant: "


def test_a_template_that_fails_is_an_error_that_says_so() -> None:
    some = ChatRenderer(altered("{{ raise_exception('never') }}"), dialect="tags")
    with pytest.raises(ConfigError, match="cannot render a prompt"):
        some.start("Count.", "How many?", [])
    with pytest.raises(ConfigError, match="no chat template"):
        ChatRenderer(altered(""))
    with pytest.raises(ConfigError, match="Did you mean 'tags'"):
        ChatRenderer(family_tokenizer("smollm2"), dialect="tag")


@pytest.mark.parametrize(
    ("prompt", "parts"), [("a<think>", ("<think>", "")), ("<think>\n</think>\n", ("", "<think>\n</think>\n"))]
)
def test_thoughts_that_a_prompt_begins(prompt: str, parts: tuple[str, str]) -> None:
    assert thought(prompt) == parts
