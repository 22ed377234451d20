"""One question played by a person: branches of one episode, each a live environment that can go back.

Nothing here reads or prints; `play.py` does. Forks are `arpo_envs.clone`, going back is
`arpo_envs.restore`: what an algorithm does with a rollout tree, a person does here by hand.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import arpo_envs
from arpo_envs import ConfigError, Dialect, ForkLevel, Snapshot, members
from arpo_envs.arguments import arguments_in, example
from arpo_envs.errors import unknown_name

from ..rollout import MakeEnv, TextEnv
from ..tree import Status
from .environments import require_text


@dataclass
class Move:
    """One action, its result, and the way back; `before` is None if the environment cannot be copied."""

    action: str
    observation: str
    reward: float
    ended: Status | None
    before: Snapshot | None


@dataclass
class Branch:
    """One way the episode could go.

    Args:
        number: what the player calls it.
        env: live, in the state after the last move.
        origin: where it comes from, in words.
        moves: from the question on, including those before the fork.
        inherited: how many of the moves were made before the fork.
        info: the last `info` of the environment.
    """

    number: int
    env: TextEnv
    origin: str
    moves: list[Move] = field(default_factory=list)
    inherited: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> Status | None:
        """How the episode ended here, None while it runs."""
        return self.moves[-1].ended if self.moves else None

    @property
    def reward(self) -> float:
        """The sum of the moves' rewards."""
        return sum(move.reward for move in self.moves)


class Game:
    """All branches of one episode.

    Args:
        make_env: makes a text environment.
        seed: of the reset.
        task: id of a task; None for one drawn with the seed.
    """

    def __init__(self, make_env: MakeEnv, *, seed: int, task: str | None = None) -> None:
        env = make_env()
        try:
            require_text(env)
            question, info = env.reset(seed=seed, options=None if task is None else {"task": task})
        except BaseException:
            env.close()
            raise
        self.question = str(question)
        self.branches = [Branch(1, env, "the question", info=info)]
        self.current = self.branches[0]
        self.dialect: Dialect | None = members.DIALECT.through(env)
        specs = members.TOOL_SPECS.through(env)
        self.tools = {spec.name: spec for spec in specs}
        self.forkable = arpo_envs.fork_level(env) is not ForkLevel.NONE

    def limit(self, name: str) -> int | None:
        """Returns a limit of the environment by its name, None if it has no such limit."""
        env = self.current.env
        found = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else math.inf
        return int(found) if found < math.inf else None

    def answers(self) -> tuple[str, ...]:
        """Returns the accepted answers; empty if the environment does not reveal them."""
        env = self.current.env
        task = members.TASK.through(env)
        return tuple(getattr(task, "answers", ()))

    def action(self, line: str) -> str | None:
        """Returns the full action that a line stands for; None if it does not stand for one.

        Args:
            line: a full action, or the short form: a tool's name and its text, or "answer" and a text.

        Raises:
            ConfigError: the tool takes several arguments and they are not a JSON object.
        """
        if self.dialect is None:
            return line
        word, _, rest = line.strip().partition(" ")
        if word == "answer":
            return self.dialect.answer(rest.strip())
        spec = self.tools.get(word)
        if spec is None:
            return line if "<" in line else None
        if spec.text_parameter is not None:
            return self.dialect.call(word, arguments_in(spec, rest) or {spec.text_parameter: rest.strip()})
        try:
            arguments = json.loads(rest or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise ConfigError(f"{word} takes its arguments as a JSON object: {word} {example(spec)}.")
        return self.dialect.call(word, arguments)

    def act(self, action: str) -> Move:
        """Takes an action in the current branch.

        Raises:
            ConfigError: the episode is over here.
        """
        branch = self.current
        if branch.ended is not None:
            raise ConfigError("The episode is over in this branch: undo, switch to another branch, or quit.")
        before = arpo_envs.snapshot(branch.env) if self.forkable else None
        try:
            observation, reward, terminated, truncated, branch.info = branch.env.step(action)
        except BaseException:
            if before is not None:
                before.close()
            raise
        ended = Status.ANSWERED if terminated else Status.TRUNCATED if truncated else None
        branch.moves.append(Move(action, str(observation), float(reward), ended, before))
        return branch.moves[-1]

    def fork(self) -> Branch:
        """Adds a branch that goes on from where the current one stands, and makes it the current one.

        Raises:
            ForkError: the environment cannot be copied.
        """
        parent = self.current
        env = arpo_envs.clone(parent.env)
        # the moves are shared, their snapshots are not: each branch closes its own
        moves = [Move(m.action, m.observation, m.reward, m.ended, _again(m.before)) for m in parent.moves]
        number = max(branch.number for branch in self.branches) + 1
        origin = f"branch {parent.number} after action {len(moves)}" if moves else f"branch {parent.number} at the question"
        self.current = Branch(number, env, origin, moves, len(moves), dict(parent.info))
        self.branches.append(self.current)
        return self.current

    def undo(self) -> Move:
        """Takes back the last move of the current branch, and returns it.

        Raises:
            ConfigError: there is nothing to take back, or no way back.
        """
        branch = self.current
        if not branch.moves:
            raise ConfigError("There is nothing to undo: no action has been taken yet.")
        move = branch.moves[-1]
        if move.before is None:
            raise ConfigError("This environment cannot be copied, so nothing can be undone.")
        _, branch.info = arpo_envs.restore(branch.env, move.before)
        move.before.close()
        branch.moves.pop()
        branch.inherited = min(branch.inherited, len(branch.moves))
        return move

    def switch(self, number: str) -> Branch:
        """Makes another branch the current one.

        Raises:
            ConfigError: there is no such branch.
        """
        known = {str(branch.number): branch for branch in self.branches}
        if number not in known:
            raise unknown_name("branch", number, known)
        self.current = known[number]
        return self.current

    def close(self) -> None:
        """Closes all branches and their snapshots."""
        for branch in self.branches:
            for move in branch.moves:
                if move.before is not None:
                    move.before.close()
            branch.env.close()


def _again(before: Snapshot | None) -> Snapshot | None:
    """Returns a snapshot of the same state that may be closed on its own."""
    return None if before is None else Snapshot(before.spawn())
