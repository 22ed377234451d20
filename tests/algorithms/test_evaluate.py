"""Evaluation: the same rollouts as in training, without forks; failures of the machinery do not count."""

import asyncio
from typing import Any

import pytest
from rollout_toys import CountEnv, CountTool, calls_then_answer, results

from algorithms.evaluation import Evaluation, evaluate
from algorithms.policies import Generation, Sampling
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout.run import Limits, Start

STARTS = [Start(seed) for seed in range(6)]


def judged(policy: ScriptedPolicy, tool: CountTool | None = None, **options: Any) -> Evaluation:
    tool = tool or CountTool()
    limits = Limits(temperature=0.3)
    return asyncio.run(evaluate(lambda: CountEnv(tool), STARTS, policy, ScriptedRenderer(), seed=1, limits=limits, **options))


def by_seed(before: str, seed: int) -> str:
    return f"<answer>{seed % 2}</answer>" if results(before) else "<count>x</count>"


def test_success_is_the_share_of_right_answers() -> None:
    out = judged(ScriptedPolicy(by_seed), samples=3)
    ends = [tree.nodes[leaf] for tree in out.trees for leaf in tree.leaves()]
    assert len(ends) == 18
    assert out.success == pytest.approx(sum(end.success or 0.0 for end in ends) / 18)
    assert 0.0 < out.success < 1.0
    assert out.interval[0] < out.success < out.interval[1]
    assert out.metrics["forks_per_prompt"] == 0.0


def test_paths_that_failed_through_no_fault_of_the_model_are_left_out() -> None:
    calls: list[int] = []

    def hook(history: tuple[str, ...]) -> None:
        calls.append(1)
        if len(calls) % 2:
            raise OSError("flaky")

    out = judged(ScriptedPolicy(calls_then_answer(1)), CountTool(hook=hook))
    assert out.metrics["failed_leaves"] > 0
    assert out.success == 1.0


def test_a_path_that_never_answered_is_wrong() -> None:
    assert judged(ScriptedPolicy(lambda before, seed: "<count>x</count>")).success == 0.0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_samples_at_its_own_temperature_and_the_same_seed_asks_the_same_way(temperature: float) -> None:
    asked: list[float] = []

    class Spy(ScriptedPolicy):
        async def generate(self, context: Any, params: Sampling, **rest: Any) -> Generation:
            asked.append(params.temperature)
            return await super().generate(context, params, **rest)

    one, two = (judged(Spy(by_seed), temperature=temperature) for _ in range(2))
    assert set(asked) == {temperature}
    assert one.trees == two.trees
