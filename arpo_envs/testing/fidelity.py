"""Whether a copy is one at all: it continues as its original would have, if nothing else happens meanwhile."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..forking import clone, snapshot
from .bench import Bench, Case, compare, spread
from .laws import Law
from .report import Finding, SkippedLaw
from .runs import act, deviation

P = TypeVar("P")

_LOST = (
    "The copy lost something: state that __deepcopy__ or clone() does not copy, such as that of a connection, "
    "a file, or something outside this object."
)


def faithful(bench: Bench) -> Iterator[Finding]:
    """A clone taken after any action, a clone of a clone, and what a snapshot spawns, each played first."""
    cases = bench.cases
    for seed, actions, _ in bench.episodes():
        _, whole = bench.reference(seed, actions)
        for cut in spread(len(whole)):
            case = Case(seed, actions[:cut], actions[cut:], (), whole[cut:], ())
            with bench.at(case) as env, clone(env) as child:
                yield from compare(Law.FAITHFUL, "a clone", case, act(child, case.rest), case.wanted, _LOST)
    for case in cases:
        with bench.at(case) as env, clone(env) as child, clone(child) as grandchild:
            seen = act(grandchild, case.other)
            yield from compare(Law.FAITHFUL, "a clone of a clone", case, seen, case.other_wanted, _LOST)
        with bench.at(case) as env, snapshot(env) as snap, snap.spawn() as spawned:
            seen = act(spawned, case.other)
            who = "what a snapshot spawned"
            yield from compare(Law.FAITHFUL, who, case, seen, case.other_wanted, _LOST)


def where_sound(places: Iterable[P], law: Callable[[P], Iterator[Finding]], is_sound: Callable[[P], bool]) -> Iterator[Finding]:
    """Yields what a law about copies finds, except where a copy is not one to begin with: that has other causes.

    Args:
        places: where to copy.
        law: looks for findings at one of them.
        is_sound: whether copies taken there are faithful; asked only where there are findings.

    Raises:
        SkippedLaw: there are findings only where copies are not faithful.
    """
    dropped = blamed = False
    for place in places:
        found = list(law(place))
        if found and not is_sound(place):
            dropped = True
            continue
        yield from found
        blamed = blamed or bool(found)
    if dropped and not blamed:
        raise SkippedLaw(f"needs the law that {Law.FAITHFUL}")


def is_sound(bench: Bench, case: Case) -> bool:
    """Whether original, clone and clone of a clone, each played alone, continue as an environment that was never forked."""
    for generation in range(3):
        for actions, wanted in ((case.rest, case.wanted), (case.other, case.other_wanted)):
            with bench.at(case) as env, clone(env) as child, clone(child) as grandchild:
                if deviation(act((env, child, grandchild)[generation], actions), wanted) is not None:
                    return False
    return True
