"""What a step has to do, as numbers of tokens and calls: shapes of trees, read from a run or drawn anew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from typing import NamedTuple, Protocol

import numpy as np

from arpo_envs import ConfigError

from ... import seeds
from ...branching.strategy import BranchingStrategy
from ...tree import Node, RolloutTree


class Turn(NamedTuple):
    """One action and the response to it.

    Args:
        sampled: tokens that the policy draws.
        result: tokens that it is told; 0 at the end of a path.
        calls: whether a tool runs.
    """

    sampled: int
    result: int
    calls: bool


class Path(NamedTuple):
    """A path of a tree, from where it began: at the prompt, or in a fork.

    Args:
        turns: its own, without those that it inherited.
        reward: at its end.
        parent: number of the path that it forked off; -1 if it began at the prompt.
        at: how many own turns of its parent lie before the fork.
        inside: tokens of the parent's next action that it inherited, too, if it forked inside one.
        wave: 0 for what grows at once; a path of wave n begins when no path of its tree runs any more for the nth time.
    """

    turns: tuple[Turn, ...]
    reward: float = 0.0
    parent: int = -1
    at: int = 0
    inside: int = 0
    wave: int = 0


@dataclass(frozen=True)
class Shape:
    """A tree without its text.

    Args:
        prompt: tokens of the prompt.
        paths: one for each leaf; a parent comes before what forked off it.
        probe: tokens drawn after a tool result before a fork is decided; 0 if none is.

    >>> Shape(10, (Path((Turn(5, 3, True), Turn(2, 0, False))), Path((Turn(4, 0, False),), parent=0, at=1))).tokens
    24
    """

    prompt: int
    paths: tuple[Path, ...]
    probe: int = 0

    @property
    def sampled(self) -> int:
        """How many tokens the policy draws."""
        return sum(turn.sampled for path in self.paths for turn in path.turns)

    @property
    def tokens(self) -> int:
        """How many tokens the tree has, shared ones counted once."""
        return self.prompt + self.sampled + sum(turn.result for path in self.paths for turn in path.turns)

    @property
    def path_tokens(self) -> int:
        """How many tokens its paths have, written out one by one."""
        return sum(self.length(path) for path in self.paths)

    @property
    def executed(self) -> int:
        """How many tool calls run."""
        return sum(turn.calls for path in self.paths for turn in path.turns)

    @property
    def inherited(self) -> int:
        """How many calls lie on shared prefixes, and need not run again."""
        return sum(self._before(path) for path in self.paths)

    @property
    def forks(self) -> int:
        """How many paths began in a fork."""
        return sum(path.parent >= 0 for path in self.paths)

    @property
    def teaches(self) -> bool:
        """Whether rewards differ; a group of equal rewards has no gradient and is not computed."""
        return len({path.reward for path in self.paths}) > 1

    def inherited_length(self, path: Path) -> int:
        """Returns the tokens of the context that a path begins with."""
        if path.parent < 0:
            return self.prompt
        parent = self.paths[path.parent]
        before = sum(turn.sampled + turn.result for turn in parent.turns[: path.at])
        return self.inherited_length(parent) + before + path.inside

    def length(self, path: Path) -> int:
        """Returns the tokens of a path from the prompt to its end."""
        return self.inherited_length(path) + sum(turn.sampled + turn.result for turn in path.turns)

    def _before(self, path: Path) -> int:
        """Returns how many calls a path inherited."""
        calls = 0
        while path.parent >= 0:
            parent = self.paths[path.parent]
            calls += sum(turn.calls for turn in parent.turns[: path.at])
            path = parent
        return calls


def shape_of(tree: RolloutTree, *, probe: int = 0) -> Shape:
    """Returns the shape of a frozen tree.

    Args:
        tree: frozen.
        probe: tokens that its strategy draws after a tool result before it decides.
    """
    nodes, leaves = tree.nodes, tree.leaves()
    own: dict[int, list[int]] = {}
    owner: dict[int, int] = {}
    for number, leaf in enumerate(leaves):
        mine, index = [leaf], leaf
        while not nodes[index].origin and nodes[index].parent > 0 and nodes[index].parent not in owner:
            index = nodes[index].parent
            mine.append(index)
        own[number] = mine[::-1]
        owner |= dict.fromkeys(mine, number)
    order = sorted(own, key=lambda number: own[number][0])  # nodes are in depth-first order, so parents come first
    new = {number: position for position, number in enumerate(order)}
    paths: list[Path] = []
    for number in order:
        first = nodes[own[number][0]]
        turns = tuple(_turns([nodes[index] for index in own[number]]))
        reward = tree.total_reward(leaves[number])
        if first.parent <= 0:
            paths.append(Path(turns, reward, wave=int(first.origin == "backfill")))
            continue
        parent, decision = owner[first.parent], nodes[first.parent].decision
        above = own[parent][: own[parent].index(first.parent) + 1]
        at = sum(nodes[index].kind == "observation" for index in above)
        inside = sum(len(nodes[index].tokens) for index in takewhile(lambda i: nodes[i].kind == "action", reversed(above)))
        is_late = decision is None or not decision.granted
        paths.append(Path(turns, reward, new[parent], at, inside, paths[new[parent]].wave + is_late))
    return Shape(len(nodes[0].tokens) if nodes else 0, tuple(paths), probe)


def _turns(nodes: Sequence[Node]) -> Iterator[Turn]:
    """Yields the turns of the nodes of a path; pieces of an action are put together."""
    sampled, calls, is_open = 0, False, False
    for node in nodes:
        if node.kind == "observation":
            yield Turn(sampled, len(node.tokens), calls)
            sampled, calls, is_open = 0, False, False
        else:
            sampled, calls, is_open = sampled + len(node.tokens), calls or bool(node.tool), True
    if is_open:
        yield Turn(sampled, 0, calls)


class Episode(NamedTuple):
    """What is known of one question: its prompt, and whole paths from there.

    Args:
        prompt: tokens.
        paths: from the prompt to the end; at least one.
    """

    prompt: int
    paths: tuple[Path, ...]


def episode_of(shape: Shape) -> Episode:
    """Returns the whole paths of a tree, each with what it inherited."""

    def begun(path: Path) -> int:
        """Returns how many tokens a path inherited of the action that it continues."""
        if path.parent < 0 or not path.inside:
            return 0
        return path.inside + (0 if path.at else begun(shape.paths[path.parent]))

    def whole(path: Path) -> tuple[Turn, ...]:
        own = path.turns
        if already := begun(path):
            first, *others = own or (Turn(0, 0, False),)
            own = (first._replace(sampled=first.sampled + already), *others)
        if path.parent < 0:
            return own
        parent = shape.paths[path.parent]
        above = whole(parent)
        return (*above[: len(above) - len(parent.turns) + path.at], *own)

    return Episode(shape.prompt, tuple(Path(whole(path), path.reward) for path in shape.paths))


@dataclass(frozen=True)
class Workload:
    """What steps have to do: trees are drawn from episodes that were seen, with any number of rollouts.

    A tree takes the paths of one episode in random order, each once before any is taken again. A fork continues like another
    path of its episode that is longer than the fork is deep.

    Args:
        episodes: to draw from.
        prompts: trees per step.
        rollouts: M, leaves per tree.
        roots: N, paths that start from the prompt; the rest are forks and, for forks that are not made, back-fills.
        fork: probability of a fork after a tool result.
        siblings: paths that a fork adds.
        probe: tokens drawn after a tool result before a fork is decided.

    Raises:
        ConfigError: a number is out of range, or there is no episode.
    """

    episodes: tuple[Episode, ...]
    prompts: int = 24
    rollouts: int = 16
    roots: int = 16
    fork: float = 0.0
    siblings: int = 1
    probe: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("prompts", "rollouts", "roots", "siblings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.roots > self.rollouts:
            raise ConfigError(f"roots = {self.roots} is more than rollouts = {self.rollouts}.")
        if not 0.0 <= self.fork <= 1.0:
            raise ConfigError(f"fork must be a probability, got {self.fork}.")
        if self.probe < 0:
            raise ConfigError(f"probe must not be negative, got {self.probe}.")
        if not all(episode.paths for episode in self.episodes) or not self.episodes:
            raise ConfigError("A workload needs at least one episode with a path.")

    def draw(self, seed: int) -> list[Shape]:
        """Returns the trees of one step, a function of the seed."""
        rng = seeds.generator(seed, "plan")
        order: list[int] = []
        while len(order) < self.prompts:
            order += rng.permutation(len(self.episodes)).tolist()
        return [self._grown(self.episodes[number], rng) for number in order[: self.prompts]]

    def _grown(self, episode: Episode, rng: np.random.Generator) -> Shape:
        """Returns a tree: roots, forks after tool results until the budget is used, back-fills."""
        deck = _deck(episode.paths, rng)
        paths: list[Path] = [next(deck) for _ in range(self.roots)]
        left = self.rollouts - self.roots
        above = [0] * self.roots  # turns that each path inherited
        for depth in count(1):
            live = [n for n, path in enumerate(paths) if above[n] < depth < above[n] + len(path.turns)]
            if not live or not left or not self.fork:
                break
            for number in live:
                at = depth - above[number]
                if paths[number].turns[at - 1].calls and rng.random() < self.fork:
                    longer = [path for path in episode.paths if len(path.turns) > depth]
                    for _ in range(min(self.siblings, left)):
                        like = longer[int(rng.integers(len(longer)))]
                        paths.append(Path(like.turns[depth:], like.reward, number, at, 0))
                        above.append(depth)
                        left -= 1
        paths += [next(deck)._replace(wave=1) for _ in range(left)]
        return Shape(episode.prompt, tuple(paths), self.probe)


def _deck(paths: Sequence[Path], rng: np.random.Generator) -> Iterator[Path]:
    """Yields paths in random order, each once before any comes again."""
    while True:
        for number in rng.permutation(len(paths)).tolist():
            yield paths[number]


class Grows(Protocol):
    """What is read of an algorithm."""

    @property
    def branching(self) -> BranchingStrategy:
        """Where trees grow."""
        ...

    @property
    def rollouts(self) -> int:
        """M, leaves per prompt."""
        ...


def workload_of(trees: Sequence[RolloutTree], algorithm: Grows, prompts: int) -> Workload:
    """Returns what steps of an algorithm have to do, judged by trees that it or another one has grown on the same tasks.

    Args:
        trees: frozen; of paths that failed through no fault of the model, too.
        algorithm: whose steps are planned.
        prompts: trees per step.

    Raises:
        ConfigError: the algorithm forks where these trees say nothing of how often, or there is no tree with a path.
    """
    branching = algorithm.branching
    shapes = [shape for shape in map(shape_of, trees) if shape.paths]
    if not shapes:
        raise ConfigError("A workload is judged by trees, and there is none with a path.")
    whole = Workload(tuple(map(episode_of, shapes)), prompts, algorithm.rollouts, algorithm.rollouts)
    if not branching.forks:
        return whole
    asked = [node.decision.asked for tree in trees for node in tree.nodes if node.decision is not None]
    if not asked or branching.keeps != "none":
        raise ConfigError(
            f"How often {type(branching).__name__} forks after a tool result cannot be told from these trees. "
            "Give a run of an algorithm that decides after each result, such as arpo."
        )
    forked = [number for number in asked if number]
    roots = min(branching.roots or algorithm.rollouts, algorithm.rollouts)
    siblings = max(1, round(sum(forked) / len(forked))) if forked else 1
    return replace(whole, roots=roots, fork=len(forked) / len(asked), siblings=siblings, probe=branching.probe)


def made_up(
    *, turns: float, action: float, result: float, prompt: int, seed: int = 0, episodes: int = 64, spread: float = 0.5
) -> tuple[Episode, ...]:
    """Returns episodes for a workload of which only means are known.

    Args:
        turns: mean number of tool calls of a path; geometric, 0 is possible.
        action: mean tokens of an action; log-normal.
        result: mean tokens of a tool result; log-normal.
        prompt: tokens.
        seed: of what is drawn.
        episodes: how many; each with 16 paths, half of which earn a reward.
        spread: standard deviation of the logarithm of lengths.

    Raises:
        ConfigError: a number is out of range.
    """
    if turns < 0 or action < 1 or result < 1 or prompt < 1 or episodes < 1 or spread < 0:
        raise ConfigError("turns and spread must not be negative; action, result, prompt and episodes must be at least 1.")
    rng = seeds.generator(seed, "episodes")

    def length(mean: float) -> int:
        return max(1, round(float(rng.lognormal(np.log(mean) - spread**2 / 2, spread))))

    def path() -> Path:
        calls = int(rng.geometric(1.0 / (1.0 + turns))) - 1
        middle = [Turn(length(action), length(result), True) for _ in range(calls)]
        return Path((*middle, Turn(length(action), 0, False)), float(rng.random() < 0.5))

    return tuple(Episode(prompt, tuple(path() for _ in range(16))) for _ in range(episodes))
