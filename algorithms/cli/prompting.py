"""What the commands tell a policy before its question: a prompt by name, with or without worked examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from arpo_envs import ConfigError, find_prompt, members
from arpo_envs.envs import named
from wrappers import Prompted

from ..models.demonstrations.expert import has_demonstrator, worked_examples
from ..rollout import MakeEnv, TextEnv

_Worked = Sequence[Sequence[str]]
_GIVEN = ("tasks", "layout", "corpus", "site", "engine")
"""Arguments that bring in questions and documents; without them, an environment asks its own, about what it knows itself."""


@dataclass(frozen=True)
class Prompting:
    """What a policy is told before its question.

    Args:
        prompt: name of the prompt.
        examples: how many worked examples it is shown.

    Raises:
        ConfigError: there is no such prompt, or the number is below 0.
    """

    prompt: str = "ours"
    examples: int = 0

    def __post_init__(self) -> None:
        """Refuses bad values."""
        find_prompt(self.prompt)
        if self.examples < 0:
            raise ConfigError(f"examples must not be negative, got {self.examples}.")

    @property
    def is_usual(self) -> bool:
        """Whether the environment's own instructions are left as they are."""
        return self == Prompting()

    def require_live(self, tools: str) -> None:
        """Refuses examples where the calls that make them would pass a recording by.

        Raises:
            ConfigError: there are examples, and the tools are not live.
        """
        if self.examples and tools != "live":
            raise ConfigError(f"--examples needs --tools live: with --tools {tools}, the calls in them would not be recorded.")

    def require_read(self, reads: bool) -> None:
        """Refuses it for a policy that would not see it.

        Args:
            reads: whether the policy's prompts have instructions.

        Raises:
            ConfigError: they have none.
        """
        if not self.is_usual and not reads:
            raise ConfigError(
                "--prompt and --examples would have no effect: the embedded policy reads no instructions. Choose another "
                "--policy, or leave them out."
            )


@dataclass(frozen=True)
class _Maker:
    """Makes environments that tell it; a dataclass, so that errors show what was asked for."""

    make_env: MakeEnv
    prompting: Prompting
    worked: _Worked | Mapping[str, _Worked] = field(repr=False)

    def __call__(self) -> TextEnv:
        env = self.make_env()
        try:
            return Prompted(env, self.prompting.prompt, self.worked, self.prompting.examples)
        except ConfigError:
            env.close()
            raise


def prompted(make_env: MakeEnv, env: str, options: Mapping[str, Any], prompting: Prompting) -> MakeEnv:
    """Returns a maker of environments that tell a policy what it is to be told.

    Examples are episodes of the environment's scripted expert about questions of the training split, played here and now. Where
    nobody can demonstrate the questions that are asked, as with a benchmark, they are about the environment's own.

    Args:
        make_env: makes the environments alone.
        env: their id, or a mixture.
        options: that they are made with.
        prompting: what to tell.

    Raises:
        ConfigError: the prompt does not fit the environment, or nobody can play examples in it.
    """
    if prompting.is_usual:
        return make_env
    made = make_env()
    mixed = [*members.MIXED.through(made)]
    made.close()
    worked: _Worked | Mapping[str, _Worked] = ()
    if prompting.examples and mixed:
        common = {name: value for name, value in options.items() if name not in ("envs", "arguments")}
        own = {name.rpartition(":")[2]: given for name, given in options.get("arguments", {}).items()}
        worked = {name: _worked(name, {**common, **own.get(name, {})}, prompting.examples) for name in mixed}
    elif prompting.examples:
        worked = _worked(env, options, prompting.examples)
    maker = _Maker(make_env, prompting, worked)
    try:
        maker().close()
    except ConfigError as error:
        raise ConfigError(f"{env}: {error}") from error
    return maker


def _worked(env: str, options: Mapping[str, Any], count: int) -> _Worked:
    """Returns examples of one environment, one more than are shown: none is about the question that is asked."""
    given = {name: value for name, value in options.items() if name != "max_tool_calls"}  # without tools, nothing is shown
    takes = named.arguments_of(env)
    has_own = "tasks" in takes and takes["tasks"].default is None
    if "tasks" in given and has_own and not has_demonstrator(partial(named.make_env, env, given)):
        given = {name: value for name, value in given.items() if name not in _GIVEN}
    if "split" in takes and "tasks" not in given:
        given["split"] = "train"
    make_env = partial(named.make_env, env, given)
    if not has_demonstrator(make_env):
        raise ConfigError(f"{env} has no scripted expert to play examples. Ask without: --examples 0.")
    return worked_examples(make_env, count + 1)
