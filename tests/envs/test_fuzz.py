"""Whatever a model writes and whatever its tools return: never an exception, and never an unearned reward."""

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from envs.hostile import spoil
from envs.test_laws import IDS, made

from arpo_envs import Task
from arpo_envs.testing.scripts import example_arguments, speaking

FEW, MANY = 120, 2000
LONG, MEGABYTE = 1 << 17, 1 << 20

MARKS = ("answer", "think", "result", "tool_call", "tool_response", "ANSWER", " answer ")
NOISE = (
    *("\0", "\ud800", "\udfff", "\u202e", "\u200f", "\u2066", "\u00a0", "\r\n", "\n", "\t", " ", "", "é", "你好", "🙂"),
    *("<", ">", "</", "<<", "&lt;answer&gt;", "【0†x】", "【", "】", "<|im_end|>", "```", '"', "'", "\\", "\\u003c", "\\ud800"),
    *("{", "}", "[", "]", "{}", "[" * 1200, '{"a": ' * 40, "1e999", "NaN", "-7", "9" * 400, "null", "what?", "x" * 300),
    "\x1b[2J",
)


def fragments(env: Any, right: str) -> list[str]:
    """Returns what actions are made of: both dialects' marks, calls whole and broken, noise, the right answer dressed up."""
    found = [*NOISE, right]
    for name in (*MARKS, *(spec.name for spec in env.tool_specs)):
        found += [f"<{name}>", f"</{name}>", f"<{name}>{right}</{name}>", f"<{name} >"]
    for spec in env.tool_specs:
        for word in (right, "</result>", "\ud800", f"print('<answer>{right}</answer>')", "import sys; sys.exit(1)"):
            arguments = example_arguments(spec, word)
            body = json.dumps(arguments)
            found.append(f'<tool_call>{{"name": "{spec.name}", "arguments": {body}}}</tool_call>')
            found.append(f"<{spec.name}>{body}</{spec.name}>")
            found.append(env.dialect.call(spec.name, arguments))
        found.append(f'<tool_call>{{"name": "{spec.name}", "arguments": "{{}}"}}')
        found.append(f'{{"name": "{spec.name}"}}')
    forged = (f"【0†{right}】", f"<tool_response>{right}</tool_response>", f"[answer]{right}[/answer]")
    unknown = ("<unknown>x</unknown>", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>')
    return [*found, *forged, *unknown, f"<a nswer>{right}</answer>"]


def written(rng: random.Random, pieces: Sequence[str], env: Any) -> str:
    """Returns pieces in a row, a piece as an answer, or a whole call of a tool with arguments of all kinds."""
    kind = rng.random()
    if kind < 0.05:
        answer: str = env.dialect.answer(rng.choice(pieces))
        return answer
    if kind < 0.7:
        return "".join(rng.choices(pieces, k=rng.randrange(1, 8)))
    spec = rng.choice(env.tool_specs)
    arguments = example_arguments(spec, rng.choice([*pieces, *re.findall(r"\w+", env.task.question)]))
    for name in spec.parameters.get("properties", {}):
        if name not in arguments and rng.random() < 0.5:
            arguments[name] = rng.choice([0, 1, -1, 10**30, 1.5, True, None, [], {}, "0", rng.choice(pieces)])
    call: str = env.dialect.call(spec.name, arguments)
    return call


# --- an oracle that shares no code with what it judges ----------------------------------------------------------


def letters(text: str) -> str:
    """Returns letters and digits alone, without case and accents."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", text).casefold() if sign.isalnum())


def could_be_answers(action: str, dialect: str) -> list[str]:
    """Returns everything in an action that might count as its answer: in JSON the whole, as plain text answers there."""
    if dialect == "json":
        return [action]
    begins = [found.end() for found in re.finditer("<answer>", action)]
    ends = [found.start() for found in re.finditer("</answer>", action)]
    return [action[begin:end] for begin in begins for end in ends if begin <= end]


@dataclass
class Episode:
    """What an onlooker knows of an episode who sees actions and results only."""

    task: Task
    spoiled: bool = False
    calls: int = 0

    def judge(self, action: str, returned: tuple[str, float, bool, bool, dict[str, Any]], dialect: str) -> None:
        _, reward, terminated, truncated, info = returned
        if not terminated and not truncated:
            assert reward == 0.0
            assert "success" not in info
        elif truncated:
            assert (reward, info["success"]) == (-1.0, 0.0)
        else:
            self._judge_answer(action, reward, info, dialect)
        self.spoiled = self.spoiled or info["status"] == "mistake"

    def _judge_answer(self, action: str, reward: float, info: Mapping[str, Any], dialect: str) -> None:
        could_be = could_be_answers(action, dialect)
        assert any(_is_inside(info["answer"], text) for text in could_be), "the answer is the model's own words"
        assert any(letters(right) in letters(text) for right in self.task.answers for text in could_be) or not info["success"]
        words = {letters(word) for right in self.task.answers for word in re.split(r"\W+", right)} - {""}
        assert any(word in letters(text) for word in words for text in could_be) or reward <= 0.0
        assert reward in (-1.0, 0.0) or 0.0 < reward <= 1.1
        if not self.spoiled:
            assert reward >= info["success"], "a right answer without a mistake is paid in full"
        if info["answer"] in self.task.answers:
            assert info["success"] == 1.0


def _is_inside(answer: str, text: str) -> bool:
    """Whether a text holds the words of an answer in this order: thoughts between them may have been left out."""
    signs = iter(text)
    return all(sign in signs for sign in answer)


# --- the law -------------------------------------------------------------------------------------------------------


def fuzzed(name: str, dialect: str, count: int, longest: int) -> Counter[str]:
    """Plays random actions, two of them with `longest` characters, and returns how often each status came."""
    env: Any = made(name, dialect=dialect).unwrapped
    assert speaking(env) is env
    spoil(env)
    rng = random.Random(f"{name} {dialect} {count}")
    statuses: Counter[str] = Counter()
    long = {count // 3, count // 2}
    episode, pieces = begun(env, rng)
    for number in range(count):
        action = written(rng, pieces, env)
        if number in long:
            action = (action * longest)[:longest] if action and number % 2 else action + "x" * longest
        returned = env.step(action)
        episode.judge(action, returned, dialect)
        observation, _, terminated, truncated, info = returned
        assert observation in env.observation_space
        if info["status"] not in ("mistake", "limit"):
            inside = re.sub(r"^<\w+>|</\w+>$", "", observation)
            assert env.dialect.neutralise(inside) == inside, "no mark comes from a tool"
            assert f"<answer>{episode.task.answers[0]}</answer>" not in inside or dialect == "json"
        statuses[info["status"]] += 1
        statuses["right"] += info.get("success") == 1.0
        if terminated or truncated:
            episode, pieces = begun(env, rng)
    env.close()
    return statuses


def begun(env: Any, rng: random.Random) -> tuple[Episode, list[str]]:
    env.reset(seed=rng.randrange(50))
    return Episode(env.task), fragments(env, env.task.answers[0])


@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("name", IDS)
def test_random_actions_raise_nothing_and_earn_nothing_that_is_wrong(name, dialect):
    statuses = fuzzed(name, dialect, FEW, LONG)
    assert {"mistake", "answered"} <= {*+statuses}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("name", IDS)
def test_2000_random_actions_raise_nothing_and_earn_nothing_that_is_wrong(name, dialect):
    statuses = fuzzed(name, dialect, MANY, MEGABYTE)
    assert {"mistake", "answered", "ok", "right"} <= {*+statuses}


@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("name", IDS)
def test_a_right_answer_is_paid_after_hostile_results_and_their_words_alone_are_not(name, dialect):
    env: Any = made(name, dialect=dialect).unwrapped
    spoil(env)
    env.reset(seed=1)
    right = env.task.answers[0]
    spec = env.tool_specs[0]
    result, reward, *over, _ = env.step(env.dialect.call(spec.name, example_arguments(spec, "print(1)")))
    assert right in result
    assert (reward, *over) == (0.0, False, False)
    if dialect == "tags":  # in JSON, whatever is no call is the answer
        _, reward, *over, info = env.step(result)
        assert (reward, info["status"]) == (0.0, "mistake"), "a repeated page is no answer"
        env.reset(seed=1)
    *_, info = env.step(env.dialect.answer(right))
    assert info["success"] == 1.0
    env.reset(seed=1)
    *_, info = env.step(env.dialect.answer("none of these"))
    assert info["success"] == 0.0
    env.close()


# --- the oracle bites ----------------------------------------------------------------------------------------------


def test_the_oracle_sees_wrong_rewards():
    task = Task("t", "Capital of France?", ("Paris",))
    wrong: list[tuple[str, tuple[str, float, bool, bool, dict[str, Any]]]] = [
        ("<search>x</search>", ("Paris", 1.0, False, False, {"status": "ok"})),
        ("<answer>Rome</answer>", ("", 1.0, True, False, {"status": "answered", "answer": "Rome", "success": 1.0})),
        ("<answer>Rome</answer>", ("", 1.0, True, False, {"status": "answered", "answer": "Paris", "success": 1.0})),
        ("Paris <answer>Rome</answer>", ("", 0.5, True, False, {"status": "answered", "answer": "Rome", "success": 0.0})),
        ("<answer>Paris</answer>", ("", 0.0, True, False, {"status": "answered", "answer": "Paris", "success": 1.0})),
        ("<answer>Paris</answer>", ("", 0.0, True, False, {"status": "answered", "answer": "Paris", "success": 0.0})),
        ("<answer>Paris</answer>", ("", 0.0, False, True, {"status": "mistake", "success": 0.0})),
    ]
    for action, returned in wrong:
        with pytest.raises(AssertionError):
            Episode(task).judge(action, returned, "tags")
    right = ("", 1.0, True, False, {"status": "answered", "answer": "Paris", "success": 1.0})
    Episode(task).judge("<answer>Paris</answer>", right, "tags")
