"""Algorithms with one planted fault each, and the law each of them breaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from algorithms import Algorithm, RolloutTree, make
from algorithms.advantages import Credit, Scores, along_paths, rewards, sampled_weights
from algorithms.advantages.paths import column
from algorithms.branching import BranchPoint, Grow, NoBranching, RandomBranching
from algorithms.losses import LossInputs, LossOutput
from algorithms.losses.clip import ClipLoss
from algorithms.testing import AlgorithmLaw as Law

PLAIN = make("grpo", rollouts=4)
FORKING = make("random_branching", rollouts=4, roots=2)

PerLeaf = Callable[[RolloutTree], np.ndarray]


def growing(strategy: Any) -> Algorithm:
    return replace(FORKING, branching=strategy)


def crediting(estimator: Any, **changes: Any) -> Algorithm:
    return replace(PLAIN, advantages=estimator, **changes)


def losing(loss: Any, **changes: Any) -> Algorithm:
    return replace(PLAIN, loss=loss, **changes)


# --- parts and growing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nameless:
    """No strategy: it cannot be asked after a tool result."""

    roots: int = 2
    forks: bool = True


@dataclass(frozen=True)
class Nowhere(RandomBranching):
    roots: int = 2

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        return [Grow(99, 0, 1)]


@dataclass(frozen=True)
class Undeclared(RandomBranching):
    roots: int = 2

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        seen = [i for i, node in enumerate(tree.nodes) if node.kind == "observation"]
        return [Grow(seen[0], len(tree.nodes[seen[0]].tokens), left)] if seen else super().plan(tree, left, rng)


@dataclass(frozen=True)
class Pairs(RandomBranching):
    roots: int = 2

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Any:
        return [(0, 1)]


@dataclass(frozen=True)
class Answering(RandomBranching):
    roots: int = 2
    answer: Any = -1

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        return self.answer


@dataclass(frozen=True)
class SaysItDoesNot(Undeclared):
    keeps: Any = "action"
    forks: bool = False


@dataclass(frozen=True)
class ProbesInVain(NoBranching):
    probe: int = 4


@dataclass(frozen=True)
class AllAtOnce(RandomBranching):
    roots: int = 2

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        return [Grow(0, len(tree.nodes[0].tokens), left)]


@dataclass(frozen=True)
class Never(RandomBranching):
    roots: int = 2

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        return []


@dataclass(frozen=True)
class FreshEntropy(RandomBranching):
    roots: int = 2

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        return int(np.random.default_rng().integers(2))


@dataclass(frozen=True)
class GlobalDice(RandomBranching):
    roots: int = 2

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        return int(np.random.random() < 0.5)  # noqa: NPY002  # the fault


@dataclass(frozen=True)
class Counting(RandomBranching):
    roots: int = 2
    seen: list[int] = field(default_factory=list)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        self.seen.append(point.left)
        return super().on_result(point, rng)


# --- credit -------------------------------------------------------------------------------------------------


def centred(tree: RolloutTree) -> np.ndarray:
    reward_L, valid_L = rewards(tree)
    return np.where(valid_L, reward_L - (reward_L[valid_L].mean() if valid_L.any() else 0.0), 0.0)


@dataclass(frozen=True)
class By:
    """Credit by one number per leaf."""

    per_leaf: PerLeaf = centred

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        advantages = tuple(along_paths(tree, self.per_leaf(tree)) for tree in trees)
        return self.finish(Credit(advantages, tuple(sampled_weights(tree) for tree in trees)), trees)

    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        return credit


class OneTokenShort(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        return replace(credit, advantages=tuple(tuple(row[1:] for row in rows) for rows in credit.advantages))


class Unasked(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        return replace(credit, returns=credit.advantages)


class Everything(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        return replace(credit, weights=tuple(tuple(np.ones_like(row) for row in rows) for rows in credit.weights))


class FailedToo(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        sampled = [tuple(column(tree, leaf, "sampled") for leaf in tree.leaves()) for tree in trees]
        return replace(credit, weights=tuple(sampled))


class Nothing(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        return replace(credit, weights=tuple(tuple(0.0 * row for row in rows) for rows in credit.weights))


class Noisy(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        noise = 1e-3 * np.random.default_rng().normal()
        return replace(credit, advantages=tuple(tuple(row + noise for row in rows) for rows in credit.advantages))


class Rewriting(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        for tree in trees:
            leaf = tree.leaves()[0]
            tree.nodes[leaf] = replace(tree.nodes[leaf], reward=(tree.nodes[leaf].reward or 0.0) + 1.0)
        return credit


def running_mean() -> PerLeaf:
    """Compares with what it saw before, which it keeps in a closure."""
    seen: list[float] = []

    def per_leaf(tree: RolloutTree) -> np.ndarray:
        seen.append(float(rewards(tree)[0].mean()))
        return rewards(tree)[0] - np.mean(seen)

    return per_leaf


def with_failed(tree: RolloutTree) -> np.ndarray:
    return rewards(tree)[0] - rewards(tree)[0].mean()


def over_deviation(tree: RolloutTree) -> np.ndarray:
    with np.errstate(all="ignore"):
        return centred(tree) / np.std(np.zeros(3))


def over_rounding(tree: RolloutTree) -> np.ndarray:
    """The mean of equal numbers may differ from them by a rounding, which is then divided by itself."""
    reward_L = np.array([tree.total_reward(leaf) for leaf in tree.leaves()])
    centred_L = reward_L - reward_L.sum() / len(reward_L)
    return centred_L / (centred_L.std() + 1e-8)


# --- losses -------------------------------------------------------------------------------------------------


def mean(inputs: LossInputs) -> LossOutput:
    return LossOutput((-inputs.advantage_BT * inputs.logp_BT).mean())


def bare(inputs: LossInputs) -> Any:
    return -inputs.advantage_BT * inputs.logp_BT


def overflowing(inputs: LossInputs) -> LossOutput:
    ratio_BT = ((inputs.logp_BT - inputs.old_logp_BT) * 100.0).exp()
    return LossOutput(-ratio_BT * inputs.advantage_BT)


def overflowing_in_single_precision(inputs: LossInputs) -> LossOutput:
    ratio_BT = (inputs.logp_BT - inputs.old_logp_BT).exp()
    return LossOutput(-(ratio_BT * inputs.advantage_BT).minimum(ratio_BT.clamp(0.8, 1.2) * inputs.advantage_BT))


def impossible(inputs: LossInputs) -> LossOutput:
    own_BT = (inputs.logp_BT - inputs.logp_BT.detach()).exp()
    return LossOutput(-own_BT * inputs.advantage_BT)


def cut_off(inputs: LossInputs) -> LossOutput:
    return LossOutput(-inputs.advantage_BT * inputs.logp_BT.detach())


def uphill(inputs: LossInputs) -> LossOutput:
    return LossOutput(inputs.advantage_BT * inputs.logp_BT)


def imitating(inputs: LossInputs) -> LossOutput:
    return LossOutput(-(inputs.advantage_BT + 0.1) * inputs.logp_BT)


def batch_centred(inputs: LossInputs) -> LossOutput:
    advantage_BT = inputs.advantage_BT - 0.5 * inputs.advantage_BT.mean()
    return LossOutput(-advantage_BT * inputs.logp_BT)


def whole_row(inputs: LossInputs) -> LossOutput:
    change_B1 = (inputs.logp_BT - inputs.old_logp_BT).mean(dim=1, keepdim=True)
    return LossOutput(-change_B1.clamp(-20.0, 20.0).exp() * inputs.advantage_BT)


def by_batch_size(inputs: LossInputs) -> LossOutput:
    return LossOutput(-inputs.advantage_BT * inputs.logp_BT / inputs.logp_BT.shape[0])


class ReturningValues(By):
    def finish(self, credit: Credit, trees: Sequence[RolloutTree]) -> Credit:
        return replace(credit, returns=credit.advantages)


ALGORITHM_FAULTS: list[tuple[Law, Algorithm]] = [
    (Law.PARTS, replace(PLAIN, name=" ")),
    (Law.PARTS, replace(PLAIN, branching=Nameless())),
    (Law.PARTS, losing("clip")),
    (Law.PLANS, growing(Nowhere())),
    (Law.PLANS, growing(Undeclared())),
    (Law.PLANS, growing(Pairs())),
    (Law.ANSWERS, growing(Answering())),
    (Law.ANSWERS, growing(Answering(answer=0.5))),
    (Law.NO_FORKS, growing(SaysItDoesNot())),
    (Law.NO_FORKS, growing(ProbesInVain())),
    (Law.ROOTS, growing(AllAtOnce())),
    (Law.BUDGET, growing(Never())),
    (Law.REPRODUCIBLE, growing(FreshEntropy())),
    (Law.REPRODUCIBLE, crediting(Noisy())),
    (Law.REPRODUCIBLE, crediting(By(running_mean()))),
    (Law.OWN_RANDOMNESS, growing(GlobalDice())),
    (Law.UNCHANGED, growing(Counting())),
    (Law.UNCHANGED, crediting(By(running_mean()))),
    (Law.UNCHANGED, crediting(Rewriting())),
    (Law.KEEPS, replace(PLAIN, keep=lambda tree: len(tree.nodes))),
    (Law.CREDIT, crediting(OneTokenShort())),
    (Law.CREDIT, crediting(Unasked())),
    (Law.CREDIT, crediting(By(over_deviation))),
    (Law.CREDIT, crediting(lambda trees, scores: None)),
    (Law.WEIGHTS, crediting(Everything())),
    (Law.WEIGHTS, crediting(FailedToo())),
    (Law.FAILED, crediting(By(with_failed))),
    (Law.ORDER, crediting(By(lambda tree: rewards(tree)[0] - rewards(tree)[0][0]))),
    (Law.EQUAL, crediting(By(over_rounding))),
    (Law.EQUAL, crediting(By(lambda tree: rewards(tree)[0]))),
    (Law.MORE, crediting(By(lambda tree: -centred(tree)))),
    (Law.MORE, crediting(By(lambda tree: np.array([float(len(tree.tokens(leaf))) for leaf in tree.leaves()])))),
    (Law.LOSS, losing(mean)),
    (Law.LOSS, losing(bare)),
    (Law.LOSS, losing(overflowing)),
    (Law.LOSS, losing(overflowing_in_single_precision)),
    (Law.LOSS, losing(impossible)),
    (Law.LOSS, losing(cut_off)),
    (Law.LOSS, losing(ClipLoss(kl=0.1))),
    (Law.DIRECTION, losing(uphill)),
    (Law.SILENT, losing(imitating)),
    (Law.ROWS, losing(batch_centred)),
    (Law.ROWS, losing(whole_row)),
    (Law.NEEDS, replace(PLAIN, needs=frozenset({"reference"}))),
    (Law.NEEDS, crediting(ReturningValues(), needs=frozenset({"values"}))),
    (Law.LEARNS, crediting(Nothing())),
    (Law.MICRO_BATCHES, losing(by_batch_size)),
]
