"""What enters a tree is a number: one bad reward, token or strategy is one failed leaf that says why."""

import asyncio
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import Coin, CountEnv, CountTool, Plan, build, calls_then_answer, grow, node, statuses
from test_rollout_failures import BAD, Troubled, one_bad
from test_trainer import Lenient, parameters, run, trainer

from algorithms import make
from algorithms.metrics import failed_by_status, summarise
from algorithms.policies import Generation, Sampling
from algorithms.policies.local import LocalPolicy, NoNumber
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.policies.wire import Malformed, read_answer
from algorithms.rollout import RolloutError
from algorithms.tracking.trees import read_trees, write_trees
from algorithms.tree import NO_PARENT, Node, RolloutTree, Status

NO_NUMBERS = [math.nan, math.inf, -math.inf, np.float32("nan"), 1e300, None, "much", [1.0, 2.0], 10**400]


def failed(tree: RolloutTree, status: Status) -> Node:
    """The one leaf that failed; all others answered."""
    assert sorted(statuses(tree)) == sorted([Status.ANSWERED] * (len(tree.leaves()) - 1) + [status])
    return next(n for n in tree.nodes if n.status is status)


# --- environments ------------------------------------------------------------------------------------------


class Bad(CountEnv):
    """Its step goes wrong where the action says so."""

    def spoilt(self, given: Any) -> Any:
        raise NotImplementedError

    def step(self, action: str) -> Any:
        given = super().step(action)
        return self.spoilt(given) if BAD in action else given


def spoiling(how: Callable[[Any], Any]) -> type[Bad]:
    return type("Spoiling", (Bad,), {"spoilt": lambda self, given: how(given)})


@pytest.mark.parametrize(
    ("where", "number"),
    [("reward", number) for number in NO_NUMBERS] + [("success", number) for number in NO_NUMBERS if number is not None],
    ids=lambda one: str(one)[:8],
)
def test_a_reward_that_is_no_number_costs_one_leaf_which_says_so(where: str, number: Any) -> None:
    def how(given: Any) -> Any:
        observation, reward, terminated, truncated, info = given
        if where == "reward":
            return observation, number, terminated, truncated, info
        return observation, reward, terminated, truncated, {**info, "success": number}

    (tree,) = grow(env=spoiling(how), plan=Plan(rollouts=4), script=one_bad([]))
    leaf = failed(tree, Status.TOOL_FAULT)
    assert "must be a finite number" in leaf.fault
    assert str(number)[:10] in leaf.fault
    assert (leaf.reward, leaf.success) == (None, None)
    assert summarise([tree])["failed_leaves"] == failed_by_status([tree])["failed_tool_fault"] == 1.0
    assert RolloutTree.from_json(tree.to_json()) == tree


@pytest.mark.parametrize("share", [7, -0.01, 1.01, -1])
def test_a_success_that_is_no_share_costs_its_leaf(share: float) -> None:
    def how(given: Any) -> Any:
        return *given[:4], {**given[4], "success": share}

    (tree,) = grow(env=spoiling(how), plan=Plan(rollouts=4), script=one_bad([]))
    assert f"paid {share:g} as info['success']; it must lie between 0 and 1" in failed(tree, Status.TOOL_FAULT).fault


@pytest.mark.parametrize(
    "how",
    [
        lambda given: given[:4],
        lambda given: (*given[:4], None),
        lambda given: None,
        lambda given: "text",
    ],
)
def test_a_step_that_is_no_five_tuple_costs_one_leaf(how: Callable[[Any], Any]) -> None:
    (tree,) = grow(env=spoiling(how), plan=Plan(rollouts=3), script=one_bad([]))
    assert "did not return observation, reward" in failed(tree, Status.TOOL_FAULT).fault


@pytest.mark.parametrize("what", ["raises", "nan"])
def test_a_forfeit_that_is_no_number_is_no_reward(what: str) -> None:
    class Forfeits(CountEnv):
        def forfeit(self) -> float:
            if what == "raises":
                raise KeyError("nothing to forfeit")
            return math.nan

    policy = ScriptedPolicy(lambda before, seed: "<count>" + "x" * 40 + "</count>", context_length=120)
    tool = CountTool()
    with pytest.raises(RolloutError, match="All 2 paths failed"):
        grow(script=policy, env=lambda: Forfeits(tool), plan=Plan(rollouts=2), answer_reserve=20)
    assert tool.opened == tool.closed


def test_an_anchor_that_raises_costs_one_leaf() -> None:
    class Adrift(CountEnv):
        def anchor(self) -> str | None:
            if self.unwrapped.rng.random() < 2:  # whatever the random state
                raise LookupError("no anchor here")
            return None

    (tree, *_) = grow_anyway(env=Adrift)
    assert set(statuses(tree)) == {Status.TOOL_FAULT}


def grow_anyway(**given: Any) -> list[RolloutTree]:
    """Grows two trees of which the second is sound, so that nothing is raised."""
    broken = given.pop("env")
    made: list[int] = []

    def env() -> Any:
        made.append(1)
        return broken() if len(made) == 1 else CountEnv()

    return grow(env=env, prompts=2, **given)


def test_what_is_no_valid_text_has_question_marks_in_the_tree_and_can_be_written(tmp_path: Path) -> None:
    lone = "\ud800"

    class Lone(CountEnv):
        agent = member = lone

        def reset(self, **options: Any) -> Any:
            self.tasks.provenance = lambda task: {"tasks": f"{lone}.jsonl", "benchmark": (lone,)}
            question, info = super().reset(**options)
            return question + lone, {**info, "task": lone}

        def step(self, action: str) -> Any:
            observation, *paid, info = super().step(action)
            return observation + lone, *paid, {**info, "status": lone}

        def anchor(self) -> str:
            return lone

    (tree,) = grow(env=lambda: Lone(CountTool()))
    file = tmp_path / "trees.jsonl.zst"
    write_trees(file, [tree])
    assert list(read_trees(file)) == [tree]
    assert (tree.task, tree.meta["env"], tree.meta["tasks"], tree.meta["benchmark"]) == ("?", "?", "?.jsonl", ["?"])
    question, action, observation = tree.nodes[:3]
    assert (action.agent, action.anchor, action.tool_status) == ("?", "?", "?")
    assert question.text.endswith("??")
    assert observation.text.endswith("?")
    assert set(statuses(tree)) == {Status.ANSWERED}


# --- policies ----------------------------------------------------------------------------------------------


class Odd(Troubled):
    """Draws something odd where a path writes "bad"."""

    change: Callable[[Generation], Generation]

    async def generate(self, context: Any, params: Sampling, *, seed: int, offset: int = 0, tail: str = "") -> Generation:
        drawn = await ScriptedPolicy.generate(self, context, params, seed=seed, offset=offset, tail=tail)
        before = "".join(map(chr, context[: len(context) - offset]))
        return self.change(drawn) if BAD in self.script(before, seed) else drawn


def first(name: str, value: Any) -> Callable[[Generation], Generation]:
    def change(drawn: Generation) -> Generation:
        return replace(drawn, **{name: (value, *getattr(drawn, name)[1:])})

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first("logprobs", math.nan), "a log-probability of nan"),
        (first("logprobs", -math.inf), "a log-probability of -inf"),
        (first("entropies", math.nan), "an entropy of nan"),
        (first("entropies", np.float32("inf")), "an entropy of inf"),
        (first("tokens", -1), "the token -1"),
        (first("tokens", 0x110000), "the token 1114112"),
        (first("tokens", 1.5), "TypeError"),
        (lambda drawn: replace(drawn, logprobs=drawn.logprobs[1:]), "18 tokens with 17 log-probabilities"),
        (lambda drawn: replace(drawn, entropies=()), "and 0 entropies"),
        (lambda drawn: replace(drawn, tokens=drawn.tokens * 90, logprobs=drawn.logprobs * 90, entropies=drawn.entropies * 90),
         "tokens, but at most 512 were asked for"),
    ],
)  # fmt: skip
def test_what_no_policy_can_draw_costs_one_leaf(change: Callable[[Generation], Generation], said: str) -> None:
    policy = Odd(one_bad([]))
    policy.change = change
    (tree,) = grow(CountTool(), Plan(Coin(3, 0.0), 4), policy)
    leaf = failed(tree, Status.POLICY_FAULT)
    assert said in leaf.fault
    assert leaf.tokens == ()


def test_numbers_of_numpy_are_plain_numbers_in_the_tree() -> None:
    class OfNumpy(ScriptedPolicy):
        async def generate(self, context: Any, params: Sampling, **rest: Any) -> Generation:
            drawn = await super().generate(context, params, **rest)
            return replace(drawn, tokens=tuple(np.array(drawn.tokens)), logprobs=tuple(np.array(drawn.logprobs, np.float32)))

    (tree,) = grow(script=OfNumpy(calls_then_answer(1)))
    assert RolloutTree.from_json(tree.to_json()) == tree


async def loaded(where: str, value: float, rows: Any) -> LocalPolicy:
    """A policy that was well when it was made, and has got weights that are no numbers."""
    model = tiny_model(vocabulary=265)
    policy = LocalPolicy(model, byte_tokenizer())
    with torch.no_grad():
        getattr(model, where)().weight[rows] = value
    await policy.load(model.state_dict(), 1)
    return policy


def test_a_model_without_probabilities_draws_nothing_and_its_neighbours_go_on() -> None:
    async def both() -> list[Any]:
        policy = await loaded("get_input_embeddings", math.nan, 7)
        ask = [policy.generate(context, Sampling(4), seed=1) for context in ([1, 7, 3], [1, 2, 3])]
        found = await asyncio.gather(*ask, return_exceptions=True)
        found += await asyncio.gather(policy.generate([1, 7, 3], Sampling(4), seed=1), return_exceptions=True)
        await policy.close()
        return found

    broken, sound, again = asyncio.run(both())
    alone = LocalPolicy(tiny_model(vocabulary=265), byte_tokenizer())
    assert isinstance(broken, NoNumber)
    assert "After 3 tokens the model gives no probabilities" in str(broken)
    assert isinstance(again, NoNumber), "what gave no number is not remembered as if it had"
    assert sound.tokens == asyncio.run(alone.generate([1, 2, 3], Sampling(4), seed=1)).tokens
    asyncio.run(alone.close())


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_draw_no_last_token_of_the_vocabulary(value: float, greedy: bool) -> None:
    async def ask() -> None:
        policy = await loaded("get_output_embeddings", value, slice(None))
        try:
            await policy.generate([1, 2, 3], Sampling(4, temperature=0.0 if greedy else 1.0), seed=1)
        finally:
            await policy.close()

    with pytest.raises(NoNumber, match="Are its weights finite"):
        asyncio.run(ask())


def answer(tokens: list[int], logprobs: list[float], tops: list[dict[str, float]]) -> dict[str, Any]:
    said = {"token_logprobs": logprobs, "top_logprobs": tops}
    return {"choices": [{"text": "x", "token_ids": tokens, "logprobs": said, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("tokens", "logprob", "top"),
    [([-1], -0.5, -0.5), ([10], -0.5, -0.5), ([2**70], -0.5, -0.5), ([3], math.nan, -0.5), ([3], -math.inf, -0.5),
     ([3], -0.5, math.nan)],
)  # fmt: skip
def test_a_server_that_sends_such_things_is_asked_elsewhere(tokens: list[int], logprob: float, top: float) -> None:
    assert read_answer("http://a", answer([3], [-0.5], [{"token_id:3": -0.5}]), 5, 10).tokens == (3,)
    with pytest.raises(Malformed):
        read_answer("http://a", answer(tokens, [logprob], [{"token_id:3": top}]), 5, 10)


# --- the tree itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reward", "success", "logprobs", "entropies"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_tree_takes_numbers_only(field: str, number: float) -> None:
    value: Any = (number,) if field in ("logprobs", "entropies") else number
    with pytest.raises(ValueError, match="must be finite"):
        build(node((), NO_PARENT, [1]), node((0,), 0, [2], status=Status.ANSWERED, **{field: value}))


def test_a_fault_stays_with_the_end_of_a_split_node() -> None:
    tree = build(
        node((), NO_PARENT, [1]),
        node((0,), 0, [2, 3], status=Status.TOOL_FAULT, fault="ValueError: x"),
        node((0, 1), 1, [4], parent_at=1, status=Status.ANSWERED, reward=1.0),
    )
    assert [n.fault for n in tree.nodes] == ["", "", "ValueError: x", ""]


# --- the trainer -------------------------------------------------------------------------------------------


class Counted(Lenient):
    """Pays the first answer of all in a number of the test's choice."""

    def __init__(self, paid: float | None, answers: list[int], tool: CountTool) -> None:
        super().__init__(tool)
        self.paid, self.answers = paid, answers

    shared = CountEnv.shared | {"answers"}

    def step(self, action: str) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.answers += [1] * terminated
        first = terminated and len(self.answers) == 1 and self.paid is not None
        return observation, self.paid if first else reward, terminated, truncated, info


@pytest.mark.parametrize("number", [math.nan, math.inf, None])
def test_a_step_with_one_bad_reward_learns_from_all_others(number: float | None) -> None:
    answers: list[int] = []
    some = replace(trainer(5, make("grpo", rollouts=4)), make_env=lambda: Counted(number, answers, CountTool()))
    before = parameters(some).clone()
    (metrics,) = run(some, 1)[1]
    failures = float(number is not None)
    assert (metrics["failed_leaves"], metrics["failed_tool_fault"], metrics["skipped_updates"]) == (failures, failures, 0.0)
    assert math.isfinite(metrics["gradient_norm"])
    assert metrics["gradient_norm"] > 0
    assert (parameters(some) - before).abs().max() > 0


def test_a_step_in_which_every_path_fails_teaches_nothing_and_says_why() -> None:
    some = trainer(5, make("grpo", rollouts=4))
    usual = some.make_env
    reached: list[int] = []

    def env() -> Any:
        if len(reached) == 1:
            raise OSError("no server")
        return usual()

    async def three() -> list[Any]:
        results = []
        for step in range(3):
            results.append(await broken.step(step))
            reached.append(1)
        await some.policy.close()
        return results

    broken = replace(some, make_env=env)
    kept: list[torch.Tensor] = []
    load = some.policy.load

    async def watched(weights: Any, version: int) -> None:
        kept.append(parameters(some).clone())
        await load(weights, version)

    some.policy.load = watched  # type: ignore[method-assign]
    good, lost, after = asyncio.run(three())
    assert good.error is None
    assert isinstance(lost.error, RolloutError)
    assert "no server" in str(lost.error)
    assert (lost.metrics["lost_steps"], lost.metrics["failed_leaves"], good.metrics["lost_steps"]) == (1.0, 8.0, 0.0)
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])
    assert after.error is None
    assert some.policy.version == 3


def test_a_replacement_that_fails_does_not_take_the_good_groups_with_it() -> None:
    algorithm = replace(make("grpo", rollouts=2), keep=lambda tree: tree.meta["seed"] != 1, refills=2)
    some = trainer(1, algorithm)

    class Moody(Lenient):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            if seed is not None and seed >= 1000:
                raise OSError("no server")
            return super().reset(seed=seed, options=options)

    (metrics,) = run(replace(some, make_env=lambda: Moody(CountTool())), 1)[1]
    assert metrics["trained_tokens"] > 0
    assert metrics["failed_leaves"] == 2.0


def test_a_source_that_cannot_say_where_its_question_is_from_costs_that_prompt_alone() -> None:
    asked = itertools.count()

    class Unsure(CountEnv):
        """Its source fails for every second question."""

        def reset(self, **options: Any) -> Any:
            def provenance(task: Any) -> dict[str, Any]:
                return {} if next(asked) % 2 == 0 else {}["source"]

            self.tasks.provenance = provenance
            return super().reset(**options)

    first, second = grow(env=lambda: Unsure(CountTool()), prompts=2)
    assert set(statuses(first)) == {Status.ANSWERED}
    assert set(statuses(second)) == {Status.RENDERER_FAULT}
