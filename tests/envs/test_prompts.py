"""Published prompts are published to the letter; with any other tools, what they show is what the environment reads."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs import Call, ConfigError, ToolSpec, find_prompt, make_dialect
from arpo_envs.prompts import PROMPTS

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NUMBERS = {"type": "object", "properties": {"id": {"type": "integer"}, "line": {"type": "integer"}}, "required": ["id"]}

SEARCH = (
    "You are a helpful assistant that can solve the given question step by step with the help of the wikipedia search tool. "
    "Given a question, you need to first think about the reasoning process in the mind and then provide the answer. "
    "During thinking, you can invoke the wikipedia search tool to search for fact information about specific topics if needed. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags respectively, "
    "and the search query and result are enclosed within <search> </search> and <result> </result> tags respectively. "
    "For example, <think> This is the reasoning process. </think> <search> search query here </search> <result> search result "
    "here </result> <think> This is the reasoning process. </think> "
    r"<answer> The final answer is \[ \boxed{answer here} \] </answer>. "
    r"In the last part of the answer, the final exact answer is enclosed within \boxed{} with latex format."
)
BOTH = (
    "You are a helpful assistant that can solve the given question step by step with the help of the wikipedia search tool and "
    "python interpreter tool. "
    "Given a question, you need to first think about the reasoning process in the mind and then provide the answer. "
    "During thinking, you can invoke the wikipedia search tool to search and python interpreter tool to calculate the math "
    "problem for fact information about specific topics if needed. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags respectively, "
    "and the search query and result are enclosed within <search> </search> and <result> </result> tags respectively. "
    "For example, <think> This is the reasoning process. </think> <search> search query here </search> <result> search result "
    "here </result> <think> This is the reasoning process. </think> <python> python code here </python> <result> python "
    "interpreter result here </result> <think> This is the reasoning process. </think> "
    r"<answer> The final answer is \[ \boxed{answer here} \] </answer>. "
    r"In the last part of the answer, the final exact answer is enclosed within \boxed{} with latex format."
)
PYTHON = (
    "You are a helpful assistant that can solve the given question step by step with the help of the python interpreter tool. "
    "Given a question, you need to first think about the reasoning process in the mind and then provide the answer. "
    "During thinking, you can invoke the python interpreter tool to calculate the math problem for fact information about "
    "specific topics if needed. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags respectively. "
    "For example, <think> This is the reasoning process. </think> <python> python code here </python> <result> python "
    "interpreter result here </result> <think> This is the reasoning process. </think> "
    r"<answer> The final answer is \[ \boxed{answer here} \] </answer>. "
    r"In the last part of the answer, the final exact answer is enclosed within \boxed{} with latex format."
)
NOTHING = (
    "You are a helpful assistant that can solve the given question step by step. "
    "Given a question, you need to first think about the reasoning process in the mind and then provide the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags respectively. "
    r"For example, <think> This is the reasoning process. </think> <answer> The final answer is \[ \boxed{answer here} \] "
    r"</answer>. In the last part of the answer, the final exact answer is enclosed within \boxed{} with latex format."
)
SEARCH_R1 = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <information> and </information>. You can search as many "
    "times as your want. If you find no further external knowledge needed, you can directly provide the answer inside <answer> "
    "and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>."
)


def tool(name: str, parameters: object = TEXT) -> ToolSpec:
    return ToolSpec(name, f"What {name} does.", parameters)  # type: ignore[arg-type]


def written(prompt: str, *specs: ToolSpec, dialect: str = "tags") -> str:
    return find_prompt(prompt).write("Own words.", make_dialect(dialect, specs), specs)


@pytest.mark.parametrize(
    ("tools", "text"), [(("search",), SEARCH), (("search", "python"), BOTH), (("python",), PYTHON), ((), NOTHING)]
)
def test_the_papers_prompt_is_theirs_to_the_letter(tools: tuple[str, ...], text: str) -> None:
    assert written("paper", *map(tool, tools)) == text


def test_search_r1s_prompt_is_theirs_but_for_the_tag_of_results() -> None:
    theirs = SEARCH_R1.replace("<information>", "<result>").replace("</information>", "</result>")
    assert written("search-r1", tool("search")) == theirs


@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_ours_is_what_the_environment_says(dialect: str) -> None:
    assert written("ours", tool("search"), dialect=dialect) == "Own words."


NAMES = st.from_regex(r"[a-z]{3,8}(\.[a-z]{3,8})?", fullmatch=True).filter(
    lambda name: name not in {"search", "python", "answer", "think", "result"}
)
SPECS = st.lists(st.builds(tool, NAMES, st.sampled_from([TEXT, NUMBERS])), max_size=3, unique_by=lambda spec: spec.name)


@given(SPECS, st.booleans())
def test_every_call_that_a_prompt_shows_is_one_that_the_environment_runs(others: list[ToolSpec], has_search: bool) -> None:
    specs = [*([tool("search")] if has_search else []), *others]
    dialect = make_dialect("tags", specs)
    text = written("paper", *specs)
    example = text.partition("For example,")[2]
    for spec in specs:
        shown = re.findall(rf"<{re.escape(spec.name)}> .*? </{re.escape(spec.name)}>", example)
        assert shown
        for call in shown:
            assert isinstance(found := dialect.parse(call), Call)
            assert found.tool == spec.name
    for spec in others:
        assert f"What {spec.name} does." in text, "a tool that the paper does not have is explained"


@given(SPECS)
def test_search_r1_explains_other_tools_and_needs_its_own(others: list[ToolSpec]) -> None:
    text = written("search-r1", tool("search"), *others)
    assert all(f"What {spec.name} does." in text for spec in others)
    with pytest.raises(ConfigError, match="is about a tool called search"):
        written("search-r1", *others)


@pytest.mark.parametrize("name", sorted(PROMPTS.keys() - {"ours"}))
def test_a_prompt_about_tags_is_refused_for_json_with_what_to_do(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*as tags.*reads 'json'.*dialect=tags, or choose the prompt 'ours'"):
        written(name, tool("search"), dialect="json")


def test_sources_are_named() -> None:
    assert all(prompt.source for prompt in PROMPTS.values())
