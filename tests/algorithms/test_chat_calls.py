"""Calls in a model's own format: what the environment is told, and that nothing a model writes can break it."""

from typing import Any

import pytest
from chat_toys import FAMILIES, chat_tokenizer, family_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rollout_toys import COUNT, CountEnv, CountTool, Plan, grow, statuses

from algorithms.policies import Generation, Sampling
from algorithms.rendering.chat import ChatRenderer
from algorithms.rendering.chat.calls import HERMES, LLAMA3, native_format
from algorithms.rendering.chat.template import ChatTemplate
from algorithms.tree import Status
from arpo_envs.dialects import Answer, Call, Mistake, make_dialect

JSON = make_dialect("json", [COUNT])
TEXTS = st.text(max_size=40).filter(str.strip)


@pytest.mark.parametrize("calls", [HERMES, LLAMA3], ids=lambda calls: calls.name)
@given(text=TEXTS)
@example(text="</tool_call>")
@example(text="s = '<think>a</think>b'")
@example(text="</think><tool_call>{}</tool_call>")
@settings(max_examples=60, deadline=None)
def test_a_call_is_understood_whatever_its_argument_holds(calls: Any, text: str) -> None:
    parsed = JSON.parse(calls.to_dialect(calls.call("count", {"text": text})))
    assert parsed == Call("count", {"text": text.encode("utf-8", "replace").decode("utf-8")})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "count", "parameters": {"text": "x"}}', Call("count", {"text": "x"})),
        ('{"name": "count", "arguments": {"text": "x"}}', Call("count", {"text": "x"})),
        ('{"type": "function", "name": "count", "parameters": {"text": "x"}}', Call("count", {"text": "x"})),
        ('I count.\n{"name": "count", "parameters": {"text": "</tool_call>"}} Done.', Call("count", {"text": "</tool_call>"})),
        ('<think>{"name": 1}</think>\n\n{"name": "count", "parameters": {"text": "x"}}', Call("count", {"text": "x"})),
        ('<tool_call>{"name": "count", "arguments": {"text": "x"}}</tool_call>', Call("count", {"text": "x"})),
        ('{"name": "count", "parameters": {"text": "a\nb"}}', Call("count", {"text": "a\nb"})),
        ('{"name": "count", "parameters": {"text": "</think>"}}', Call("count", {"text": "</think>"})),
        ('{"name": "count", "parameters": {"text": "<tool_call>"}}', Call("count", {"text": "<tool_call>"})),
        (
            '{"name": "count", "parameters": {"text": "<think>a</think>b"}}',
            Call("count", {"text": "<think>a</think>b"}),
        ),
        ('I say {"name": …} first.</think>{"name": "count", "parameters": {"text": "x"}}', Call("count", {"text": "x"})),
        (
            'First {"name": "count", "parameters": {"text": "y"}}.</think>{"name": "count", "parameters": {"text": "x"}}',
            Call("count", {"text": "x"}),
        ),
        ('Or <tool_call>?</think>{"name": "count", "parameters": {"text": "x"}}', Call("count", {"text": "x"})),
        ('<tool_call>{"arguments": {"text": "x"}, "name": "count"}</tool_call>', Call("count", {"text": "x"})),
        ("It is 49.", Answer("It is 49.")),
        ('The set {"a": 1} has one member.', Answer('The set {"a": 1} has one member.')),
        ('{"name": "count", "parameters": {"text": "x"}', Mistake),
        ('{"name": "count", "parameters": ["x"]}', Mistake),
        ('{"name": "cuont", "parameters": {"text": "x"}}', Mistake),
        ('{"name": ["count"], "parameters": {}}', Mistake),
        ('{"name":' * 100_000, Mistake),
        ('{"name":' * 100_000 + "</think>1", Answer("1")),
    ],
)
def test_what_llama_writes(text: str, expected: Any) -> None:
    parsed = JSON.parse(LLAMA3.to_dialect(text))
    assert isinstance(parsed, Mistake) if expected is Mistake else parsed == expected


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_text_of_a_model_raises(text: str) -> None:
    for hostile in (text, '{"name": "count"' + text, '{"name": "count", "parameters": {"text": "' + text):
        JSON.parse(LLAMA3.to_dialect(hostile))


def test_formats_are_seen_from_what_templates_render() -> None:
    names = {family: native_format(ChatTemplate(family_tokenizer(family), {})) for family in FAMILIES}
    assert {family for family, calls in names.items() if calls is LLAMA3} == {"llama3.1", "llama3.2"}
    hermes = {name for name in FAMILIES if "qwen" in name} - {"qwen3.5", "qwen3.5-training"}  # those write XML
    assert {family for family, calls in names.items() if calls is HERMES} == hermes
    tokenizer = chat_tokenizer(FAMILIES["qwen2.5"])
    tokenizer.chat_template = tokenizer.chat_template.replace('{"name": "', '{"function": "')
    assert native_format(ChatTemplate(tokenizer, {})) is None, "takes tools, and writes calls in a way nobody here knows"


# --- in a rollout ---------------------------------------------------------------------------------------------


class Says:
    """Calls once in Llama's format, then answers; a turn ends with a drawn token, or at the limit of the action."""

    version, context_length, vocabulary_size = 0, 4096, 600

    def __init__(self, some: ChatRenderer, *, ends: bool) -> None:
        self.some, self.ends = some, ends

    async def generate(self, context: Any, params: Sampling, **rest: Any) -> Generation:
        answers = "1 of" in self.some.text(context)
        text = "1" if answers else self.some.calls.call("count", {"text": "x"})
        tokens = tuple(self.some.tokenizer.encode(text, add_special_tokens=False))
        tokens += (params.stop_tokens[0],) if self.ends else ()
        return Generation(tokens, (-1.0,) * len(tokens), (1.0,) * len(tokens), "stop", 0)

    async def load(self, weights: Any, version: int) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("family", ["llama3.1", "qwen2.5", "llama3", "gemma"])
def test_a_rollout_in_the_models_own_format(family: str, ends: bool) -> None:
    """Tokens are what was drawn and the bridge; a turn's end is forced, and not sampled, where the model did not draw it."""
    some = ChatRenderer(family_tokenizer(family), dialect="json")
    tool = CountTool()
    (tree,) = grow(tool, Plan(rollouts=1), Says(some, ends=ends), env=lambda: CountEnv(tool, dialect="json"), renderer=some)  # type: ignore[arg-type]
    assert statuses(tree) == [Status.ANSWERED]
    assert [tree.total_reward(leaf) for leaf in tree.leaves()] == [1.0]
    action, observation, answer = tree.nodes[1:]
    assert action.text == some.calls.call("count", {"text": "x"}), "the tree keeps what the model wrote"
    assert all(action.sampled)
    assert not any(observation.sampled)
    end = some.stop_tokens[0]
    assert (action.tokens[-1] == end) == ends
    assert (observation.tokens[0] == end) != ends, "a turn ends once"
    assert "1 of x" in some.tokenizer.decode(observation.tokens)
    assert answer.text == "1"
