"""Environments as the commands name them, by an id and NAME=VALUE arguments, with errors that say what is wrong."""

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arpo_envs import ArpoError, ConfigError
from arpo_envs.envs import named

from ..rollout import MakeEnv, TextEnv, place, reason
from .mixtures import MIXTURE, weights_in
from .prompting import Prompting, prompted


@dataclass(frozen=True)
class _Maker:
    """Makes environments; a dataclass, so that errors show what was asked for."""

    env: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> TextEnv:
        return named.make_env(self.env, self.options)


def env_maker(env: str, options: dict[str, Any], prompting: Prompting = Prompting()) -> MakeEnv:
    """Returns a maker of text environments, after making one to find mistakes now.

    Args:
        env: an id, or a mixture ID=WEIGHT,ID=WEIGHT.
        options: keyword arguments, see `env_arguments`.
        prompting: what they tell a policy before its question.

    Raises:
        ConfigError: no environment has that id, it does not take these arguments, it is not a text environment, or it cannot
            tell a policy that.
    """
    weights = weights_in(env)
    maker = _Maker(env, options) if weights is None else _Maker(MIXTURE, {**options, "envs": weights})
    try:
        made = maker()
    except ArpoError:
        raise
    except Exception as error:  # an environment of another package may fail in any way, and the user must see where
        where = f" ({place(error.__cause__ or error)})"
        raise ConfigError(f"{env} cannot be made: {reason(error)}{where}") from error
    try:
        require_text(made)
    finally:
        made.close()
    return prompted(maker, env, maker.options, prompting)


def arguments_of(env: str) -> Mapping[str, inspect.Parameter]:
    """Returns the arguments that an environment takes, by name; of a mixture, those of all its environments.

    Raises:
        ConfigError: no environment has that id.
    """
    return {name: argument for one in weights_in(env) or [env] for name, argument in named.arguments_of(one).items()}


def require_text(env: TextEnv) -> None:
    """Refuses an environment that is not a conversation.

    Raises:
        ConfigError: its actions or observations are not strings.
    """
    spaces = {"takes no text: its actions": env.action_space, "shows no text: its observations": env.observation_space}
    for what, space in spaces.items():
        if not isinstance(space.sample(), str):
            name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
            raise ConfigError(f"{name} {what} are {space}. `arpo envs` lists environments that do.")


def folder_of(env: str) -> str:
    """Returns the name of an environment's folder: the last part of its own, and of others than ours a digest of it all.

    >>> folder_of("ARPO/Search-v0"), folder_of("ARPO/Search-v0=3,ARPO/Python-v0=1")
    ('Search-v0', 'Python-v0-1-8252ed')
    """
    short = re.sub(r"[^\w.-]", "-", env.rpartition("/")[2])
    return short if env == f"ARPO/{short}" else f"{short}-{hashlib.sha256(env.encode()).hexdigest()[:6]}"
