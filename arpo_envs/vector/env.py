"""`ForkableVectorEnv`: Gymnasium's vector interface, and rows that can be stepped alone and forked."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ..errors import ConfigError, ForkError, RowError, unknown_name
from .batches import Batch, batch, infos_together, required_steps, separate, together
from .dispatch import Dispatcher, Rows, required_rows
from .row import Row, Step, as_fork_error, close_all
from .seeding import one_each, reset_mask, spread

_PATIENCE = 10.0
"""Seconds that `close` waits for tools that are still at work; they are told to stop, and a hung one is left behind."""

Options = Mapping[str, Any]


class ForkableVectorEnv(VectorEnv[Any, Any, NDArray[Any]]):
    """Several environments at once, each in a thread of its own: a slow tool in one row never delays another.

    `reset` and `step` return what those of `gymnasium.vector.SyncVectorEnv` return. `step_subset` and `reset_subset` act on
    some rows, and may be called from several threads for different rows; `send` starts rows without waiting, and `recv`
    returns those that are done. Whatever one row raises is a `RowError` with its number; it holds what the others returned.

    Args:
        env_fns: one function for each row, which makes its environment; all have equal spaces.
        autoreset_mode: when an ended episode is followed by the next one: at the "NextStep", in the "SameStep", or only when
            asked ("Disabled").

    Raises:
        ConfigError: there is no row, the spaces differ, or no mode has that name.

    >>> envs = gym.make_vec("ARPO/SearchMini-v0", num_envs=3, autoreset_mode="Disabled")
    >>> questions, infos = envs.reset(seed=7)
    >>> results, *_ = envs.step_subset([0], ["<search>France</search>"])
    >>> copies, infos = envs.fork(0, [1, 2])
    >>> copies == (results[0], results[0])
    True
    >>> *_, infos = envs.step(["<answer>Paris</answer>", "<answer>Lyon</answer>", "<search>Chad</search>"])
    >>> infos["answer"].tolist()
    ['Paris', 'Lyon', None]
    >>> envs.close()
    """

    def __init__(
        self,
        env_fns: "Sequence[Callable[[], gym.Env[Any, Any]]]",
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        modes = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset_mode, AutoresetMode) and autoreset_mode not in modes:
            raise unknown_name("autoreset mode", str(autoreset_mode), modes)
        mode = AutoresetMode(autoreset_mode)
        self._rows = _made(env_fns, mode)
        self._dispatcher = Dispatcher(len(self._rows))
        self.num_envs = len(self._rows)
        first = self._rows[0].env
        self.metadata = {**first.metadata, "autoreset_mode": mode}
        self.render_mode = first.render_mode
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(first.observation_space, self.num_envs)
        self.action_space = batch_space(first.action_space, self.num_envs)
        self._action_spaces = {self.num_envs: self.action_space}  # by the number of rows: making one takes longer than a step

    @property
    def envs(self) -> "list[gym.Env[Any, Any]]":
        """The environments of the rows."""
        return [row.env for row in self._rows]

    # --- Gymnasium's interface ------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in every row, or in those of a mask.

        Args:
            seed: None, a number (row i gets seed + i), or one of these for each row.
            options: those of the environments, and "reset_mask", a boolean array [num_envs] of the rows to reset. It is not
                changed, so that a wrapper can still read the mask.

        Returns:
            The observations of all rows, and the infos of those that were reset.

        Raises:
            ConfigError: there are more or fewer seeds than rows, or the mask is not one.
            ResetNeeded: a row that is not in the mask was never reset.
            RowError: a row failed.
        """
        seeds = spread(seed, list(range(self.num_envs)))
        rows, others = reset_mask(options, self.num_envs)
        if new := [i for i, row in enumerate(self._rows) if row.last is None and i not in rows]:
            raise gym.error.ResetNeeded(f"Rows {new} were never reset: reset all rows first.")
        steps = self._reset({row: partial(self._rows[row].reset, seeds[row], others) for row in rows})
        observations = together(self.single_observation_space, [row.last.observation for row in self._rows if row.last])
        return observations, infos_together({row: step.info for row, step in steps.items()}, self.num_envs)

    def step(self, actions: Any) -> Batch:
        """Takes one action in every row; see `step_subset`."""
        return self.step_subset(range(self.num_envs), actions)

    def render(self) -> tuple[Any, ...]:
        """Returns what each row renders."""
        with self._claimed("render", range(self.num_envs)):
            return tuple(env.render() for env in self.envs)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of every row, through its wrappers, or reads an attribute."""
        with self._claimed("call", range(self.num_envs)):
            found = [env.get_wrapper_attr(name) for env in self.envs]
            return tuple(one(*args, **kwargs) if callable(one) else one for one in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Returns an attribute of every row, through its wrappers."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every row.

        Args:
            name: of the attribute.
            values: a list or tuple with one value for each row, or one value for all.

        Raises:
            ConfigError: there are more or fewer values than rows.
        """
        each = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise ConfigError(f"Expected {self.num_envs} values of {name}, one per row, got {len(each)}.")
        with self._claimed("set_attr", range(self.num_envs)):
            for env, value in zip(self.envs, each, strict=True):
                env.set_wrapper_attr(name, value)

    @property  # type: ignore[misc]  # as in SyncVectorEnv
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]  # as in SyncVectorEnv
        """The generator of each row."""
        return self.get_attr("np_random")

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]  # as in SyncVectorEnv
        """The seed of each row's generator; -1 where it is not known."""
        return self.get_attr("np_random_seed")

    def close_extras(self, **kwargs: Any) -> None:
        """Closes every row, also those at work, and ends the threads.

        Raises:
            RowError: a row could not be closed; the others are.
        """
        busy = self._dispatcher.shut()
        raised = close_all(self._rows)
        self._dispatcher.join(_PATIENCE)
        # a row in use is closed again by its own thread
        _raise_failed({row: error for row, error in enumerate(raised) if error is not None and row not in busy})

    # --- rows by themselves ---------------------------------------------------------------------

    def reset_subset(
        self,
        rows: Rows,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Options | Sequence[Options | None] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in some rows.

        Args:
            rows: their numbers.
            seed: None, a number (row i gets seed + i), or one of these for each of `rows`.
            options: for all of them, or one of these for each.

        Returns:
            Observations and infos of these rows, in the order of `rows`.

        Raises:
            ConfigError: the rows are wrong, or there are more or fewer seeds or options than rows.
            AlreadyPendingCallError: one of them is still at work.
            RowError: one failed.
        """
        rows = required_rows(rows, self.num_envs)
        seeds, each = spread(seed, rows), one_each(options, len(rows))
        calls = zip(rows, seeds, each, strict=True)
        steps = self._reset({row: partial(self._rows[row].reset, one, chosen) for row, one, chosen in calls})
        observations = together(self.single_observation_space, [step.observation for step in steps.values()])
        return observations, infos_together({row: step.info for row, step in steps.items()})

    def step_subset(self, rows: Rows, actions: Any) -> Batch:
        """Takes one action in some rows, and waits for these alone.

        Args:
            rows: their numbers.
            actions: one for each, batched as Gymnasium does.

        Returns:
            Observations, rewards, terminations, truncations and infos of these rows, in the order of `rows`.

        Raises:
            ConfigError: the rows are wrong, or there are more or fewer actions than rows.
            AlreadyPendingCallError: one of them is still at work.
            ResetNeeded: one has ended and is not reset by itself, or never began; no row was stepped.
            RowError: one failed.
        """
        with self._claimed("step", rows) as rows:
            calls = self._steps(rows, actions)
            outcomes = self._dispatcher.run(calls)
        return batch(self.single_observation_space, required_steps(outcomes))

    def send(self, rows: Rows, actions: Any) -> None:
        """Starts one action in some rows, and returns at once; `recv` returns what comes of it.

        Args:
            rows: their numbers.
            actions: one for each, batched as Gymnasium does.

        Raises:
            ConfigError, AlreadyPendingCallError, ResetNeeded: as `step_subset`.
        """
        rows = required_rows(rows, self.num_envs)
        self._dispatcher.claim(rows, "send")
        try:
            calls = self._steps(rows, actions)
        except BaseException:
            self._dispatcher.free(rows)
            raise
        self._dispatcher.send(calls)

    def recv(self, at_least: int = 1, timeout: float | None = None) -> tuple[NDArray[Any], Batch]:
        """Returns the rows that were sent and are done, as soon as there are enough.

        Args:
            at_least: how many rows to wait for.
            timeout: seconds to wait; None for ever.

        Returns:
            The rows' numbers, and what `step_subset` returns of them.

        Raises:
            NoAsyncCallError: no row was sent.
            ConfigError: fewer rows were sent than asked for.
            TimeoutError: fewer were done in time; they can still be received.
            RowError: one failed.
        """
        steps = required_steps(self._dispatcher.receive(at_least, timeout))
        return np.array(list(steps)), batch(self.single_observation_space, steps)

    def fork(self, source: int, targets: Rows, *, seeds: Sequence[int | None] | None = None) -> tuple[Any, dict[str, Any]]:
        """Copies one row's state to others, whose environments are closed.

        From then on each target goes on as a `clone` of the source would. Around wrappers of the vector environment that
        count for each row, use `arpo_envs.vector.fork`.

        Args:
            source: the row that is copied.
            targets: the rows that become copies.
            seeds: one for each target, as in `clone`: None keeps the random state equal.

        Returns:
            Observations and infos of the targets, which are those that the source last returned.

        Raises:
            ConfigError: the rows are wrong, or there are more or fewer seeds than targets.
            AlreadyPendingCallError: one of the rows is still at work.
            ResetNeeded: the source was never reset.
            NotForkable, CloneError: it cannot be copied; the targets are as they were.
            RowError: an old environment could not be closed; the fork is done.
        """
        if len(targets) == 0:
            raise ConfigError("A fork needs at least one target.")
        each: Sequence[int | None] = [None] * len(targets) if seeds is None else list(seeds)
        if len(each) != len(targets):
            raise ConfigError(f"Expected {len(targets)} seeds, one per target, got {len(each)}.")
        with self._claimed("fork", [source, *targets]) as (source, *targets):
            last = self._rows[source].last
            if last is None:
                raise gym.error.ResetNeeded(f"Row {source} was never reset: there is no state to copy.")
            try:
                children = self._rows[source].forked(each)
            except ForkError as error:
                raise as_fork_error(error, source) from error
            replaced = [self._rows[target] for target in targets]
            for target, child in zip(targets, children, strict=True):
                self._rows[target] = child
            failed = {row: error for row, error in zip(targets, close_all(replaced), strict=True) if error is not None}
        _raise_failed(failed)
        observations = together(self.single_observation_space, [last.observation] * len(targets))
        return observations, infos_together({target: copy.deepcopy(last.info) for target in targets})

    # --- in pieces ------------------------------------------------------------------------------

    def _reset(self, calls: Mapping[int, Callable[[], Step]]) -> dict[int, Step]:
        with self._claimed("reset", list(calls)):
            outcomes = self._dispatcher.run(calls)
        return required_steps(outcomes)

    def _steps(self, rows: Rows, actions: Any) -> dict[int, Callable[[], Step]]:
        """Returns what each of these claimed rows is to do."""
        if len(rows) not in self._action_spaces:
            self._action_spaces[len(rows)] = batch_space(self.single_action_space, len(rows))
        single = separate(self._action_spaces[len(rows)], actions, len(rows))
        idle = [row for row in rows if self._rows[row].last is None]
        if self.metadata["autoreset_mode"] is AutoresetMode.DISABLED:
            idle += [row for row in rows if self._rows[row].ended]
        if idle:
            raise gym.error.ResetNeeded(
                f"The episodes of rows {sorted(idle)} are over, or never began. Reset them first: "
                "reset_subset(rows), or reset(options={'reset_mask': mask})."
            )
        return {row: partial(self._rows[row].step, action) for row, action in zip(rows, single, strict=True)}

    @contextmanager
    def _claimed(self, what: str, rows: Rows) -> Iterator[list[int]]:
        """Keeps others from using rows meanwhile."""
        rows = required_rows(rows, self.num_envs)
        self._dispatcher.claim(rows, what)
        try:
            yield rows
        finally:
            self._dispatcher.free(rows)


def _made(env_fns: "Sequence[Callable[[], gym.Env[Any, Any]]]", mode: AutoresetMode) -> list[Row]:
    """Returns a row of each function's environment, or closes those that were made."""
    if not env_fns:
        raise ConfigError("A vector environment needs at least one row.")
    rows: list[Row] = []
    try:
        for number, make in enumerate(env_fns):
            rows.append(Row(make(), mode))
            _require_equal_spaces(rows[0].env, rows[-1].env, number)
    except BaseException:
        close_all(rows)
        raise
    return rows


def _require_equal_spaces(first: "gym.Env[Any, Any]", other: "gym.Env[Any, Any]", row: int) -> None:
    for kind, one, two in (
        ("observation", first.observation_space, other.observation_space),
        ("action", first.action_space, other.action_space),
    ):
        if one != two:
            raise ConfigError(f"Rows need equal {kind} spaces: row 0 has {one}, row {row} has {two}.")


def _raise_failed(failed: Mapping[int, Exception]) -> None:
    if failed:
        raise RowError(min(failed), failed, {}) from failed[min(failed)]
