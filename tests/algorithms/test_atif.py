"""Leaves as ATIF documents: what the package reads back is what the tree holds, token for token."""

import json
from dataclasses import replace

import pytest
from atif import Trajectory
from credit_toys import grown
from hypothesis import given
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
