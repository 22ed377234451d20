"""The tasks of several environments as one source: each id begins with the name of its environment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ConfigError, known_names
from ..members import MAJORITY_BASELINE, PROVENANCE, SECRETS
from . import Demonstrable, Task, TaskSource


def drawn(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """Returns a name, each with a probability in proportion to its weight."""
    names, shares = list(weights), np.array(list(weights.values()))
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def named(name: str, task: Task) -> Task:
    """Returns a task of an environment under the id that it has in the mixture."""
    return replace(task, id=f"{name}/{task.id}")


def parted(task_id: str, names: Iterable[str]) -> tuple[str, str]:
    """Returns the environment's name in a mixture's task id, and the rest.

    Raises:
        ConfigError: the id begins with none of the names.

    >>> parted("ARPO/Search-v0/city-1/capital", ["ARPO/Search-v0", "ARPO/Python-v0"])
    ('ARPO/Search-v0', 'city-1/capital')
    """
    names = list(names)
    for name in names:
        if task_id.startswith(f"{name}/"):
            return name, task_id.removeprefix(f"{name}/")
    known = known_names(task_id[: max(map(len, names))], names)
    raise ConfigError(f"In a mixture, a task's id is ENVIRONMENT/TASK, but {task_id!r} begins with no environment. {known}")


@dataclass(frozen=True)
class MixtureTasks:
    """The tasks of all environments of a mixture.

    Args:
        sources: by the environment's name.
        weights: by the environment's name.
    """

    sources: Mapping[str, TaskSource]
    weights: Mapping[str, float]

    @property
    def name(self) -> str:
        """Names the sources."""
        return " + ".join(f"{name}: {source.name}" for name, source in self.sources.items())

    @property
    def secrets(self) -> tuple[str, ...]:
        """Packages that make the answers of any of them."""
        return tuple(dict.fromkeys(one for source in self.sources.values() for one in SECRETS.of(source)))

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a task of an environment that is drawn by weight."""
        name = drawn(self.weights, rng)
        return named(name, self.sources[name].draw(rng))

    def get(self, task_id: str) -> Task:
        """Returns the task with that id.

        Raises:
            ConfigError: there is none.
        """
        name, own = parted(task_id, self.sources)
        return named(name, self.sources[name].get(own))

    def provenance(self, task: Task) -> Mapping[str, object]:
        """Returns where a task is from, as its own source says."""
        name, own = parted(task.id, self.sources)
        return PROVENANCE.of(self.sources[name])(replace(task, id=own))

    def majority_baseline(self) -> float | None:
        """Returns the success of the best single answer of each environment, weighted; None if one cannot tell."""
        found = {name: MAJORITY_BASELINE.of(source)() for name, source in self.sources.items()}
        known = {name: value for name, value in found.items() if value is not None}
        if len(known) < len(found):
            return None
        return sum(self.weights[name] * value for name, value in known.items()) / sum(self.weights.values())


@dataclass(frozen=True)
class DemonstrableMixtureTasks(MixtureTasks):
    """The tasks of a mixture, each of whose sources can demonstrate."""

    sources: Mapping[str, Demonstrable]  # type: ignore[assignment]  # they are both

    def lexicon(self) -> Sequence[str]:
        """Returns the names of all sources, each once."""
        return list(dict.fromkeys(word for source in self.sources.values() for word in source.lexicon()))

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns the moves of the demonstrator of the task's own source."""
        name, own = parted(task.id, self.sources)
        return self.sources[name].demonstrate(replace(task, id=own), rng, perfect=perfect)


def mixed(sources: Mapping[str, TaskSource], weights: Mapping[str, float]) -> MixtureTasks:
    """Returns the tasks of a mixture, which can demonstrate if each source can."""
    able = {name: source for name, source in sources.items() if isinstance(source, Demonstrable)}
    if len(able) == len(sources):
        return DemonstrableMixtureTasks(able, weights)
    return MixtureTasks(sources, weights)
