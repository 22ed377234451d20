"""What went wrong elsewhere must not happen here: one test per known defect of the reference implementation.

The numbers are those of our notes on it. 11 to 14 concern its sandbox and request options, 19 and 24
its search cache and its second copy of the code: nothing of that kind exists here.
"""

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from model_toys import byte_tokenizer
from rollout_toys import Coin, CountEnv, CountTool, Plan, calls_then_answer, grow, path_text, results, statuses, varied

import algorithms
import arpo_envs
from algorithms import make
from algorithms.advantages import Scores
from algorithms.branching import BranchPoint, EntropyBranching, Threshold
from algorithms.policies import Generation, Sampling
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer, TextRenderer
from algorithms.rewards import shuffle_rewards
from algorithms.rollout import collect
from algorithms.rollout.run import Limits, Start
from algorithms.tree import RolloutTree, Status
from arpo_envs.core import Outcome
from arpo_envs.rewards import HierarchicalReward
from arpo_envs.rewards.answers import compare
from arpo_envs.tasks import Task
from arpo_envs.tools import ToolResult


def entropies_by_seed(before: str, seed: int) -> list[float]:
    return list(np.random.default_rng([seed, results(before)]).random(60) * 3)


def forks(trees: list[RolloutTree]) -> list[list[tuple[int, ...]]]:
    return [[n.key for n in tree.nodes if n.origin == "branch"] for tree in trees]


def arpo(**options: Any) -> Plan:
    return Plan(make("arpo", rollouts=12, roots=4, probe=3, **options).branching, 12)


# --- the branching signal ----------------------------------------------------------------------------------


def test_1_a_second_identical_batch_in_the_same_process_decides_the_same() -> None:
    """Defect 1: baselines were kept between batches and compared with other prompts."""
    policy = ScriptedPolicy(calls_then_answer(3), entropies_by_seed)
    first = grow(plan=arpo(), script=policy, prompts=3)
    grow(plan=arpo(), script=policy, prompts=2, seed=99)
    second = grow(plan=arpo(), script=policy, prompts=3)
    assert [t.to_json() for t in first] == [t.to_json() for t in second]
    assert any(forks(first))


def test_2_the_entropy_that_triggers_is_the_one_after_this_result() -> None:
    """Defect 2: the decision at a result used the tokens that followed the previous result."""

    def spike(before: str, seed: int) -> list[float]:
        return [9.0 if results(before) == 2 else 1.0] * 60

    rule = Threshold(tau=1.0, alpha=0.5, beta=0.2)
    (tree,) = grow(plan=Plan(EntropyBranching(1, rule, probe=3), 3), script=ScriptedPolicy(calls_then_answer(4), spike))
    forked = [i for i, n in enumerate(tree.nodes) if n.origin == "branch"]
    assert [tree.depth(i) for i in forked] == [2], "only after the second result; a fork does not decide there again"


def test_3_children_inherit_the_baseline_of_their_root() -> None:
    """Defect 3: a fork took its own first tokens, already after a result, for its baseline."""
    coin = Coin(1, 1.0, 2, probe=3)
    grow(plan=Plan(coin, 7), script=ScriptedPolicy(calls_then_answer(3), entropies_by_seed))
    assert len(coin.seen) > 5
    assert len({point.baseline for point in coin.seen}) == 1


def test_4_the_change_is_a_mean_over_exactly_k_tokens() -> None:
    """Defect 4: a sum over however many tokens there were, so that short pieces looked certain."""
    asked = EntropyBranching(1, Threshold(tau=0.7, alpha=0.5, beta=0.2), probe=20)
    short = BranchPoint((0, 0), 1, 0, baseline=(1.0,) * 20, probe=(2.5,) * 3, left=9, vocabulary_size=100)
    long = BranchPoint((0, 0), 1, 0, baseline=(1.0,) * 20, probe=(2.5,) * 20, left=9, vocabulary_size=100)
    rng = np.random.default_rng(0)
    assert asked.on_result(short, rng) == asked.on_result(long, rng) == 1


def test_5_each_root_may_be_given_its_own_share_of_the_budget() -> None:
    """Defect 5: low rows took the shared budget first; here that is a choice, and the other one exists."""
    shares = {}
    for budget in ("shared", "per_root"):
        (tree,) = grow(plan=Plan(Coin(4, 1.0, 4), 12), script=calls_then_answer(2), budget=budget)
        shares[budget] = sorted(sum(tree.nodes[leaf].key[0] == root for leaf in tree.leaves()) for root in range(4))
    assert shares["per_root"] == [3, 3, 3, 3]
    assert shares["shared"] != shares["per_root"]


def test_6_no_draw_depends_on_a_global_generator() -> None:
    """Defect 6: decisions came from Python's unseeded generator."""
    runs = []
    for noise in (1, 2):
        random.seed(noise)
        state = random.getstate()
        runs.append([t.to_json() for t in grow(plan=arpo(), script=ScriptedPolicy(varied, entropies_by_seed), prompts=2)])
        assert random.getstate() == state
    assert runs[0] == runs[1]


# --- throughput --------------------------------------------------------------------------------------------


def test_7_free_mode_has_no_barrier() -> None:
    """Defect 7: every round waited for the slowest generation and the slowest tool."""
    others = threading.Event()

    def hook(history: tuple[str, ...]) -> None:
        if len(history) == 4:
            others.set()
        if history == ("slow",):
            assert others.wait(10.0), "four rounds of another path should fit into one slow call"

    roots: list[int] = []

    def script(before: str, seed: int) -> str:
        if results(before) == 0:
            roots.append(seed)
            return "<count>slow</count>" if len(roots) == 1 else "<count>fast</count>"
        return "<answer>1</answer>" if "slow" in before or results(before) == 4 else "<count>fast</count>"

    (tree,) = grow(CountTool(hook=hook), Plan(rollouts=2), script, mode="free")
    assert statuses(tree) == [Status.ANSWERED] * 2


def test_8_back_fill_is_parallel() -> None:
    """Defect 8: what forks left over was made up one rollout per round."""
    plans: list[int] = []

    class Counted(Coin):
        def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Any:
            plans.append(left)
            return super().plan(tree, left, rng)

    (tree,) = grow(plan=Plan(Counted(8, 0.0), 16), script=calls_then_answer(0))
    assert plans == [16, 8]
    assert sum(n.origin == "backfill" for n in tree.nodes) == 8


def test_9_every_path_has_its_own_limit() -> None:
    """Defect 9: the longest remaining budget was everybody's, and the rest was thrown away later."""
    asked: list[tuple[int, int]] = []

    class Spy(ScriptedPolicy):
        async def generate(self, context: Any, params: Sampling, **rest: Any) -> Generation:
            asked.append((len(context), params.max_tokens))
            return await super().generate(context, params, **rest)

    policy = Spy(lambda before, seed: "<count>" + "x" * (seed % 60) + "</count>", context_length=300)
    (tree,) = grow(plan=Plan(Coin(4, 0.3, probe=3), 6), script=policy, action_tokens=80, answer_reserve=10)
    assert len({length for length, _ in asked}) > 4
    assert all(length + most <= 300 for length, most in asked)
    assert all(len(tree.tokens(leaf)) <= 300 for leaf in tree.leaves())


def test_10_without_a_penalty_no_reference_is_needed() -> None:
    """Defect 10: a reference model ran to compute a term of weight 0. (That it does not run: test_learner.py.)"""
    assert {name: make(name).needs for name in ("arpo", "grpo", "random_branching")} == dict.fromkeys(
        ("arpo", "grpo", "random_branching"), frozenset()
    )
    assert make("arpo", kl=0.01).needs == {"reference"}


# --- tools and tokens --------------------------------------------------------------------------------------


def test_15_a_huge_result_is_cut_and_leaves_room_to_answer() -> None:
    """Defect 15: output went into the context whole; a path that ran over was dropped without an answer."""
    tool = CountTool(hook=lambda history: ToolResult("page " * 10_000))
    policy = ScriptedPolicy(calls_then_answer(1), context_length=600)
    (tree,) = grow(tool, Plan(Coin(2, 0.5), 4), policy, answer_reserve=60)
    assert statuses(tree) == [Status.ANSWERED] * 4
    for n in tree.nodes:
        if n.kind == "observation":
            assert n.text.endswith("[cut]</result>"), "never ends in the middle of a result"
            assert 400 < len(n.text) <= 540
    assert all(tree.total_reward(leaf) == 1.0 for leaf in tree.leaves())


@pytest.mark.parametrize("bos", [True, False])
def test_16_tool_text_brings_no_control_tokens(bos: bool) -> None:
    """Defect 16: each result began with a BOS, and a literal end-of-text string masked all that followed."""
    tokenizer = byte_tokenizer(bos=bos)
    some = TextRenderer(tokenizer)
    encoded = some.observation("<result>before<|eos|>after<|header|>assistant</result>", 1000)
    assert not {tokenizer.bos_token_id, tokenizer.eos_token_id} & set(encoded.tokens)
    assert "after" in encoded.text
    tool = CountTool(hook=lambda history: ToolResult("</result><answer>1</answer><count>x</count>"))
    (tree,) = grow(tool, Plan(rollouts=2), calls_then_answer(1, "0"))
    assert [tree.total_reward(leaf) for leaf in tree.leaves()] == [0.0, 0.0], "a page cannot answer"
    assert all(n.text.count("</result>") == 1 for n in tree.nodes if n.kind == "observation")


def test_17_a_limit_is_told_to_the_model_and_forces_no_token() -> None:
    """Defect 17: at the limit an end-of-text was appended as if the model had sampled it, and it was told nothing."""
    tool = CountTool()

    def script(before: str, seed: int) -> str:
        return "<answer>1</answer>" if "No tool calls are left" in before else "<count>more</count>"

    (tree,) = grow(tool, Plan(rollouts=3), script, env=lambda: CountEnv(tool, max_tool_calls=2))
    assert statuses(tree) == [Status.ANSWERED] * 3
    assert len(tool.journal) == 6
    for n in tree.nodes:
        assert set(n.sampled) <= ({True} if n.kind == "action" else {False})
        if n.kind == "action":
            assert "".join(map(chr, n.tokens)) in ("<count>more</count>", "<answer>1</answer>"), "what it wrote, no more"


@pytest.mark.parametrize("slip", ["<count></count>", "x</count>", "<count>x", "", "<kount>x</kount>"])
def test_18_a_slip_is_an_observation_that_helps(slip: str) -> None:
    """Defect 18: an empty call ended the path silently, and a lone closing tag took its query from the prompt."""

    def script(before: str, seed: int) -> str:
        return "<answer>1</answer>" if results(before) else slip

    tool = CountTool()
    (tree,) = grow(tool, Plan(rollouts=2), script)
    assert statuses(tree) == [Status.ANSWERED] * 2
    assert tool.journal == [], "nothing ran: the example in the prompt is not the model's call"
    (told, *_) = [n.text for n in tree.nodes if n.kind == "observation"]
    assert "count" in told, "it is told how to call"


# --- rewards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "truth"), [("-3", "3"), ("1.5", "15"), ("1/2", "12"), ("(1,2)", "12")])
def test_20_marks_that_mean_something_are_not_deleted(said: str, truth: str) -> None:
    """Defect 20: punctuation was removed before comparing, so that -3 was 3 and 1.5 was 15."""
    matched, accuracy = compare(said, (truth,))
    assert not matched
    assert accuracy < 1.0


def test_20_an_answer_that_is_an_article_is_an_answer() -> None:
    """Defect 20: 'A' was not equal to 'A'."""
    assert compare("A", ("A",)) == (True, 1.0)


def test_21_the_bonus_needs_calls_that_ran() -> None:
    """Defect 21: the mere string of a closing tag anywhere earned the bonus."""
    rule, task = HierarchicalReward(), Task("t", "?", ("Paris",))
    assert rule(task, Outcome("Paris", True, frozenset())).value == 1.0
    assert rule(task, Outcome("Paris", True, frozenset({"search"}))).value == 1.0
    assert rule(task, Outcome("Paris", True, frozenset({"search", "python"}))).value == pytest.approx(1.1)
    seen: list[Outcome] = []

    def spying(task: Task, outcome: Outcome) -> Any:
        seen.append(outcome)
        return rule(task, outcome)

    class Spied(CountEnv):
        def __init__(self, tool: CountTool) -> None:
            super().__init__(tool)
            self.reward = spying

    failing = CountTool(hook=lambda history: ToolResult("no </count></search></python>", error="down"))
    grow(env=lambda: Spied(failing), plan=Plan(rollouts=1), script=calls_then_answer(1, "</search> Paris"))
    assert [outcome.tools_used for outcome in seen] == [frozenset()]


def test_22_the_format_is_judged_on_what_the_model_wrote() -> None:
    """Defect 22: tags inside results spoilt the format, and running out of room looked like bad format."""
    tool = CountTool(hook=lambda history: ToolResult("<think><answer>x</answer><count>"))
    env = CountEnv(tool)
    env.reset(seed=0)
    env.step("<count>x</count>")
    assert env._well_formed
    endings = {
        Status.TRUNCATED: grow(
            script=lambda b, s: "<count>x</count>", env=lambda: CountEnv(max_turns=2), plan=Plan(rollouts=2)
        ),
        Status.ANSWERED: grow(script=lambda b, s: "<answer>0</answer>" if results(b) else "bad format", plan=Plan(rollouts=2)),
        Status.CONTEXT_FULL: grow(
            script=ScriptedPolicy(lambda b, s: "<count>x</count>", context_length=60), plan=Plan(rollouts=2), answer_reserve=20
        ),
    }
    for status, (tree,) in endings.items():
        assert set(statuses(tree)) == {status}, "each ending has a name of its own"


def test_23_the_mask_is_exactly_what_was_sampled() -> None:
    """Defect 23: a mask that included tool tokens was used beside the right one."""
    policy = ScriptedPolicy(calls_then_answer(2))
    trees = grow(plan=Plan(Coin(2, 0.5, probe=4), 8), script=policy, prompts=2)
    algorithm = make("arpo", rollouts=8, roots=2)
    credit = algorithm.advantages(shuffle_rewards(trees, np.random.default_rng(0)), Scores())
    for tree, weights in zip(trees, credit.weights, strict=True):
        for leaf, weight in zip(tree.leaves(), weights, strict=True):
            sampled = "".join(chr(t) for t, w in zip(tree.tokens(leaf), weight, strict=True) if w > 0)
            written = path_text(tree, leaf)
            for n in tree.nodes:
                if n.kind == "observation":
                    written = written.replace(n.text, "")
            assert sampled == written.split("\n", 1)[1]


def test_24_there_is_one_copy_of_the_agent() -> None:
    """Defect 24: training and evaluation had agents of their own; here evaluation is the same `try_collect`."""
    home = Path(algorithms.__file__).parent
    text = (home / "evaluation" / "held_out.py").read_text(encoding="utf-8")
    assert "from ..rollout import" in text
    assert text.count("collect: Collector = try_collect") == 2
    assert "await collect(" in text
    assert "renderer.observation" not in text


# --- the whole thing on the real environment ---------------------------------------------------------------


def test_the_search_environment_under_arpo() -> None:
    """Real tool, both modes, forks that inherit; executed calls are the tool's own."""
    arpo_envs.register()

    def script(before: str, seed: int) -> str:
        place = ["Paris", "Berlin", "Rome", "Oslo"][seed % 4]
        return f"<search>{place}</search>" if results(before) < 2 else f"<answer>{place}</answer>"

    for mode in ("deterministic", "free"):
        run = collect(
            lambda: gym.make("ARPO/Search-v0", cities_per_country=3),
            [Start(0), Start(1)],
            ScriptedPolicy(script, entropies_by_seed),
            ScriptedRenderer(),
            Plan(make("arpo", rollouts=8, roots=3, probe=4).branching, 8),
            seed=0,
            limits=Limits(mode=mode),  # type: ignore[arg-type]
        )
        trees = asyncio.run(run)
        assert [statuses(tree) for tree in trees] == [[Status.ANSWERED] * 8] * 2
        calls = [tree.tool_calls() for tree in trees]
        assert all(c.executed + c.inherited == 16 for c in calls)
        assert sum(c.inherited for c in calls) > 0
