"""Demonstrations: from an expert, a file and a run, as tokens that are those a policy would see and write."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_toys import family_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import byte_tokenizer
from rollout_toys import build, node

from algorithms.cli.environments import env_maker
from algorithms.cli.shown import split
from algorithms.models.demonstrations.expert import Demonstration, demonstrations, has_demonstrator
from algorithms.models.demonstrations.kept import best_paths
from algorithms.models.demonstrations.lesson import Lesson, lesson, load_lessons, save_lessons, tree_of
from algorithms.models.demonstrations.messages import read_conversations
from algorithms.policies import Generation, Sampling
from algorithms.recipes import make
from algorithms.rendering.chat import ChatRenderer
from algorithms.rendering.text import TextRenderer
from algorithms.rollout import Limits, Start, collect
from algorithms.tree import Status
from arpo_envs import ConfigError, ToolSpec

SEARCH = ToolSpec("search", "Searches.", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]})

# --- as a tree -----------------------------------------------------------------------------------------------------

MARKED = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=8)
LESSONS = st.lists(MARKED, min_size=1, max_size=7).map(
    lambda some: [Lesson(np.array([t for t, _ in one]), np.array([m for _, m in one])) for one in some]
)


def as_pairs(lessons: list[Lesson]) -> list[list[tuple[int, bool]]]:
    return sorted(list(zip(one.tokens.tolist(), one.action.tolist(), strict=True)) for one in lessons)


@given(LESSONS)
def test_the_paths_of_a_tree_are_the_lessons(lessons: list[Lesson]) -> None:
    tree = tree_of(lessons)
    assert tree.frozen
    paths = [Lesson(np.array(tree.tokens(leaf)), np.array(tree.sampled(leaf))) for leaf in tree.leaves()]
    assert as_pairs(paths) == as_pairs(lessons)
    beginnings = {tuple(pairs[:end]) for pairs in as_pairs(lessons) for end in range(1, len(pairs) + 1)}
    assert sum(len(node.tokens) for node in tree.nodes) == len(beginnings), "what is shared is in it once"
    assert not any(tree.nodes[0].sampled), "a prompt is not written by the demonstrator"


@settings(max_examples=20)
@given(LESSONS)
def test_stored_lessons_are_the_same(tmp_path_factory: pytest.TempPathFactory, lessons: list[Lesson]) -> None:
    file = tmp_path_factory.getbasetemp() / "lessons.npz"
    save_lessons(file, lessons)
    again = load_lessons(file)
    assert [one.tokens.tolist() for one in again] == [one.tokens.tolist() for one in lessons]
    assert [one.action.tolist() for one in again] == [one.action.tolist() for one in lessons]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lessons.npz"
    save_lessons(file, [Lesson(np.arange(3), np.array([False, True, True]))])
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_lessons(file)


@given(LESSONS, st.floats(0.0, 0.9), st.integers(0, 99))
def test_no_question_is_both_learned_and_held_out(lessons: list[Lesson], share: float, seed: int) -> None:
    learned, held_out = split(lessons, share, seed)
    assert as_pairs(learned + held_out) == as_pairs(lessons)
    assert learned
    assert {one.prompt for one in learned}.isdisjoint(one.prompt for one in held_out)
    assert bool(held_out) == (share > 0.0 and len({one.prompt for one in lessons}) > 1)


# --- as a policy would see and write them ---------------------------------------------------------------------------


class Follower:
    """Draws what a lesson says comes next."""

    version, context_length = 0, 4096

    def __init__(self, taught: Lesson, vocabulary_size: int) -> None:
        self.taught, self.vocabulary_size = taught, vocabulary_size

    async def generate(self, context: Any, params: Sampling, **where: Any) -> Generation:
        assert list(context) == self.taught.tokens[: len(context)].tolist(), "the lesson shows what the policy sees"
        following = self.taught.action[len(context) :]
        count = int(np.append(following, False).argmin())
        tokens = tuple(self.taught.tokens[len(context) :][:count].tolist())
        return Generation(tokens, (0.0,) * count, (0.0,) * count, "stop", 0)

    async def load(self, weights: Any, version: int) -> None: ...

    async def close(self) -> None: ...


def chat(name: str, dialect: str) -> ChatRenderer:
    return ChatRenderer(family_tokenizer(name), dialect=dialect)


@pytest.mark.parametrize(
    ("renderer", "dialect"),
    [
        pytest.param(lambda: TextRenderer(byte_tokenizer()), "tags", id="text"),
        pytest.param(lambda: chat("smollm2", "tags"), "tags", id="smollm2, tags"),
        pytest.param(lambda: chat("smollm2", "json"), "json", id="smollm2, json"),
        pytest.param(lambda: chat("qwen2.5-training", "json"), "json", id="qwen2.5, json"),
        pytest.param(lambda: chat("llama3.2", "json"), "json", id="llama3.2, json"),
    ],
)
def test_a_lesson_is_what_a_rollout_of_the_same_actions_holds(renderer: Any, dialect: str) -> None:
    made, make_env = renderer(), env_maker("ARPO/SearchMini-v0", {"hops": 2, "dialect": dialect, "cities_per_country": 3})
    (shown,) = demonstrations(make_env, 1, seed=3, perfect=True)
    taught = lesson(shown, made)
    seeds = (seed for seed in range(5000) if make_env().reset(seed=seed)[0] == shown.question)
    start = Start(next(seeds))
    policy, limits = Follower(taught, len(made.tokenizer)), Limits(action_tokens=400)
    (tree,) = asyncio.run(collect(make_env, [start], policy, made, make("grpo", rollouts=2), seed=0, limits=limits))
    assert len([one for one in tree.nodes if one.tool]) == 2 * 2
    for leaf in tree.leaves():
        assert (tree.nodes[leaf].status, tree.nodes[leaf].success) == (Status.ANSWERED, 1.0)
        assert tree.tokens(leaf) == taught.tokens.tolist()
        assert tree.sampled(leaf) == taught.action.tolist()


def test_a_turn_ends_where_no_stop_string_ends_it() -> None:
    made = chat("smollm2", "json")
    end = made.stop_tokens[0]
    assert made.written("Paris")[-1] == end
    assert made.written('<tool_call>{"name": "search", "arguments": {}}</tool_call>')[-1] != end
    assert TextRenderer(byte_tokenizer()).written("<answer>Paris</answer>")[-1] != byte_tokenizer().eos_token_id
    assert end not in made.written("a<|im_end|>b")[:-1], "what a demonstrator wrote holds no control token"


def test_questions_from_a_file_have_no_expert(tmp_path: Path) -> None:
    assert has_demonstrator(env_maker("ARPO/SearchMini-v0", {}))
    file = written(tmp_path / "tasks.jsonl", {"question": "Where is Köln?", "answers": ["Germany"]})
    assert not has_demonstrator(env_maker("ARPO/Search-v0", {"tasks": str(file), "cities_per_country": 3}))


# --- from a file -----------------------------------------------------------------------------------------------------


def message(role: str, content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


GOOD = [message("system", "Be brief."), message("user", "Where is Köln?"), message("assistant", "<answer>Germany</answer>")]


def written(file: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_a_conversation_is_a_demonstration(tmp_path: Path) -> None:
    asked = [message("user", "Where is Köln?"), message("assistant", "<search>Köln</search>")]
    answered = message("assistant", "<answer>Germany</answer>")
    rows = [
        {"messages": [*asked, message("tool", "In <answer>Germany"), answered]},
        "",
        {"messages": [*asked, message("tool", "<result>In Germany</result>"), answered, message("user", "Sure?"), answered]},
        {"messages": GOOD},
    ]
    found = read_conversations(written(tmp_path / "some.jsonl", *rows), "tags")
    first, second, third = found.shown
    assert first == Demonstration(
        "",
        "Where is Köln?",
        (("<search>Köln</search>", "<result>In [answer]Germany</result>"), ("<answer>Germany</answer>", "")),
    )
    assert second.turns[0][1] == "<result>In Germany</result>", "it is not wrapped twice"
    assert second.turns[1] == ("<answer>Germany</answer>", "Sure?")
    assert (third.instructions, third.question, len(third.turns)) == ("Be brief.", "Where is Köln?", 1)
    assert found.malformed == ()


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("tags", "Hm. <search>Köln</search>"),
        ("json", 'Hm. <tool_call>{"name": "search", "arguments": {"query": "Köln"}}</tool_call>'),
    ],
)
@pytest.mark.parametrize("arguments", [{"query": "Köln"}, '{"query": "Köln"}'])
def test_tool_calls_are_written_in_the_dialect(dialect: str, expected: str, arguments: Any, tmp_path: Path) -> None:
    turns = [message("assistant", "Hm. ", tool_calls=[call("search", arguments)]), message("tool"), message("assistant")]
    row = {"messages": [message("user"), *turns], "tools": [SEARCH.function()]}
    ((shown,), _) = read_conversations(written(tmp_path / "some.jsonl", row), dialect)
    assert shown.turns[0][0] == expected
    assert shown.tools == (SEARCH,)


USER, SAYS = message("user"), message("assistant")


def calls(*called: Any) -> dict[str, Any]:
    """A conversation of a question and some calls."""
    return {"messages": [USER, message("assistant", None, tool_calls=list(called))]}


def tool(parameters: Any, name: str = "find") -> dict[str, Any]:
    """A description of a tool."""
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


MALFORMED = {
    "it is not JSON": "{",
    'expected an object with "messages"': [1],
    'expected an object with "messages", a list': {"messages": []},
    "message 1 has the role 'robot'; expected one of system, user, assistant, tool": {"messages": [message("robot")]},
    "message 1 has the role None": {"messages": ["hello"]},
    "message 2 has no text: its content is list": {"messages": [USER, message("assistant", [])]},
    "message 2 is empty": {"messages": [USER, message("assistant", " ")]},
    "message 1 is the assistant's; expected the user's here": {"messages": [SAYS]},
    "message 3 is the assistant's; expected the tool's or the user's here": {"messages": [USER, SAYS, SAYS]},
    "message 3 is the system's": {"messages": [GOOD[0], USER, GOOD[0], SAYS]},
    "the last message is not the assistant's": {"messages": [USER, SAYS, message("tool")]},
    "message 2 has several tool calls": calls(1, 2),
    "'find' is not described in \"tools\"": calls(call("find", {"query": "x"})),
    "message 2: its call has no arguments": calls({"function": {"name": "x"}}),
    "the arguments of its call are not an object": calls(call("find", "[")),
    'its "tool_calls" are dict, not a list': {"messages": [USER, message("assistant", None, tool_calls={"name": "x"})]},
    'message 2: its call has no "function"': calls("find"),
    "the name of its call is None": calls({"function": {"arguments": {}}}),
    "the name of its call is ['find']": calls({"function": {"name": ["find"], "arguments": {}}}),
    "are not an object, and not JSON (Expecting": calls(call("find", "{query: 1}")),
    "are not an object: [1]": calls(call("find", [1])),
    "are not an object: None": calls(call("find", None)),
    '"tools" has an entry without a name': {"messages": GOOD, "tools": [{}]},
    "\"tools\": the parameters of 'find' are not a JSON schema": {"messages": GOOD, "tools": [tool(["query"])]},
    "\"tools\": the parameters of 'search' are not": {**calls(call("search", {})), "tools": [tool({"required": 1}, "search")]},
    "\"tools\": the parameters of 'read' are not": {"messages": GOOD, "tools": [tool({"required": [[]]}, "read")]},
    "\"tools\": the parameters of 'list' are not": {"messages": GOOD, "tools": [tool({"properties": {"x": 1}}, "list")]},
}


@pytest.mark.parametrize(("reason", "row"), MALFORMED.items(), ids=MALFORMED)
def test_a_malformed_row_is_reported_with_file_line_and_reason(reason: str, row: Any, tmp_path: Path) -> None:
    file = written(tmp_path / "some.jsonl", {"messages": GOOD}, "", row)
    with pytest.raises(ConfigError) as refused:
        read_conversations(file, "tags")
    assert f"{file}, line 3: " in str(refused.value)
    assert reason in str(refused.value)
    assert "--skip-malformed" in str(refused.value)
    found = read_conversations(file, "tags", skip_malformed=True)
    assert len(found.shown) == len(found.malformed) == 1


@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_whatever_a_row_holds_it_is_a_demonstration_or_malformed(dialect: str, tmp_path: Path) -> None:
    turns = [message("assistant", "", tool_calls=[call("search", {"query": "x"})]), message("tool"), message("assistant")]
    row = {"messages": [message("user"), *turns], "tools": [SEARCH.function()]}
    spoilt = [
        put(row, place, value) for place in places(row) if place for value in (None, 1, True, "x", "[1]", [], [{}], {"a": []})
    ]
    found = read_conversations(written(tmp_path / "some.jsonl", row, *spoilt), dialect, skip_malformed=True)
    assert len(found.shown) + len(found.malformed) == 1 + len(spoilt)
    assert found.malformed


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Yields where values are in JSON."""
    yield ()
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from ((key, *rest) for rest in places(value[key]))


def put(value: Any, place: Sequence[Any], new: Any) -> Any:
    """Returns JSON with another value at a place."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = put(value[place[0]], place[1:], new)
    return copy


def test_a_file_without_demonstrations_is_refused(tmp_path: Path) -> None:
    for rows, reason in ((["{"] * 7, "and 2 more"), ([""], "has no rows")):
        with pytest.raises(ConfigError, match=reason):
            read_conversations(written(tmp_path / "some.jsonl", *rows), "tags", skip_malformed=True)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_conversations(tmp_path / "none.jsonl", "tags")


# --- from a run ------------------------------------------------------------------------------------------------------


def test_the_best_paths_of_a_run_are_lessons() -> None:
    tree = build(
        node((), -1, [1, 2]),
        node((0,), 0, [3], reward=0.0),
        node((0, 0), 1, [4, 5], kind="observation"),
        node((0, 0, 0), 2, [6], reward=1.0, status=Status.ANSWERED),
        node((0, 0, 1), 2, [7], reward=0.5, status=Status.ANSWERED),
        node((1,), 0, [8], reward=1.0, status=Status.TOOL_FAULT),
    )
    (best,) = best_paths([tree], 1.0)
    assert best.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert best.action.tolist() == [False, False, True, False, False, True]
    assert len(best_paths([tree], 0.5)) == 2
    with pytest.raises(ConfigError, match=r"earned 1 at most. Lower --min-reward"):
        best_paths([tree], 2.0)
    with pytest.raises(ConfigError, match="has no paths that came to an end"):
        best_paths([], 0.0)
