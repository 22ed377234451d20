"""`Prompted`: tells a policy what a named prompt says, and shows it worked examples."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import ConfigError, find_prompt, members

from .remembering import Remembering

Worked = Sequence[str]
"""An example: the question, and then by turns what was written and what came back, without what follows the answer."""


class Prompted(Remembering[str, str], RecordConstructorArgs):
    """Replaces an environment's instructions by those of a named prompt, and adds worked examples.

    Observations stay as they are: what changes is `instructions` and `examples`, which renderers put before the question. An
    example of the question that is being asked is never shown; give one more than are to be shown, and there is always another.

    Args:
        env: a text environment with a dialect.
        prompt: "ours", which is the environment's own, or a published one; see `arpo_envs.prompts`.
        examples: to show, in this order; of a mixture, those of each environment by its id.
        shown: how many of them are shown at most; None for all.

    Raises:
        ConfigError: there is no such prompt, it is not about an environment with these tools and this dialect, an example is
            empty, or `shown` is negative.

    >>> import gymnasium as gym
    >>> worked = ["Who?", "<search>Who</search>", "<result>A band</result>", "<answer>A band</answer>"]
    >>> env = Prompted(gym.make("ARPO/Search-v0", cities_per_country=3), "search-r1", [worked])
    >>> env.instructions.partition("For example, ")[2]
    '<answer> Beijing </answer>.'
    >>> env.examples == (worked,)
    True
    """

    shared: ClassVar[frozenset[str]] = frozenset({"_prompt", "_examples", "_shown"})

    def __init__(
        self,
        env: gym.Env[str, str],
        prompt: str = "ours",
        examples: Sequence[Worked] | Mapping[str, Sequence[Worked]] = (),
        shown: int | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, prompt=prompt, examples=examples, shown=shown)
        Remembering.__init__(self, env)
        self._prompt, self._examples, self._shown = find_prompt(prompt), examples, shown
        self._question = ""
        if shown is not None and shown < 0:
            raise ConfigError(f"shown must not be negative, got {shown}.")
        known = [worked for some in examples.values() for worked in some] if isinstance(examples, Mapping) else examples
        if not all(known):
            raise ConfigError("An example is empty: give its question, and then by turns what was written and what came back.")
        for member in [*members.MIXED.through(env).values()] or [env]:
            self._written(member)

    @property
    def instructions(self) -> str:
        """What the policy is told in this episode."""
        return self._written(self.env)

    @property
    def examples(self) -> tuple[Worked, ...]:
        """What the policy is shown in this episode."""
        known = self._examples
        if isinstance(known, Mapping):
            known = known.get(members.MEMBER.through(self.env) or "", ())
        # Wrappers may have told more after the question.
        return tuple(worked for worked in known if not self._question.startswith(worked[0]))[: self._shown]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._question = observation
        return self._returned(observation, info)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Takes one action."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._returned(observation, info)
        return observation, reward, terminated, truncated, info

    def _written(self, env: gym.Env[Any, Any]) -> str:
        """Returns what the prompt says of an environment."""
        dialect = members.DIALECT.through(env)
        if dialect is None:
            name = type(env.unwrapped).__name__
            raise ConfigError(f"{name} has no dialect, so that no prompt can say how to write an action. Ask it without one.")
        return self._prompt.write(members.INSTRUCTIONS.through(env), dialect, members.TOOL_SPECS.through(env))
