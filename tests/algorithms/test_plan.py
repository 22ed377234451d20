"""The simulation behind `arpo plan`: laws, cases worked by hand, and mistakes; no test looks at a clock."""

from dataclasses import replace

import numpy as np
import pytest
from credit_toys import grown
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import Coin, Plan, build, calls_then_answer, grow, node, varied

from algorithms.cluster.planning.fit import Taken, fitted, not_negative
from algorithms.cluster.planning.machine import Deaths, Layout, Machine, Tools
from algorithms.cluster.planning.plan import Setting, gains, losses, predict, splits
from algorithms.cluster.planning.simulate import Rolled, roll_out
from algorithms.cluster.planning.update import padded, update_seconds
from algorithms.cluster.planning.work import Episode, Path, Shape, Turn, Workload, episode_of, made_up, shape_of, workload_of
from algorithms.recipes import make
from algorithms.tree import Decision, Status
from arpo_envs import ConfigError

MACHINE = Machine(round_seconds=1.0, row_seconds=0.5, prefill_seconds=0.0, token_seconds=0.001)
EXACT = {"rel": 1e-9, "abs": 1e-9}
EPISODES = made_up(turns=2, action=8, result=6, prompt=10, episodes=5)


def drawing(*tokens: int) -> Path:
    """A path of actions without calls; each but the last is answered with one token."""
    return Path((*(Turn(count, 1, False) for count in tokens[:-1]), Turn(tokens[-1], 0, False)))


@st.composite
def shapes(draw: st.DrawFn, *, most: int = 4) -> list[Shape]:
    """Trees drawn from a workload, with forks and back-fills."""
    workload = Workload(
        EPISODES,
        prompts=draw(st.integers(1, most)),
        rollouts=draw(st.integers(2, 6)),
        roots=draw(st.integers(1, 2)),
        fork=draw(st.sampled_from([0.0, 0.5, 1.0])),
        probe=draw(st.sampled_from([0, 3])),
    )
    return workload.draw(draw(st.integers(0, 99)))


LAYOUTS = st.builds(
    Layout,
    engines=st.integers(1, 3),
    mode=st.sampled_from(["deterministic", "free"]),
    threads=st.integers(1, 4),
    elsewhere=st.sampled_from([None, 0, 1, 2, 3]),
)
LAW = settings(max_examples=40, deadline=None)
TOOLS = st.builds(Tools, st.sampled_from([0.0, 3.0]), st.sampled_from([0.0, 1.0]))


# --- worked by hand ---------------------------------------------------------------------------------------


def test_two_rows_share_rounds_until_one_ends() -> None:
    # 1 token each in a round of 1 + 2 × 0.5 = 2 s, then 2 more tokens in rounds of 1.5 s
    assert roll_out([Shape(1, (drawing(3), drawing(1)))], MACHINE).seconds == pytest.approx(5.0)


def test_a_prefill_holds_up_the_other_rows() -> None:
    # A draws 2 tokens beside B in 2 × 2 s. B's tool answers after 1 s, in which A gains 2/3 token at 1.5 s a round. Reading
    # takes 4 × 0.25 s, in which A stands still. A's last 4/3 token take 8/3 s beside B, and what B then lacks 1.5 s a token.
    machine = replace(MACHINE, prefill_seconds=0.25)
    path_b = Path((Turn(2, 4, True), Turn(3, 0, False)))
    rolled = roll_out([Shape(0, (drawing(4), path_b))], machine, tools=Tools(1.0))
    assert rolled.seconds == pytest.approx(4 + 1 + 1 + 8 / 3 + (3 - 4 / 3) * 1.5)
    assert rolled.spent.prefilled == 4


def test_a_fork_begins_after_the_probe_and_a_back_fill_when_nothing_runs() -> None:
    # one row: 1 token in 1.5 s, a probe of 2 tokens in 3 s; two rows: 1 token each in 2 s; the back-fill: 2 tokens in 3 s
    trunk = Path((Turn(1, 1, True), Turn(3, 0, False)))
    shape = Shape(0, (trunk, Path((Turn(1, 0, False),), parent=0, at=1), drawing(2)._replace(wave=1)), probe=2)
    rolled = roll_out([shape], MACHINE)
    assert rolled.seconds == pytest.approx(9.5)
    assert (rolled.sampled, rolled.begun, rolled.executed) == (7, 3, 1)


def test_rows_beyond_the_limit_wait() -> None:
    assert roll_out([Shape(0, (drawing(2), drawing(2)))], replace(MACHINE, rows=1)).seconds == pytest.approx(6.0)


def test_in_deterministic_mode_paths_wait_for_each_other() -> None:
    # free: 1 + 1 tokens beside 4: 2 × 2 s and 2 × 1.5 s; deterministic: 1 beside 4, then one alone
    shape = [Shape(0, (drawing(1, 1), drawing(4)))]
    assert roll_out(shape, MACHINE).seconds == pytest.approx(7.0)
    assert roll_out(shape, MACHINE, Layout(mode="deterministic")).seconds == pytest.approx(2 + 3 * 1.5 + 1.5)


def test_the_controlling_process_does_one_thing_at_a_time() -> None:
    machine = Machine(1e-12, 0.0, 0.0, 0.0, turn_seconds=2.0, fork_seconds=1.0)
    rolled = roll_out([Shape(0, (drawing(1), drawing(1)))], machine)  # opened, cloned twice, two turns
    assert (rolled.seconds, rolled.controller_seconds) == (pytest.approx(8.0), pytest.approx(8.0))


def test_tools_wait_for_threads() -> None:
    calls = [Shape(0, tuple(Path((Turn(1, 0, True),)) for _ in range(4)))]
    machine = Machine(1e-12, 0.0, 0.0, 0.0)
    seconds = [roll_out(calls, machine, Layout(threads=threads), Tools(5.0)).seconds for threads in (1, 2, 4)]
    assert seconds == pytest.approx([20.0, 10.0, 5.0])


def test_each_of_several_engines_is_a_process_that_does_one_thing_at_a_time() -> None:
    machine = Machine(1e-12, 0.0, 0.0, 0.0, turn_seconds=2.0)
    trees = [Shape(0, (drawing(1),)) for _ in range(4)]  # each is opened and takes a turn, 4 s
    seconds = {}
    for elsewhere in (0, 1, 2, 4):
        seconds[elsewhere] = roll_out(trees, machine, Layout(engines=4, elsewhere=elsewhere)).seconds
    assert seconds == {count: pytest.approx(16.0 / max(1, count)) for count in seconds}


def test_tools_have_threads_in_each_process() -> None:
    calls = [Shape(0, (Path((Turn(1, 0, True),)),)) for _ in range(6)]
    machine = Machine(1e-12, 0.0, 0.0, 0.0)
    seconds = [roll_out(calls, machine, Layout(engines=count, threads=1), Tools(5.0)).seconds for count in (1, 2, 3)]
    assert seconds == pytest.approx([30.0, 15.0, 10.0])


def test_in_another_process_a_tree_waits_for_no_other() -> None:
    # two trees in one process, in deterministic mode: 1 beside 4 and then another 1, as above; there, each by itself
    trees = [Shape(0, (drawing(1, 1),)), Shape(0, (drawing(4),))]
    here = roll_out(trees, MACHINE, Layout(mode="deterministic")).seconds
    there = roll_out(trees, MACHINE, Layout(mode="deterministic", elsewhere=1)).seconds
    assert (here, there) == (pytest.approx(8.0), pytest.approx(7.0))


def test_a_process_begins_a_tree_when_another_one_has_ended() -> None:
    # one row, so that four trees of one path are under way; each draws 2 tokens in 3 s, and the tool of the first takes 30 s
    machine = replace(MACHINE, rows=1)
    slow = Shape(0, (Path((Turn(2, 0, True),)),))
    trees = [slow, *(Shape(0, (drawing(2),)) for _ in range(9))]
    assert roll_out(trees, machine, Layout(elsewhere=1), Tools(30.0)).seconds == pytest.approx(3.0 + 30.0)


def test_an_update_is_as_long_as_its_longest_share() -> None:
    trees = [Shape(size, (Path((), 0.0), Path((), 1.0))) for size in (50, 30, 30)]
    machine = replace(MACHINE, packed_seconds=0.01, update_seconds=1.0, join_seconds=0.5, micro_batch_tokens=60)
    assert padded(trees, machine) == (0, 50 + 30 + 30)  # two paths of the same prompt; two trees fit together
    assert update_seconds(trees, machine, 1) == pytest.approx(1.0 + 1.10)
    assert update_seconds(trees, machine, 2) == pytest.approx(1.5 + 0.60)


def test_trees_of_equal_rewards_are_not_computed_and_trees_without_forks_lie_in_padded_plain_rows() -> None:
    equal, plain = Shape(5, (drawing(9), drawing(9))), Shape(5, (drawing(9), drawing(7)._replace(reward=1.0)))
    assert padded([equal, plain], MACHINE) == (2 * 14, 0)
    assert padded([equal, plain], replace(MACHINE, micro_batch_tokens=27)) == (14 + 12, 0)


# --- laws -------------------------------------------------------------------------------------------------


@given(shapes(), LAYOUTS, TOOLS, st.integers(0, 9))
@LAW
def test_work_is_conserved_and_repeats(trees: list[Shape], layout: Layout, tools: Tools, seed: int) -> None:
    rolled = roll_out(trees, MACHINE, layout, tools, seed=seed)
    assert rolled.spent.drawn == pytest.approx(rolled.sampled, **EXACT)
    assert rolled.sampled == sum(turn.sampled for tree in trees for path in tree.paths for turn in path.turns)
    assert rolled.executed == sum(tree.executed for tree in trees)
    ends = sum(path.turns[-1].result for tree in trees for path in tree.paths)
    assert rolled.spent.prefilled == sum(tree.tokens - tree.sampled for tree in trees) - ends
    assert rolled == roll_out(trees, MACHINE, layout, tools, seed=seed)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=6))
@LAW
def test_one_engine_without_waiting_takes_what_its_rounds_take(paths: list[list[int]]) -> None:
    lengths = [sum(path) for path in paths]
    rounds = [sum(length > done for length in lengths) for done in range(max(lengths))]
    expected = sum(1.0 + 0.5 * rows for rows in rounds)
    assert roll_out([Shape(0, tuple(drawing(*path) for path in paths))], MACHINE).seconds == pytest.approx(expected)


@given(shapes(), st.integers(1, 3))
@LAW
def test_twice_the_engines_are_never_slower_where_nothing_waits(trees: list[Shape], engines: int) -> None:
    few, many = (roll_out(trees, MACHINE, Layout(engines=count)).seconds for count in (engines, 2 * engines))
    assert many <= few * (1 + 1e-9)


@given(shapes(), st.integers(1, 4))
@LAW
def test_another_learner_never_slows_an_update(trees: list[Shape], learners: int) -> None:
    unpadded = replace(MACHINE, micro_batch_tokens=1, packs_from=0.0)  # padding may be worse in smaller shares
    assert update_seconds(trees, unpadded, learners + 1) <= update_seconds(trees, unpadded, learners) * (1 + 1e-9)


@given(shapes(), st.integers(1, 2), st.sampled_from([0.5, 2.0]))
@LAW
def test_slower_tools_never_help_where_paths_wait_for_each_other(trees: list[Shape], engines: int, latency: float) -> None:
    layout = Layout(engines=engines, mode="deterministic", threads=3)
    before, after = (roll_out(trees, MACHINE, layout, Tools(seconds)).seconds for seconds in (latency, 2 * latency))
    assert after >= before - 1e-9


@given(shapes(), st.integers(0, 9))
@LAW
def test_deaths_of_the_only_engine_add_time_and_all_is_drawn_in_the_end(trees: list[Shape], seed: int) -> None:
    calm = roll_out(trees, MACHINE, seed=seed)
    hit = roll_out(trees, MACHINE, deaths=Deaths(60.0, notice_seconds=0.5, restart_seconds=2.0), seed=seed)
    assert hit.seconds >= calm.seconds * (1 - 1e-9)
    assert hit.spent.drawn == pytest.approx(calm.spent.drawn + hit.lost, **EXACT)
    assert (hit.deaths == 0) <= (hit.retries == 0)


def died_once(layout: Layout, trees: list[Shape]) -> Rolled:
    """Returns rollouts in which one engine dies, and does not come back."""
    deaths = Deaths(120.0, notice_seconds=1.0, restart_seconds=1e6)
    tried = (roll_out(trees, MACHINE, layout, deaths=deaths, seed=seed) for seed in range(99))
    return next(rolled for rolled in tried if rolled.deaths == 1)


def test_what_a_dead_engine_was_drawing_is_drawn_by_another() -> None:
    hit = died_once(Layout(engines=2, elsewhere=0), [Shape(7, (drawing(30),)), Shape(7, (drawing(30),))])
    assert hit.retries == 1
    assert 0 < hit.lost < 30
    assert hit.spent.prefilled == 3 * 7  # the survivor reads the prompt again


def test_trees_of_a_dead_process_are_grown_again_from_their_beginning() -> None:
    # five actions of 6 tokens: 9 s each, with an answer of one token read in no time
    trees = [Shape(7, (drawing(6, 6, 6, 6, 6),)), Shape(7, (drawing(6, 6, 6, 6, 6),))]
    hit = died_once(Layout(engines=2), trees)
    assert hit.retries == 1
    assert 0 < hit.lost < 30
    assert hit.spent.drawn == pytest.approx(60 + hit.lost, **EXACT)
    calm = roll_out(trees, MACHINE, Layout(engines=2)).seconds
    assert calm < hit.seconds < 3 * calm


@given(shapes(), st.integers(1, 3), st.sampled_from([0, 1, 2]), st.integers(0, 9))
@LAW
def test_whoever_dies_all_trees_are_grown_and_every_token_is_accounted_for(
    trees: list[Shape], engines: int, elsewhere: int, seed: int
) -> None:
    layout = Layout(engines=engines, elsewhere=elsewhere and engines, mode="deterministic")
    hit = roll_out(trees, MACHINE, layout, deaths=Deaths(60.0, notice_seconds=0.5, restart_seconds=2.0), seed=seed)
    assert hit.spent.drawn == pytest.approx(hit.sampled + hit.lost, **EXACT)
    assert (hit.retries == 0) >= (hit.deaths == 0)


# --- shapes and workloads ---------------------------------------------------------------------------------


@given(grown())
@LAW
def test_a_shape_has_the_tokens_of_its_tree(tree) -> None:
    shape = shape_of(tree)
    assert shape.tokens == sum(len(node.tokens) for node in tree.nodes)
    assert sorted(map(shape.length, shape.paths)) == sorted(map(tree.length, tree.leaves()))
    whole = episode_of(shape)
    assert sorted(sum(turn.sampled + turn.result for turn in path.turns) + whole.prompt for path in whole.paths) == sorted(
        map(tree.length, tree.leaves())
    )


@pytest.mark.parametrize("coin", [Coin(2, 0.5), Coin(1, 1.0, siblings=2), Coin(None, 0.0)])
def test_a_shape_has_the_calls_and_forks_of_its_tree(coin: Coin) -> None:
    for tree in grow(plan=Plan(coin, 6), script=varied, prompts=4):
        shape, calls = shape_of(tree), tree.tool_calls()
        assert (shape.executed, shape.inherited) == (calls.executed, calls.inherited)
        assert shape.forks == sum(node.origin == "branch" for node in tree.nodes)
        assert all(path.wave == 0 for path in shape.paths if path.parent >= 0)
        assert sum(path.wave for path in shape.paths) == sum(node.origin == "backfill" for node in tree.nodes)


def test_a_path_that_was_begun_when_nothing_ran_is_late() -> None:
    asked = {"kind": "observation", "decision": Decision(None, None, None, 1, 1)}
    trunk = [node((), -1, [1, 2]), node((0,), 0, [3], origin="root"), node((0, 0), 1, [4, 5], kind="observation")]
    ends = [node((0, 0, n), 2, [6] * (n + 1), origin=("", "branch")[n], status=Status.ANSWERED) for n in (0, 1)]
    own = (Turn(1, 2, False), Turn(1, 0, False))
    assert shape_of(build(*trunk, *ends)).paths == (Path(own), Path((Turn(2, 0, False),), parent=0, at=1, wave=1))
    trunk[2] = node((0, 0), 1, [4, 5], **asked)
    assert shape_of(build(*trunk, *ends)).paths[1].wave == 0


@given(shapes())
@LAW
def test_every_tree_that_is_drawn_has_its_leaves(trees: list[Shape]) -> None:
    assert len({len(tree.paths) for tree in trees}) == 1
    for tree in trees:
        assert all(path.turns and path.parent < number for number, path in enumerate(tree.paths))


def test_a_tree_without_forks_takes_each_path_once() -> None:
    (shape,) = Workload(EPISODES[:1], prompts=1).draw(0)
    assert sorted(shape.paths) == sorted(EPISODES[0].paths)


def test_a_workload_is_read_from_trees() -> None:
    trees = grow(plan=Plan(Coin(2, 1.0), 4), script=calls_then_answer(2), prompts=3)
    found = workload_of(trees, make("arpo", rollouts=8, roots=2, probe=5), 7)
    assert (found.prompts, found.rollouts, found.roots, found.fork, found.siblings, found.probe) == (7, 8, 2, 1.0, 1, 5)
    assert workload_of(trees, make("grpo", rollouts=8), 7).fork == 0.0
    with pytest.raises(ConfigError, match="How often EntropyBranching forks"):
        workload_of(grow(), make("arpo"), 7)
    with pytest.raises(ConfigError, match="there is none with a path"):
        workload_of([], make("grpo"), 7)


# --- constants from steps ---------------------------------------------------------------------------------


def test_constants_are_found_again() -> None:
    truth = Machine(0.01, 0.001, 0.0002, 0.004, 0.006, request_seconds=0.0005, turn_seconds=0.002, update_seconds=0.1)
    taken = []
    for prompts, rollouts, fork in ((2, 4, 0.5), (8, 4, 0.0), (4, 12, 1.0), (12, 8, 0.2), (3, 2, 0.0), (6, 3, 0.0)):
        workload = Workload(EPISODES, prompts, rollouts, max(1, rollouts // 2), fork, probe=3)
        for step in range(3):
            trees = workload.draw(step)
            seconds = roll_out(trees, truth, Layout(mode="deterministic")).seconds
            taken.append(Taken(tuple(trees), seconds, update_seconds(trees, truth, 1)))
    # the process and the engine overlap a little, so that seconds are not quite a sum
    found, unseen = fitted(taken), Workload(EPISODES, 20, 10, 5, 0.4, probe=3).draw(9)
    layout = Layout(mode="deterministic")
    assert roll_out(unseen, found, layout).seconds == pytest.approx(roll_out(unseen, truth, layout).seconds, rel=0.05)
    for trees in (unseen, Workload(EPISODES, 20, 10, 10).draw(9)):
        assert update_seconds(trees, found, 1) == pytest.approx(update_seconds(trees, truth, 1), rel=0.01)


@given(st.integers(0, 999))
@LAW
def test_a_solution_without_negative_numbers_is_the_best_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(6, 3)), rng.normal(size=6)
    found = not_negative(left, right)
    slope = left.T @ (left @ found - right)  # Karush, Kuhn and Tucker: 0 where a number is positive, else not negative
    assert (found >= 0).all()
    assert (slope > -1e-8).all()
    assert np.abs(slope[found > 0]).max(initial=0) < 1e-8


def test_constants_need_steps() -> None:
    with pytest.raises(ConfigError, match="there are none here"):
        fitted([])


# --- plans ------------------------------------------------------------------------------------------------

SETTING = Setting(replace(MACHINE, round_seconds=0.01, row_seconds=0.001), Workload(EPISODES, 4, 4, 2, 0.5), steps=2)


def test_one_step_ahead_hides_the_shorter_part() -> None:
    apart = predict(SETTING)
    ahead = predict(replace(SETTING, layout=Layout(ahead=1)))
    assert apart.seconds == pytest.approx(apart.rollout + apart.update)
    assert ahead.seconds == pytest.approx(max(apart.rollout, apart.update), rel=0.2)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"machine": replace(SETTING.machine, token_seconds=9.0)}, "the update"),
        ({"machine": replace(SETTING.machine, load_seconds=900.0)}, "loading weights"),
        ({"machine": replace(SETTING.machine, turn_seconds=9.0)}, "the controlling process"),
        ({"tools": Tools(60.0)}, "waiting for tools"),
        ({"machine": replace(SETTING.machine, round_seconds=9.0)}, "decoding"),
    ],
)
def test_the_bottleneck_is_what_takes_the_longest(change, name: str) -> None:
    first, *_ = gains(replace(SETTING, **change)).items()
    assert first[0] == name
    assert 0.4 < first[1] <= 0.5


def test_too_few_tool_threads_are_noticed() -> None:
    slow = replace(SETTING, tools=Tools(60.0))
    assert gains(slow)["waiting for a tool thread"] == 0.0
    assert gains(replace(slow, layout=Layout(threads=1)))["waiting for a tool thread"] > 0.4


def test_splits_use_all_devices_and_the_fastest_comes_first() -> None:
    found = splits(replace(SETTING, layout=Layout(engine_devices=2)), 8)
    assert [split.step.seconds for split in found] == sorted(split.step.seconds for split in found)
    assert {split.layout.devices for split in found} == {8}
    assert {(split.layout.engines, split.layout.learners) for split in found} == {(4, 8), (3, 2), (2, 4), (1, 6)}


def test_deaths_cost_in_proportion() -> None:
    few, many = (losses(SETTING, Deaths(rate), engines=4, trees=16) for rate in (0.01, 0.02))
    assert losses(SETTING, Deaths(0.0), engines=4, trees=16).slower == 0.0
    assert many.retries_per_hour == pytest.approx(2 * few.retries_per_hour)
    assert many.slower == pytest.approx(2 * few.slower)
    assert few.deaths_per_hour == pytest.approx(0.04)
    assert few.lost_tokens > 0


# --- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: replace(MACHINE, row_seconds=-1.0), "row_seconds must be a number that is not negative, got -1.0"),
        (lambda: replace(MACHINE, token_seconds=float("nan")), "token_seconds"),
        (lambda: replace(MACHINE, rows=0), "rows must be at least 1"),
        (lambda: Machine(0.0, 0.0, 1.0, 1.0), "must not both be 0"),
        (lambda: Machine.of({"round_second": 1.0}), "Did you mean 'round_seconds'"),
        (lambda: Machine.of({"round_seconds": 1.0}), "row_seconds, prefill_seconds, token_seconds, too"),
        (lambda: Machine("x", 0.0, 0.0, 0.0), "round_seconds must be a number that is not negative, got 'x'"),
        (lambda: Layout(engines=0), "engines must be at least 1"),
        (lambda: Layout(shared=True, ahead=1), "devices of their own"),
        (lambda: Layout(ahead=2), "ahead must be 0 or 1"),
        (lambda: Tools(-1.0), "must not be negative"),
        (lambda: Deaths(per_hour=-0.1), "per_hour must not be negative"),
        (lambda: Workload(EPISODES, rollouts=2, roots=3), "roots = 3 is more than rollouts = 2"),
        (lambda: Workload(EPISODES, fork=1.5), "fork must be a probability"),
        (lambda: Workload(EPISODES, probe=-1), "probe must not be negative"),
        (lambda: Workload((Episode(3, ()),)), "at least one episode with a path"),
        (lambda: made_up(turns=-1, action=5, result=5, prompt=5), "must not be negative"),
        (lambda: replace(SETTING, steps=0), "steps must be at least 1"),
        (lambda: splits(SETTING, 0), "0 devices are too few"),
    ],
)
def test_mistakes_are_named(make_it, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()
