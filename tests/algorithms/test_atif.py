"""Leaves as ATIF documents: what the package reads back is what the tree holds, token for token."""

from dataclasses import replace

import pytest
from atif import Trajectory
from credit_toys import grown
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import COUNT, CountEnv, CountTool, Plan, build, grow, node
from small_recipes import small

from algorithms.rendering import ScriptedRenderer
from algorithms.rendering.chat.calls import LLAMA3
from algorithms.tracking.atif import Spoken, trajectory
from algorithms.tree import NO_PARENT, RolloutTree, Status
from arpo_envs import ConfigError, make_dialect

DIALECTS = ("tags", "json")
MALFORMED = {
    "tags": ("<count>", "<cuont>1</cuont>", "so", "<count></count>"),
    "json": ("<tool_call>", "<tool_call>{1</tool_call>"),
}
TEXTS = ("Köln", "日本 𝔘", "a < b", '"quoted"', "</think>")


def player(dialect: str):
    """Returns a script that thinks, calls in any alphabet, makes mistakes, and answers, by its seed."""
    written = make_dialect(dialect, (COUNT,))

    def script(before: str, seed: int) -> str:
        results = before.count("</result>") + before.count("</tool_response>")
        if results > 1 + seed % 3:
            return written.answer(str(seed % 5 / 4))
        if seed % 4 == 0:
            return MALFORMED[dialect][seed // 4 % len(MALFORMED[dialect])]
        return f"<think>{'hm ' * (seed % 4)}</think>" + written.call("count", {"text": f"{TEXTS[seed % 5]} {seed % 97}"})

    return script


def rollouts(dialect: str, seed: int, tool: CountTool) -> list[RolloutTree]:
    """Returns trees that a strategy grew which also forks inside actions."""
    recipe = small("tree_rl")
    plan, renderer = Plan(recipe.branching, recipe.rollouts), ScriptedRenderer(dialect=dialect)
    env = lambda: CountEnv(tool, dialect=dialect)  # noqa: E731
    return grow(tool, plan, player(dialect), seed=seed, env=env, renderer=renderer)


def check(tree: RolloutTree, leaf: int, spoken: Spoken | None = None) -> Trajectory:
    """Returns a leaf's document as the package reads it, if its tokens are those of the leaf."""
    written = trajectory(tree, leaf, name="leaf", spoken=spoken).model_dump_json(exclude_none=True)
    found = Trajectory.model_validate_json(written)
    drawn = [step.metrics for step in found.steps if step.metrics is not None]
    ids, logprobs, sampled = tree.tokens(leaf), tree.logprobs(leaf), tree.sampled(leaf)
    own = [place for place, is_own in enumerate(sampled) if is_own]
    assert [one for m in drawn for one in m.completion_token_ids] == [ids[place] for place in own]
    assert [one for m in drawn for one in m.logprobs] == [logprobs[place] for place in own]
    assert [one for m in drawn for one in m.extra["entropies"]] == [float(tree.along(leaf, "entropies")[p]) for p in own]
    assert all(m.prompt_token_ids == ids[: m.prompt_tokens] for m in drawn)
    assert found.final_metrics.extra["reward"] == tree.total_reward(leaf)
    assert found.final_metrics.extra.get("status") == tree.nodes[leaf].status
    return found


@settings(deadline=None, max_examples=40)
@given(grown(), st.sampled_from(DIALECTS), st.data())
def test_a_document_has_the_tokens_and_the_reward_of_its_leaf(tree, dialect, data):
    texts = st.sampled_from(
        ["", "x", *MALFORMED[dialect], *TEXTS, "\ud800", make_dialect(dialect, (COUNT,)).call("count", {"text": "1"})]
    )
    tree.nodes = [
        replace(n, text=data.draw(texts), sampled=[own and data.draw(st.integers(0, 5)) > 0 for own in n.sampled])
        for n in tree.nodes
    ]
    spoken = Spoken(make_dialect(dialect, (COUNT,)), (COUNT,))
    for leaf in tree.leaves():
        found = check(tree, leaf, spoken)
        pieces = [one["key"] for step in found.steps if step.source == "agent" for one in step.extra["nodes"]]
        assert pieces == [list(tree.nodes[n].key) for n, _ in tree.path(leaf) if tree.nodes[n].kind == "action"]
        for step in found.steps:
            if "token_ids" in step.extra:
                assert not all(step.extra["sampled"])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_rollout_did_is_in_its_documents(dialect):
    split = mistakes = 0
    for seed in range(6):
        tool = CountTool()
        for tree in rollouts(dialect, seed, tool):
            tree = RolloutTree.from_json(tree.to_json())
            for leaf in tree.leaves():
                steps = [step for step in check(tree, leaf).steps if step.source == "agent"]
                ran = [step for step in steps if "tool" in step.extra]
                history = tuple(step.tool_calls[0].arguments["text"] for step in ran)
                assert not history or history in tool.journal, "the arguments are those that the tool was called with"
                assert all(step.observation.results[0].source_call_id == step.tool_calls[0].tool_call_id for step in ran[:-1])
                wrong = [step for step in steps if step.message in MALFORMED[dialect]]
                assert all(step.tool_calls is None for step in wrong)
                split += sum(len(step.extra["nodes"]) > 1 for step in steps)
                mistakes += sum(step.extra.get("tool_status") == "mistake" for step in wrong)
                assert all("".join(map(chr, step.metrics.completion_token_ids)) == step.message for step in steps)
    assert split
    assert mistakes


def by_hand(meta: dict[str, object], *texts: str) -> RolloutTree:
    """Returns a question, a call that ran with its result, and an answer."""
    call, result, answer = texts
    return build(
        node((), NO_PARENT, [1, 2], text="Wo liegt Köln?"),
        node((0,), 0, [3, 4], text=call, tool="count", tool_status="ok", reward=0.25, origin="root", policy_version=5),
        node((0, 0), 1, [6], kind="observation", text=result),
        node((0, 0, 0), 2, [7], text=answer, status=Status.ANSWERED, reward=1.0, success=1.0, policy_version=5),
        meta=meta,
    )


def test_a_document_worked_out_by_hand():
    meta = {"step": 3, "dialect": "tags", "tools": [COUNT.function()], "instructions": "Count."}
    tree = by_hand(meta, "<count>Köln</count>", "<result>4</result>", "<answer>Rhein</answer>")
    found = check(tree, 3)
    system, user, called, answered = found.steps
    assert (system.source, system.message, user.source, user.message) == ("system", "Count.", "user", "Wo liegt Köln?")
    assert called.message == "<count>Köln</count>"
    (call,), (result,) = called.tool_calls, called.observation.results
    assert (call.function_name, call.arguments) == ("count", {"text": "Köln"})
    assert (result.source_call_id, result.content) == (call.tool_call_id, "<result>4</result>")
    assert (called.metrics.prompt_tokens, called.metrics.prompt_token_ids) == (2, [1, 2])
    assert (called.metrics.completion_token_ids, called.metrics.logprobs) == ([3, 4], [-0.75, -1.0])
    assert called.extra["reward"] == 0.25
    assert called.extra["nodes"] == [{"key": [0], "origin": "root", "policy_version": 5, "tokens": 2}]
    assert answered.metrics.prompt_token_ids == [1, 2, 3, 4, 6]
    assert (answered.extra["answer"], answered.extra["status"]) == ("Rhein", "answered")
    assert (found.trajectory_id, found.agent.tool_definitions) == ("leaf", [COUNT.function()])
    totals = found.final_metrics
    assert (totals.total_prompt_tokens, totals.total_completion_tokens, totals.total_steps) == (7, 3, 4)
    assert totals.extra == {"reward": 1.25, "status": "answered", "success": 1.0}
    assert found.extra == {"task": "toy", "step": 3, "leaf": [0, 0, 0]}


def test_calls_in_a_models_own_format_are_read_in_it():
    call = LLAMA3.call("count", {"text": "Köln"})
    for calls, arguments in (({"calls": "llama3"}, {"text": "Köln"}), ({}, None)):
        tree = by_hand({"dialect": "json", "tools": [COUNT.function()], **calls}, call, "4", "Rhein")
        step = check(tree, 3).steps[1]
        assert (step.tool_calls[0].arguments if step.tool_calls else None) == arguments
        assert (step.message, step.extra["tool"]) == (call, "count")


def test_a_dialect_that_nobody_names_is_never_guessed():
    tree = by_hand({}, "<count>1</count>", "1", "<answer>1</answer>")
    with pytest.raises(ConfigError, match="does not say in which dialect"):
        trajectory(tree, 3)
    with pytest.raises(ValueError, match="frozen"):
        trajectory(RolloutTree(), 0)
    with pytest.raises(ConfigError, match="json"):
        trajectory(by_hand({"dialect": "jsn"}, "", "", ""), 3)


def test_an_action_whose_result_could_not_be_shown_is_one_step_with_its_fault():
    tree = by_hand({"dialect": "tags", "tools": [COUNT.function()]}, "<count>1</count>", "1", "<answer>1</answer>")
    failed = node((0, 1), 1, [], status=Status.RENDERER_FAULT, fault="ValueError: no", reward=-1.0)
    tree = build(*tree.nodes[:2], failed, meta=tree.meta)
    (step,) = [step for step in check(tree, 2).steps if step.source == "agent"]
    assert step.tool_calls[0].arguments == {"text": "1"}
    assert (step.extra["reward"], step.extra["fault"], step.observation) == (-0.75, "ValueError: no", None)
