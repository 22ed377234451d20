"""Snapshot, restore and clone, through stacks of wrappers."""

import copy
import pickle
import threading
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformObservation, TransformReward
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Echo, Note, NoteSession, TownEnv, Walk, play

from arpo_envs.errors import NotForkable, SnapshotMismatch
from arpo_envs.forking import ForkLevel, clone, clone_many, describe, fork_level, layers, reseed, reseeded, snapshot
from arpo_envs.restoring import restore
from wrappers import TokenBudget, Transcript

NOTE_A, NOTE_B = "<note>a</note>", "<note>b</note>"


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gym.register("Toy/Fork-v0", entry_point="toys:TownEnv", max_episode_steps=3)
    yield
    del gym.registry["Toy/Fork-v0"]


def deep_stack() -> gym.Env:
    env: Any = RecordEpisodeStatistics(TimeLimit(TownEnv(), 4))
    env = TransformObservation(env, str.upper, env.observation_space)
    return TransformReward(env, float)


STACKS = {
    "bare": TownEnv,
    "gym.make": lambda: gym.make("Toy/Fork-v0"),
    "deep": deep_stack,
    "ours": lambda: Transcript(TokenBudget(gym.make("Toy/Fork-v0"), len, limit=300, reserve=50)),
    "walk": lambda: TimeLimit(Walk(), 4),
}


# --- levels -------------------------------------------------------------------------------------------


def test_levels_order_by_faithfulness():
    assert ForkLevel.NONE < ForkLevel.REPLAY < ForkLevel.EXACT
    assert min(ForkLevel.EXACT, ForkLevel.REPLAY) is ForkLevel.REPLAY


def test_an_environment_forks_as_well_as_its_worst_tool():
    class Replayed(Note):
        fork_level = ForkLevel.REPLAY

    assert fork_level(TownEnv()) is ForkLevel.EXACT
    assert fork_level(Transcript(TownEnv(note=Replayed()))) is ForkLevel.REPLAY


def test_what_declares_nothing_is_closed():
    class Silent(gym.Env):
        pass

    assert fork_level(Silent()) is ForkLevel.NONE
    with pytest.raises(NotForkable, match=r"Silent does not declare .*check_forkable_env"):
        clone(Silent())


def test_a_wrapper_can_close_the_stack_and_so_can_its_heirs():
    class Closed(gym.Wrapper):
        fork_level: ClassVar = ForkLevel.NONE

    class Heir(Closed):
        pass

    for wrapper in (Closed, Heir):
        assert fork_level(wrapper(TownEnv())) is ForkLevel.NONE
        with pytest.raises(NotForkable, match=f"The wrapper {wrapper.__name__} declares"):
            snapshot(TimeLimit(wrapper(TownEnv()), 3))


def test_ezpickle_is_refused_by_name():
    class Easy(Walk, gym.utils.EzPickle):
        def __init__(self) -> None:
            Walk.__init__(self)
            gym.utils.EzPickle.__init__(self)

    with pytest.raises(NotForkable, match=r"Easy inherits gymnasium\.utils\.EzPickle"):
        clone_many(TimeLimit(Easy(), 3), [None])


# --- messages -----------------------------------------------------------------------------------------


def test_describe_names_the_stack():
    assert describe(gym.make("Toy/Fork-v0")) == "TimeLimit<OrderEnforcing<PassiveEnvChecker<TownEnv Toy/Fork-v0>>>"
    assert [type(layer).__name__ for layer in layers(TimeLimit(Walk(), 3))] == ["TimeLimit", "Walk"]


def test_the_culprit_is_named_with_its_attribute():
    env = TimeLimit(Transcript(TownEnv()), 3)
    env.env.guard = threading.Lock()
    env.reset(seed=0)
    with pytest.raises(NotForkable, match=r"Transcript\.guard \(a lock\) cannot be copied"):
        clone(env)


def test_sessions_and_shared_things_are_never_blamed():
    class Engine(Echo):
        def __init__(self) -> None:
            self.lock = threading.Lock()  # a tool is shared, a session cloned: neither is deep-copied

    class Guarded(NoteSession):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.lock = threading.Lock()

    class GuardedNote(Note):
        session = Guarded

    env = TownEnv(note=GuardedNote())
    env.tools = (Engine(), env.tools[1])
    env.reset(seed=0)
    clone(env).close()
    env.zebra = threading.Lock()
    with pytest.raises(NotForkable, match=r"TownEnv\.zebra"):
        clone(env)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: TimeLimit(Transcript(TownEnv()), 3), r"taken of TimeLimit<Transcript<TownEnv>>, this is Transcript<TownEnv>"),
        (lambda: TownEnv(), r"taken of TownEnv, this is Transcript<TownEnv>"),
        (lambda: Transcript(TownEnv(max_turns=5)), r"taken of Transcript<TownEnv>, this is Transcript<TownEnv>"),
        (lambda: Transcript(TownEnv(dialect="json")), r"taken of Transcript<TownEnv>"),
        (lambda: Transcript(TownEnv(), observation_role="tool"), r"taken of Transcript<TownEnv>"),
    ],
)
def test_foreign_snapshots_are_refused_by_name(other, named):
    env = Transcript(TownEnv())
    env.reset(seed=0)
    foreign = other()
    foreign.reset(seed=0)
    with snapshot(foreign) as snap, pytest.raises(SnapshotMismatch, match=f"Foreign snapshot: it was {named}"):
        restore(env, snap)
    assert play(env, [NOTE_A])[0][4]["turn"] == 1


def test_arguments_of_an_environment_without_identity_come_from_its_spec():
    gym.register("Toy/Walk-v1", entry_point="toys:Walk")
    try:
        long, short = gym.make("Toy/Walk-v1", limit=9), gym.make("Toy/Walk-v1", limit=2)
        long.reset(seed=0)
        short.reset(seed=0)
        with snapshot(long) as snap, pytest.raises(SnapshotMismatch, match="Toy/Walk-v1"):
            restore(short, snap)
    finally:
        del gym.registry["Toy/Walk-v1"]


def test_stale_snapshots_are_refused_by_name():
    env = TownEnv()
    env.reset(seed=0)
    snap = snapshot(env)
    snap.format += 1
    with pytest.raises(SnapshotMismatch, match=r"Stale snapshot of TownEnv: written in format 2"):
        restore(env, snap)
    snap.format -= 1
    snap.close()
    snap.close()
    assert snap.closed
    for use in (lambda: restore(env, snap), snap.spawn):
        with pytest.raises(SnapshotMismatch, match=r"Stale snapshot of TownEnv: it was closed"):
            use()


# --- clone, snapshot, restore ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
def test_a_clone_goes_on_as_the_original_would(name):
    actions = [0, 2, 1, 2] if name == "walk" else [NOTE_A, NOTE_B, "junk", "<answer>France</answer>"]
    reference = STACKS[name]()
    reference.reset(seed=3)
    wanted = play(reference, actions)
    env = STACKS[name]()
    env.reset(seed=3)
    play(env, actions[:1])
    twin = clone(env)
    assert play(env, actions[1:]) == wanted[1:]
    assert play(twin, actions[1:]) == wanted[1:]


def test_time_limit_travels():
    env = gym.make("Toy/Fork-v0")
    env.reset(seed=0)
    play(env, [NOTE_A])
    with snapshot(env) as snap:
        assert [step[3] for step in play(env, [NOTE_A] * 5)] == [False, True]
        restore(env, snap)
        assert [step[3] for step in play(env, [NOTE_A] * 5)] == [False, True]
        assert [step[3] for step in play(snap.spawn(), [NOTE_A] * 5)] == [False, True]


def test_shared_things_are_shared_and_sessions_are_not():
    env = TownEnv()
    env.reset(seed=0)
    twin = clone(env)
    assert twin.tasks is env.tasks
    assert twin.tools is env.tools
    assert twin.sessions[0] is env.sessions[0]  # a stateless tool
    assert twin.sessions[1] is not env.sessions[1]
    assert twin.np_random is not env.np_random


def test_restore_closes_the_sessions_it_replaces():
    env = TownEnv()
    env.reset(seed=0)
    old = env.sessions[1]
    with snapshot(env) as snap:
        restore(env, snap)
    assert old.closed
    assert not env.sessions[1].closed


def test_a_snapshot_owns_its_sessions():
    env = TownEnv()
    env.reset(seed=0)
    with snapshot(env) as snap:
        parked = snap._usable().sessions[1]
        assert not parked.closed
    assert parked.closed
    assert not env.sessions[1].closed


def test_clone_before_reset():
    twin = clone(TownEnv())
    assert twin.reset(seed=0) == TownEnv().reset(seed=0)


# --- seeds ---------------------------------------------------------------------------------------------------


def rolls(env: gym.Env) -> str:
    return str(play(env, [NOTE_A])[0][0])


def test_reseed_reaches_sessions_and_is_reproducible():
    env = TownEnv()
    env.reset(seed=0)
    assert rolls(clone(env)) == rolls(clone(env))
    assert rolls(clone(env, seed=1)) == rolls(clone(env, seed=1))
    assert len({rolls(clone(env, seed=seed)) for seed in range(20)}) == 20


def test_a_seed_decides_alone():
    """The state that a seed leads to has nothing of the state before."""
    used, fresh = TownEnv(), TownEnv()
    used.reset(seed=0)
    fresh.reset(seed=0)
    used.sessions[1].rng.random(5)
    used.np_random.random(5)
    for env in (used, fresh):
        reseed(env, 4)
    assert rolls(used) == rolls(fresh)
    assert used.np_random.random() == fresh.np_random.random()


def test_reseed_reaches_wrappers():
    class Noise(gym.Wrapper):
        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.first, self.second = np.random.default_rng(0), np.random.Generator(np.random.MT19937(0))

    env = Noise(Walk())
    env.reset(seed=0)
    one, two, three = clone(env, seed=1), clone(env, seed=1), clone(env, seed=2)
    assert one.first.random() == two.first.random() != three.first.random()
    assert one.second.random() == two.second.random() != three.second.random()
    assert isinstance(one.second.bit_generator, np.random.MT19937)
    assert one.unwrapped.np_random.random() == two.unwrapped.np_random.random()
    assert env.first.random() == np.random.default_rng(0).random()


def test_reseed_reaches_a_generator_that_was_never_used():
    env = Walk()
    env.reset()
    assert clone(env, seed=1).np_random.random() == clone(env, seed=1).np_random.random()


def test_sessions_draw_from_generators_of_their_own():
    """Otherwise a clone's session and environment, which shared one stream, would go on with two."""
    env = TownEnv()
    env.reset(seed=0)
    assert env.sessions[1].rng is not env.np_random


# --- pickling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bare", "gym.make", "walk"])
def test_portable_snapshots_travel(name):
    actions = [0, 2, 1] if name == "walk" else [NOTE_A, NOTE_B, NOTE_A]
    env = STACKS[name]()
    env.reset(seed=3)
    play(env, actions[:1])
    with snapshot(env) as snap:
        assert snap.portable
        arrived = pickle.loads(pickle.dumps(snap))
        wanted = play(env, actions[1:])
        assert play(arrived.spawn(), actions[1:]) == wanted
        restore(env, arrived)
        assert play(env, actions[1:]) == wanted


def test_what_does_not_pickle_says_so():
    env = TransformReward(TownEnv(), lambda reward: reward)
    env.reset(seed=0)
    with snapshot(env) as snap:
        assert not snap.portable


# --- any actions, any forks ------------------------------------------------------------------------------------

ACTIONS = st.sampled_from([NOTE_A, NOTE_B, "<echo>hi</echo>", "junk", "<answer>France</answer>", "<note></note>"])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([name for name in STACKS if name != "walk"]),
    seed=st.integers(0, 50),
    actions=st.lists(ACTIONS, min_size=1, max_size=7),
    forks=st.lists(st.sampled_from(["clone", "restore", "spawn", "deepcopy", "disturb"]), min_size=7, max_size=7),
)
def test_forking_anywhere_changes_nothing(name, seed, actions, forks):
    """Before each action the run moves to a copy, or back from a detour: the episode stays the same."""
    reference = STACKS[name]()
    reference.reset(seed=seed)
    wanted = play(reference, actions)
    env = STACKS[name]()
    env.reset(seed=seed)
    seen = []
    for action, fork in zip(actions[: len(wanted)], forks, strict=False):
        env = moved(env, fork)
        seen += play(env, [action])
    assert seen == wanted


def moved(env: gym.Env, fork: str) -> gym.Env:
    if fork == "disturb":
        twin = clone(env, seed=9)
        play(twin, [NOTE_B, "<answer>Japan</answer>"])
        twin.close()
        return env
    if fork == "deepcopy":
        return copy.deepcopy(env)
    if fork == "clone":
        twin = clone(env)
        play(env, [NOTE_B])
        env.close()
        return twin
    with snapshot(env) as snap:
        play(env, [NOTE_B, NOTE_B])
        if fork == "spawn":
            return snap.spawn()
        restore(env, snap)
        return env


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM])
def test_reseeded_keeps_the_kind_and_forgets_the_past(bits):
    used = np.random.Generator(bits(1))
    used.random(10)
    one, other = reseeded(used, [1, 2]), reseeded(np.random.Generator(bits(5)), [1, 2])
    assert type(one.bit_generator) is bits
    assert one.random() == other.random() != reseeded(used, [1, 3]).random()
