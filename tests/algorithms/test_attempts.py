"""Answers as records: what they say of a rollout, their file and how it is continued, what they come to, and comparisons."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_toys import CountEnv, CountTool, results, varied

from algorithms.cli.graded import Grader
from algorithms.evaluation import (
    Attempt,
    AttemptFile,
    Graded,
    Prices,
    ask,
    attempts_of,
    compared,
    estimates,
    read_attempts,
    wilson,
)
from algorithms.metrics import summarise
from algorithms.policies.scripted import Script, ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Collected, Limits, Start
from arpo_envs import ConfigError

STARTS = [Start(seed) for seed in range(7)]
PLAIN = Attempt(0, 0, "q0", "", "answered", 1.0, 1.0, "Paris", {"em": 1.0, "f1": 1.0}, {}, 1, 2, 9, 0, False)
SETTINGS = {"seed": 1, "env": "toy", "args": ["split=test"]}


def asked(script: Script = varied, *, first: int = 0, count: int = 7, samples: int = 3, **tool: Any) -> Collected:
    starts, env = STARTS[first : first + count], CountTool(**tool)
    policy: Any = ScriptedPolicy(script)
    return asyncio.run(
        ask(lambda: CountEnv(env), starts, policy, ScriptedRenderer(), seed=5, first=first, limits=Limits(), samples=samples)
    )


def attempt(question: int, sample: int, success: float | None, **fields: Any) -> Attempt:
    scores = {} if success is None else {"em": success, "f1": success}
    fields = {"id": f"q{question}", "scores": scores, "reward": success} | fields
    return replace(PLAIN, question=question, sample=sample, success=success, **fields)


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_what_is_read_is_the_context_of_each_action() -> None:
    """The prompt, then the prompt with the first action and its result, and so on."""
    trees = asked(samples=1).trees
    for tree, one in zip(trees, attempts_of(trees), strict=True):
        (leaf,) = tree.leaves()
        first = [
            at
            for at, (is_drawn, was) in enumerate(zip(tree.sampled(leaf), [False, *tree.sampled(leaf)], strict=False))
            if is_drawn and not was
        ]
        assert len(first) == one.turns
        assert one.read_tokens == sum(first)


def test_prices_are_for_a_million_tokens_and_for_a_call() -> None:
    some = [
        replace(PLAIN, read_tokens=1_000_000, tokens=500_000, tool_calls=3),
        replace(PLAIN, read_tokens=0, tokens=0, tool_calls=1),
    ]
    assert Prices(read=0.5, sampled=4.0, call=0.25).of(some) == 0.5 + 2.0 + 1.0
    old = Attempt.read(json.dumps({name: value for name, value in json.loads(PLAIN.line()).items() if name != "read_tokens"}))
    assert old == PLAIN
    assert Prices(sampled=1.0).of([old]) == 9e-6
    with pytest.raises(ConfigError, match="before read tokens were counted"):
        Prices(read=1.0).of([old])
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="The price call must be"):
            Prices(call=wrong)


# --- what a record says -----------------------------------------------------------------------------------------------


def test_records_say_what_the_trees_say() -> None:
    found = asked()
    attempts = attempts_of(found.trees)
    assert [(one.question, one.sample) for one in attempts] == [(q, s) for q in range(7) for s in range(3)]
    whole = summarise(found.trees)
    assert sum(one.tool_calls for one in attempts) == whole["executed_tool_calls_per_prompt"] * 7
    assert sum(one.tokens for one in attempts) == whole["sampled_tokens"]
    assert {one.turns - one.tool_calls for one in attempts} == {1}, "the last action of each path is no call"
    result = estimates(attempts)
    assert result["success"].mean == pytest.approx(whole["success"])
    assert result["reward"].mean == pytest.approx(whole["reward"])
    assert result["tool_calls_per_rollout"].mean == pytest.approx(whole["executed_tool_calls_per_prompt"] / 3)


def test_mistakes_and_cuts_are_counted() -> None:
    (first, *_) = attempts_of(asked(lambda before, seed: "<nothing>x</nothing>", count=1, samples=1).trees)
    assert (first.status, first.truncated, first.success, first.answer) == ("stalled", True, 0.0, None)
    assert first.malformed == first.turns > 1
    assert first.tool_calls == 0


def test_what_failed_through_no_fault_of_the_model_counts_nowhere() -> None:
    def hook(history: tuple[str, ...]) -> None:
        if history[0] == "down":
            raise OSError("no network")

    def script(before: str, seed: int) -> str:
        return "<answer>1</answer>" if results(before) else f"<count>{'down' if seed % 2 else 'up'}</count>"

    attempts = attempts_of(asked(script, hook=hook).trees)
    lost = [one for one in attempts if not one.counts]
    assert 0 < len(lost) < 21
    assert {(one.status, one.success, one.reward) for one in lost} == {("tool_fault", None, None)}
    assert estimates(attempts)["success"].mean == 1.0
    assert estimates(lost) == {}


@pytest.mark.parametrize("first", [1, 3])
def test_a_part_of_an_evaluation_draws_what_the_whole_draws(first: int) -> None:
    whole = attempts_of(asked().trees)
    part = attempts_of(asked(first=first, count=2).trees, first=first)
    assert part == [one for one in whole if first <= one.question < first + 2]


def test_more_samples_begin_with_the_same_ones() -> None:
    more, fewer = (attempts_of(asked(samples=samples).trees) for samples in (4, 2))
    assert [one for one in more if one.sample < 2] == fewer


def test_answers_are_graded_by_their_text() -> None:
    def script(before: str, seed: int) -> str:
        return ("<answer> The 1.</answer>", "<answer>1 or 2</answer>")[seed % 2]

    env = CountTool()
    grade = Grader.of(lambda: CountEnv(env), ScriptedRenderer(), "hotpotqa")
    trees = asked(script).trees + asked(lambda before, seed: "<nothing>1</nothing>").trees
    found = {(one.answer, one.scores["em"], one.scores["f1"]) for one in attempts_of(trees, grade)}
    assert found == {("The 1.", 1.0, 1.0), ("1 or 2", 0.0, 0.5), (None, 0.0, 0.0)}
    for unknown in ({"tasks": None}, {"dialect": None}):  # which answers are accepted, and which text is one
        assert replace(grade, **unknown)(asked(script).trees[0], 1).scores == {}


# --- the file ---------------------------------------------------------------------------------------------------------

names = st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=2)
attempts = st.builds(
    Attempt,
    *(st.integers(0, 9),) * 2,
    *(st.text(),) * 3,
    *(st.none() | st.floats(0, 1),) * 2,
    st.none() | st.text(st.characters(), max_size=30),
    *(names,) * 2,
    *(st.integers(0, 10**9),) * 4,
    st.booleans(),
)


@given(attempts)
def test_a_record_is_a_line_and_is_read_back(one: Attempt) -> None:
    line = one.line().encode("utf-8", "backslashreplace")
    assert line.count(b"\n") == 1 == len(line.splitlines())
    assert Attempt.read(line) == one


def test_a_lone_surrogate_survives(tmp_path: Path) -> None:
    file = AttemptFile(tmp_path / "a.jsonl", 1, 1, 1)
    file.begin(SETTINGS)
    file.append([replace(PLAIN, answer="x\udc80 \u2028")])
    assert file.resume(SETTINGS)[0].answer == "x\udc80 \u2028"


@pytest.fixture
def whole(tmp_path: Path) -> AttemptFile:
    """Returns a finished file: five questions, two answers each, asked two at a time."""
    file = AttemptFile(tmp_path / "runs" / "whole.jsonl", 5, 2, 2)
    file.begin(SETTINGS)
    for first in range(0, 5, 2):
        file.append([attempt(q, s, (q + s) % 2) for q in range(first, min(5, first + 2)) for s in range(2)])
    return file


def test_a_finished_file_has_nothing_to_continue(whole: AttemptFile) -> None:
    before = whole.path.read_bytes()
    assert whole.resume(SETTINGS) == read_attempts(whole.path)
    assert whole.path.read_bytes() == before
    assert [json.loads(line)["question"] for line in before.splitlines()] == [q for q in range(5) for _ in range(2)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_wherever_it_is_cut_off_the_finished_blocks_are_kept(whole: AttemptFile, data: st.DataObject) -> None:
    before = whole.path.read_bytes()
    lines = before.splitlines(keepends=True)
    ends = [sum(map(len, lines[:count])) for count in (0, 4, 8, 10)]
    cut = data.draw(st.integers(0, len(before)))
    file = replace(whole, path=whole.path.with_name("cut.jsonl"))
    file.path.write_bytes(before[:cut])
    file.settings.write_bytes(whole.settings.read_bytes())
    kept = file.resume(SETTINGS)
    at = max(end for end in ends if end <= cut)
    assert file.path.read_bytes() == before[:at]
    assert kept == read_attempts(whole.path)[: len(kept)]
    assert len(kept) == (0, 4, 8, 10)[ends.index(at)]


def test_a_block_in_which_everything_failed_is_asked_again(whole: AttemptFile) -> None:
    file = replace(whole, path=whole.path.with_name("down.jsonl"))
    file.begin(SETTINGS)
    file.append([attempt(q, s, 1.0) for q in range(2) for s in range(2)])
    file.append([attempt(q, s, None) for q in range(2, 4) for s in range(2)])
    file.append([attempt(4, s, 1.0) for s in range(2)])
    assert [one.question for one in file.resume(SETTINGS)] == [0, 0, 1, 1, 4, 4]
    again = [attempt(q, s, 0.0) for q in range(2, 4) for s in range(2)]
    file.append(again)
    file.put_in_order()
    assert [one.question for one in read_attempts(file.path)] == [q for q in range(5) for _ in range(2)]
    before = file.path.read_bytes()
    assert file.resume(SETTINGS) == read_attempts(file.path)
    assert file.path.read_bytes() == before


def test_a_block_that_failed_once_more_stays_in_order(whole: AttemptFile) -> None:
    lost = [replace(one, success=None) for one in read_attempts(whole.path)[4:8]]
    file = replace(whole, path=whole.path.with_name("again.jsonl"))
    file.begin(SETTINGS)
    file.append([*read_attempts(whole.path)[:4], *read_attempts(whole.path)[8:], *lost])
    file.put_in_order()
    assert [one.counts for one in read_attempts(file.path)] == [True] * 4 + [False] * 4 + [True] * 2


def test_a_file_of_an_earlier_version_is_continued_as_it_was_made(whole: AttemptFile) -> None:
    now = {**SETTINGS, "prompt": "ours", "examples": 0, "idle_turns": 0}
    assert len(whole.resume(now)) == len(whole.resume(SETTINGS))
    with pytest.raises(ConfigError, match=r"other settings: idle_turns \(was 0, is 3\)\."):
        whole.resume({**now, "idle_turns": 3})


def test_it_is_not_continued_with_other_settings(whole: AttemptFile) -> None:
    with pytest.raises(ConfigError, match=r"other settings: args \(was \['split=test'\], is None\), seed \(was 1, is 2\)\."):
        whole.resume({"seed": 2, "env": "toy"})
    with pytest.raises(ConfigError, match=r"exists\. Continue it with --resume"):
        whole.begin(SETTINGS)
    with pytest.raises(ConfigError, match=r"There is no file .*Leave out --resume"):
        replace(whole, path=whole.path.with_name("none.jsonl")).resume(SETTINGS)
    whole.settings.unlink()
    with pytest.raises(ConfigError, match="cannot be continued"):
        whole.resume(SETTINGS)


@pytest.mark.parametrize("text", ['{"question": 0}\n', "[]\n", "\n", '{"question'])
def test_another_file_is_refused(whole: AttemptFile, text: str) -> None:
    with whole.path.open("a", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(ConfigError, match="line 11: expected an answer"):
        read_attempts(whole.path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_attempts(whole.path.with_name("none.jsonl"))


# --- what they come to ------------------------------------------------------------------------------------------------


def test_pass_at_k_counts_each_question_once() -> None:
    right = {0: [1, 0, 0, 0], 1: [1, 1, 1, 1], 2: [0, 0, 0, 0], 3: [1, 1, 0, 0]}
    found = estimates([attempt(q, s, float(value)) for q, own in right.items() for s, value in enumerate(own)])
    assert found["pass@1"].mean == found["avg@4"].mean == found["success"].mean == pytest.approx(7 / 16)
    assert found["pass@2"].mean == pytest.approx((1 / 2 + 1 + 0 + 5 / 6) / 4)
    assert found["pass@3"].mean == pytest.approx((3 / 4 + 1 + 0 + 1) / 4)
    assert found["pass@4"].mean == pytest.approx(3 / 4)
    for one in found.values():
        assert one.low <= one.mean <= one.high
    assert found["pass@4"].low == wilson(3, 4)[0], "one value of 0 or 1 for each question"


def test_a_question_with_too_few_answers_has_no_part_in_pass_at_k() -> None:
    lost = attempt(1, 1, None, status="policy_fault")
    found = estimates([attempt(0, 0, 1.0), attempt(0, 1, 0.0), attempt(1, 0, 0.0), lost])
    assert found["pass@1"].mean == pytest.approx((1 / 2 + 0) / 2)
    assert found["pass@2"].mean == 1.0
    assert found["success"].mean == pytest.approx(1 / 3), "each answer counts"
    assert found["avg@2"].mean == pytest.approx(1 / 4), "each question counts"


def test_success_in_part_is_not_right_for_pass_at_k() -> None:
    found = estimates([attempt(0, 0, 0.5), attempt(0, 1, 0.9)])
    assert (found["pass@2"].mean, found["avg@2"].mean) == (0.0, pytest.approx(0.7))


def test_one_answer_per_question_has_no_pass_at_k() -> None:
    found = estimates([attempt(q, 0, 1.0) for q in range(3)])
    assert not any("@" in name for name in found)
    assert (found["success"].low, found["success"].high) == wilson(3, 3)


def test_a_question_that_was_asked_twice_is_one_question() -> None:
    apart = estimates([attempt(q, 0, float(q % 2)) for q in range(40)])["success"]
    twice = estimates([attempt(q, 0, float(q % 2), id=f"q{q % 10}") for q in range(40)])["success"]
    assert apart.mean == twice.mean
    assert twice.high - twice.low > 1.5 * (apart.high - apart.low)


def test_environments_of_a_mixture_keep_their_shares() -> None:
    own = [attempt(q, s, float(q < 5), env="easy" if q < 5 else "hard") for q in range(10) for s in range(2)]
    mixed = [replace(one, success=0.5) if one.question in (0, 9) else one for one in own]
    found, alone = (estimates(given)["success"] for given in (mixed, [replace(one, env="") for one in mixed]))
    assert found.high - found.low < 0.5 * (alone.high - alone.low)


# --- comparisons ------------------------------------------------------------------------------------------------------


def test_evaluations_are_matched_by_id_not_by_place() -> None:
    own = [attempt(q, 0, float(q < 6)) for q in range(8)]
    other = [replace(one, question=7 - one.question, success=0.0) for one in reversed(own)]
    found = compared(own, other)
    assert set(found) == {"success", "em", "f1"}
    assert (found["success"].better, found["success"].worse, found["success"].p) == (6, 0, 2 / 64)
    assert found["em"].mean == 0.0


def test_different_questions_are_an_error_that_names_one() -> None:
    own = [attempt(q, 0, 1.0) for q in range(3)]
    with pytest.raises(ConfigError, match=r"of 4 questions, 1 only in this evaluation, such as 'q0' and 1 only in the other"):
        compared(own, [attempt(q, 0, 1.0) for q in range(1, 4)])
    with pytest.raises(ConfigError, match="Nothing can be compared"):
        compared(own, [attempt(q, 0, None) for q in range(3)])


def test_a_question_that_never_began_on_one_side_is_the_one_that_the_other_side_names() -> None:
    own = [attempt(q, 0, 1.0) for q in range(8)]
    lost = replace(own[3], id="", success=None, scores={}, env="")
    for one, other in ((own, [*own[:3], lost, *own[4:]]), ([*own[:3], lost, *own[4:]], own)):
        found = compared(one, other)
        assert (found["success"].questions, found["success"].mean) == (7, 0.0)
    with pytest.raises(ConfigError, match="1 only in this evaluation, such as 'q7'"):
        compared(own, [*own[:3], lost, *own[4:7], attempt(7, 0, 1.0, id="other")])


def test_scores_that_only_one_side_has_are_not_compared() -> None:
    own = [attempt(q, 0, 1.0) for q in range(3)]
    assert set(compared(own, [replace(one, scores={}) for one in own])) == {"success"}


def test_graded_text_of_a_failed_path_is_not_scored() -> None:
    def hook(history: tuple[str, ...]) -> None:
        raise OSError("no network")

    (one, *_) = attempts_of(asked(hook=hook, script=lambda before, seed: "<count>x</count>").trees,
                            lambda tree, leaf: Graded(None, {"em": 0.0}))  # fmt: skip
    assert one.scores == {}
