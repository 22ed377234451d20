"""Any id for TRL's `GRPOTrainer`: an `environment_factory` and a dataset of tasks; `pip install 'arpo-envs[trl]'`.

The trainer's chat template writes the calls, so every tool is a method with the signature of its schema. So is `answer`, which
ends the episode: TRL does not show an environment what a model says in plain text.
"""

import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigError
from ..tools.spec import ToolSpec
from .episode import Episode, maker

if TYPE_CHECKING:
    from datasets import Dataset

_TYPES: Mapping[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "object": dict}


class _Environment:
    """What TRL calls an environment; a subclass has the tools of one id as its methods."""

    _make: Callable[[], Episode]

    def __init__(self) -> None:
        self._episode = type(self)._make()
        weakref.finalize(self, self._episode.close)  # a trainer never closes its environments

    def reset(self, /, seed: int | None = None, task: str | None = None, **row: Any) -> str:
        """Begins the episode of a row and returns its question, which TRL puts behind the row's prompt."""
        return self._episode.reset(seed=seed, task=task).observation

    def get_reward(self) -> float:
        """Returns what the episode has earned."""
        return self._episode.score()


@dataclass(frozen=True)
class EnvironmentFactory:
    """Makes environments of one id; it pickles, unlike what it makes.

    Args:
        env_id: of the environment.
        arguments: of `gym.make`.
    """

    env_id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        """Returns an environment; all of a factory's are of one class, by whose name TRL reports the reward."""
        return self._class()

    def __reduce__(self) -> tuple[type["EnvironmentFactory"], tuple[str, dict[str, Any]]]:
        """Pickles without the class, which is made anew where it is needed."""
        return EnvironmentFactory, (self.env_id, dict(self.arguments))

    @cached_property
    def _class(self) -> type[_Environment]:
        make = maker(self.env_id, self.arguments)
        probe = make()
        try:
            methods = {spec.name: _method(spec) for spec in probe.tools}
        finally:
            probe.close()
        for name in methods:
            if name.startswith("_") or hasattr(_Environment, name):
                raise ConfigError(f"The tool {name!r} cannot be a method for TRL, which gives that name another meaning.")
        name = self.env_id.rpartition("/")[2].replace("-", "_")
        return type(name, (_Environment,), {**methods, "_make": staticmethod(make), "__doc__": f"{self.env_id} for TRL."})


def environment_factory(env_id: str, **arguments: Any) -> EnvironmentFactory:
    """Returns what `GRPOTrainer(environment_factory=…)` takes, for one id.

    Args:
        env_id: of the environment.
        arguments: of `gym.make`.

    >>> env = environment_factory("ARPO/Search-v0", cities_per_country=2)()
    >>> question = env.reset(seed=7)
    >>> env.search(query="Adamstown")[:17]
    '<result>Adamstown'
    >>> env.answer(text="no idea"), env.get_reward()
    ('', 0.0)
    """
    return EnvironmentFactory(env_id, arguments)


def dataset(env_id: str, number: int, *, seed: int = 0, **arguments: Any) -> "Dataset":
    """Returns a dataset of tasks: columns `prompt` (what the environment tells a model, without the question), `seed`, `task`.

    Args:
        env_id: of the environment.
        number: of rows; the i-th is the task that `reset(seed=seed + i)` draws.
        seed: of the first row.
        arguments: of `gym.make`, the same as the factory's.

    >>> dataset("ARPO/Search-v0", 2, cities_per_country=2)["seed"][:]
    [0, 1]
    """
    from datasets import Dataset

    episode = maker(env_id, arguments)()
    try:
        system = [{"role": "system", "content": episode.guidance}] if episode.guidance else []
        prompt = [*system, {"role": "user", "content": ""}]
        drawn = episode.tasks(range(seed, seed + number))
    finally:
        episode.close()
    return Dataset.from_list([{"prompt": prompt, "seed": seed + i, "task": task} for i, task in enumerate(drawn)])


def _method(spec: ToolSpec) -> Callable[..., str]:
    """Returns a method that calls a tool; its signature and docstring say what the schema says."""

    def method(self: _Environment, /, **arguments: Any) -> str:
        return self._episode.call(spec.name, arguments).observation

    schemas: Mapping[str, Any] = spec.parameters.get("properties", {})
    required = spec.parameters.get("required", ())
    kinds = {name: _annotation(schema) for name, schema in schemas.items()}
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for name, schema in schemas.items():
        default = inspect.Parameter.empty if name in required else schema.get("default")
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kinds[name]))
    described = [f"    {name}: {' '.join(schema.get('description', name).split())}" for name, schema in schemas.items()]
    method.__name__ = method.__qualname__ = spec.name
    method.__doc__ = "\n".join([spec.description, *(["", "Args:", *described] if described else [])])
    method.__annotations__ = kinds
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return method


def _annotation(schema: Mapping[str, Any]) -> Any:
    """Returns the annotation of which TRL makes that schema again."""
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if "anyOf" in schema:
        return reduce(or_, map(_annotation, schema["anyOf"]))
    if schema.get("type") == "array":
        return list[_annotation(schema["items"])] if "items" in schema else list  # type: ignore[misc]
    return _TYPES.get(str(schema.get("type")), Any)
