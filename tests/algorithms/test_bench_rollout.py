"""`arpo bench rollout`: that both schedulers do the same work, and what is compared; how long it takes is not asserted."""

import asyncio
import json

import pytest

from algorithms.bench import engines, rollout
from algorithms.bench.latency import TURNS, timed_policy, waiting_env, workload
from algorithms.bench.lockstep import collect_lockstep
from algorithms.cli import main
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import collect
from algorithms.rollout.run import Limits

NAMES = {"lockstep_over_ours_hangs", "scheduler_cpu_us_per_turn", *rollout.BOUNDS}


@pytest.mark.parametrize("kind", rollout.KINDS)
def test_both_schedulers_play_the_same_episodes(kind):
    work = workload(kind, paths=7, seed=3, speed=float("inf"))
    parts = (lambda: waiting_env(work), work.starts, timed_policy(work), ScriptedRenderer())
    limits = Limits(mode="free", answer_reserve=1)
    trees = asyncio.run(collect(*parts, engines.Independent(), seed=1, limits=limits))
    rounds = asyncio.run(collect_lockstep(*parts, seed=1))
    assert [tree.tokens(leaf) for tree in trees for leaf in tree.leaves()] == rounds
    assert [tree.tool_calls().executed for tree in trees] == work.turns_P.tolist()


def test_ideal_times_by_hand():
    work = workload("constant", paths=2, seed=0, speed=1.0)
    work.turns_P[:] = (1, 2)
    work.generation_PD[:, :3] = ((1.0, 0.5, 9.0), (2.0, 0.5, 0.5))
    assert work.tool_PD.shape == (2, TURNS)
    assert work.critical_path == 2.0 + 1.0 + 0.5 + 1.0 + 0.5
    assert work.lockstep == 2.0 + 1.0 + 0.5 + 1.0 + 0.5, "here the slower path is the slower one in every round"
    work.generation_PD[0, 0] = 4.0
    assert (work.critical_path, work.lockstep) == (5.5, 7.0)
    work.tool_PD[0, 0] = 3.0
    assert (work.critical_path, work.lockstep) == (7.5, 9.0)


def test_other_work_is_not_compared(monkeypatch):
    work = workload("constant", paths=3, seed=1, speed=float("inf"))
    monkeypatch.setattr(rollout, "workload", lambda kind, **options: work)
    monkeypatch.setattr(rollout, "_collect", lambda other: [])
    with pytest.raises(rollout.DifferentWork):
        rollout.measure(rollout.RolloutBench(paths=3))


def test_bare_generation_gets_the_same_token_lists():
    shape = engines.Shape(paths=3, prompt=5, action=4, observation=2, turns=2)
    model = engines.small_model(64, shape.context_length, width=32)

    async def play():
        from algorithms.policies.local import LocalPolicy

        policy = LocalPolicy(model, tokenizer=None, context_length=shape.context_length)
        trees, _ = await engines.through(policy, shape, seed=1)
        await policy.close()
        return trees

    trees = asyncio.run(play())
    lists = engines.contexts(trees)
    assert [[len(context) for context in turn] for turn in lists] == [[5] * 3, [11] * 3]
    assert [context + list(tree.nodes[-1].tokens) for context, tree in zip(lists[1], trees, strict=True)] == [
        tree.tokens(tree.leaves()[0]) for tree in trees
    ]
    assert engines.generate_bare(model, lists, shape.action) > 0.0


def test_the_result_is_flat_and_whole(tmp_path):
    file = tmp_path / "rollout.json"
    small = ["--paths", "3", "--speed", "2000", "--rounds", "1", "--width", "32", "--layers", "1", "--sizes", "2", "4"]
    assert main(["bench", "rollout", *small, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record.keys() >= NAMES
    assert record.pop("device") == "cpu"
    assert all(isinstance(value, int | float) for value in record.values())
    assert record["prefill_over_unique"] >= 1.0


def test_bad_sizes_are_refused():
    with pytest.raises(rollout.ConfigError, match="at least 1"):
        rollout.RolloutBench(paths=0)
    with pytest.raises(rollout.ConfigError, match="at least 1"):
        rollout.RolloutBench(sizes=(0, 64))
    with pytest.raises(rollout.ConfigError, match="two or more"):
        rollout.RolloutBench(sizes=(64,))


def test_missed_bounds_look_like_some():
    record = dict.fromkeys(NAMES, 1.5) | {"paths": 3, "speed": 1.0}
    column = [str(cell) for cell in rollout.table(record).columns[2].cells]
    assert [cell for cell in column if cell] == [
        *("≥ 1", "≥ 2 missed", "≤ 1.15 missed", "≤ 200", "≤ 5.5", "≤ 1.5", "≥ 0.9", "not installed", "≤ 1.1 missed")
    ]
