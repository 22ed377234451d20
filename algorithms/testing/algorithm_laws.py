"""`check_algorithm`: the laws of algorithms, run over one of them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from arpo_envs.testing import Finding, Report, judge

from ..algorithm import Algorithm
from . import branching_laws, credit_laws, learner_laws, loss_laws
from .laws import AlgorithmLaw as Law
from .playground import Playground

_CHECKS: dict[Law, Callable[[Playground], Iterator[Finding]]] = {
    Law.PARTS: branching_laws.parts,
    Law.PLANS: branching_laws.plans,
    Law.ANSWERS: branching_laws.answers,
    Law.NO_FORKS: branching_laws.no_forks,
    Law.ROOTS: branching_laws.roots,
    Law.BUDGET: branching_laws.budget,
    Law.CREDIT: credit_laws.credit,
    Law.REPRODUCIBLE: branching_laws.reproducible,
    Law.OWN_RANDOMNESS: branching_laws.own_randomness,
    Law.UNCHANGED: branching_laws.unchanged,
    Law.KEEPS: branching_laws.keeps,
    Law.WEIGHTS: credit_laws.weights,
    Law.FAILED: credit_laws.failed,
    Law.ORDER: credit_laws.order,
    Law.EQUAL: credit_laws.equal,
    Law.MORE: credit_laws.more,
    Law.LOSS: loss_laws.loss,
    Law.DIRECTION: loss_laws.direction,
    Law.SILENT: loss_laws.silent,
    Law.ROWS: loss_laws.rows,
    Law.NEEDS: loss_laws.needs,
    Law.LEARNS: learner_laws.learns,
    Law.MICRO_BATCHES: learner_laws.micro_batches,
}


def check_algorithm(
    algorithm: Algorithm,
    *,
    seeds: Sequence[int] = (0, 1),
    prompts: int = 4,
    skip: Mapping[Law, str] | None = None,
    raise_on_fail: bool = True,
) -> Report:
    """Checks that an algorithm grows, credits and learns as the algorithms of this package must.

    Trees are grown on a small environment by a scripted player; the step is taken with a very small model. Without torch
    the laws of loss and step are skipped.

    Args:
        algorithm: what to check; few rollouts make it fast.
        seeds: of the batches that are grown.
        prompts: trees per batch, at least 2 where credit looks at the whole batch.
        skip: laws that do not apply, each with the reason, which the report shows.
        raise_on_fail: raise when a law is broken, instead of only reporting it.

    Returns:
        Which laws hold, which are broken and how, and which do not apply and why.

    Raises:
        ConformanceError: a law is broken and `raise_on_fail` is true.

    >>> from algorithms import make
    >>> check_algorithm(make("grpo", rollouts=4)).ok
    True
    """
    ground = Playground(algorithm, tuple(seeds), prompts)
    checks = {law: _bound(check, ground) for law, check in _CHECKS.items()}
    first = frozenset({Law.PARTS, Law.PLANS, Law.BUDGET, Law.CREDIT, Law.LOSS})
    report = judge(f"check_algorithm({algorithm.name})", checks, first, skip=skip)
    if Law.BUDGET in report.passed:
        report = replace(report, notes=(_growth(ground),))
    if raise_on_fail:
        report.raise_on_failure()
    return report


def _growth(ground: Playground) -> str:
    """Returns how many forks there were: the author of a strategy should see it even though no law covers it."""
    trees = [tree for batch in ground.batches for tree in batch]
    paths = sum(len(tree.leaves()) for tree in trees)
    origins = Counter(node.origin for tree in trees for node in tree.nodes)
    counted = f"{len(trees)} trees grew {paths} paths: {origins['branch']} by forks, {origins['backfill']} by back-fill"
    if ground.algorithm.branching.forks and not origins["branch"]:
        return f"{counted}. It says forks = True, but never forked here: does on_result always return 0?"
    return counted


def _bound(check: Callable[[Playground], Iterator[Finding]], ground: Playground) -> Callable[[], Iterator[Finding]]:
    return lambda: check(ground)
