"""A stop string is a hint: where one stands in a thought or in a text of a call, the action goes on."""

from collections.abc import Sequence
from typing import Any

import pytest
from rollout_toys import COUNT, Coin, CountEnv, CountTool, Plan, grow, statuses

from algorithms.policies import Generation, Sampling
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.tree import RolloutTree, Status
from arpo_envs.dialects import make_dialect


class Stopping(ScriptedPolicy):
    """Writes what a script says, and stops behind the first stop string, as engines do."""

    asked = 0

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        self.asked += 1
        assert tail == "".join(map(chr, context[len(context) - offset :])), "what was drawn before, and its text"
        whole = await super().generate(context, params, seed=seed, offset=offset, tail=tail)
        text = "".join(map(chr, whole.tokens))
        ends = [text.index(stop) + len(stop) for stop in params.stop if stop in text]
        end = min(ends, default=len(text))
        finish = "stop" if ends else whole.finish
        return Generation(whole.tokens[:end], whole.logprobs[:end], whole.entropies[:end], finish, whole.version)


JSON_CALL = '<tool_call>{"name": "count", "arguments": {"text": "%s"}}</tool_call>'
ACTIONS = [
    ("json", JSON_CALL % "a</tool_call>b", "a</tool_call>b"),
    ("json", JSON_CALL % "</tool_call></tool_call>", "</tool_call></tool_call>"),
    ("json", "<think>First <tool_call>{}</tool_call>.</think>" + JSON_CALL % "x", "x"),
    ("tags", "<think>First <count>y</count>.</think><count>x</count>", "x"),
    ("tags", "<count>print('</answer>')</count>", "print('</answer>')"),
    ("tags", '<count>{"text": "a</count>b"}</count>', "a</count>b"),
]


def grown(action: str, dialect: str, *, probe: int = 0, **limits: Any) -> tuple[RolloutTree, CountTool, Stopping]:
    """Returns the tree of a policy that calls, then writes an action until it has worked, and then answers."""
    spoken = make_dialect(dialect, [COUNT])

    def script(before: str, seed: int) -> str:
        return [spoken.call("count", {"text": "first"}), action, spoken.answer("1")][before.count(" die ")]

    tool, policy = CountTool(), Stopping(script)
    plan = Plan(Coin(1, 0.0, probe=probe), rollouts=1)
    renderer = ScriptedRenderer(dialect=dialect)
    (tree,) = grow(tool, plan, policy, env=lambda: CountEnv(tool, dialect=dialect), renderer=renderer, **limits)
    return tree, tool, policy


@pytest.mark.parametrize(("dialect", "action", "called"), ACTIONS)
@pytest.mark.parametrize("probe", [0, 5])
def test_a_stop_string_that_ends_nothing_does_not_end_the_action(dialect: str, action: str, called: str, probe: int) -> None:
    tree, tool, _ = grown(action, dialect, probe=probe)
    assert tool.journal == [("first",), ("first", called)]
    assert statuses(tree) == [Status.ANSWERED]
    assert [tree.total_reward(leaf) for leaf in tree.leaves()] == [1.0]
    _, node, _ = (node for node in tree.nodes if node.kind == "action")
    assert node.text == action, "it is one action"
    assert len(node.tokens) == len(node.logprobs) == len(node.entropies) == len(action)
    assert all(node.sampled)


def test_an_action_that_is_complete_is_asked_for_once() -> None:
    *_, policy = grown("<count>x</count>", "tags")
    assert policy.asked == 3


@pytest.mark.parametrize("action", ["<think>First <count>y</count>.", "<think></count></count>", "<serch>x</count>"])
def test_an_action_that_never_ends_is_a_mistake_in_the_end(action: str) -> None:
    tree, tool, policy = grown(action, "tags", action_tokens=200)
    assert tool.journal == [("first",)]
    assert statuses(tree) == [Status.STALLED]
    assert policy.asked < 40


def test_the_limit_of_an_action_holds() -> None:
    tree, *_ = grown("<think>First <count>y</count>" + "!" * 1000, "tags", action_tokens=60)
    assert {len(node.tokens) for node in tree.nodes if node.kind == "action"} == {len("<count>first</count>"), 60}
