"""Any id as an environment of SkyRL-gym: `pip install 'arpo-envs[skyrl]'`, and `register` in every process that makes one."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import skyrl_gym
from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from ..errors import ConfigError
from .episode import maker

Messages = list[dict[str, str]]


class ArpoTextEnv(BaseTextEnv):  # type: ignore[misc]  # SkyRL-gym is untyped
    """An environment of any id as SkyRL's generator plays it.

    An action is handed on as it was sampled, and `postprocessed_action` is always None: with a text in its place, the generator
    would train on tokens that nobody has sampled. Let it stop at the dialect's stop strings instead (`stop_strings`).

    Args:
        env_id: of the environment.
        arguments: of `gym.make`.
        env_config: SkyRL's configuration of the environment; nothing in it is used.
        extras: the other columns of the row: `seed` and `task` choose the task, and `max_turns` may end the episode earlier
            than the environment would, for what ending without an answer pays.

    Raises:
        ConfigError: `max_turns` is not a number of turns.
    """

    def __init__(
        self,
        env_id: str,
        arguments: Mapping[str, Any],
        env_config: Any = None,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._row = dict(extras or {})
        limit = self._row.get("max_turns")
        self.max_turns = float("inf") if limit is None else limit
        if limit is not None and (not isinstance(limit, Integral) or limit < 1):
            raise ConfigError(f"max_turns is a whole number of at least 1, got {limit!r}.")
        self._episode = maker(env_id, arguments)()

    def init(self, prompt: Messages) -> tuple[Messages, dict[str, Any]]:
        """Begins the episode.

        Args:
            prompt: messages to come before the question; without one from the system, the environment's instructions are it.

        Returns:
            the messages, and `info`.
        """
        step = self._episode.reset(seed=self._row.get("seed"), task=self._row.get("task"))
        self.turns = 0
        told = [message for message in prompt if message["content"]]
        if all(message["role"] != "system" for message in told):
            told.insert(0, {"role": "system", "content": self._episode.instructions})
        return [*told, {"role": "user", "content": step.observation}], dict(step.info)

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Takes one action; `metadata` is `info`."""
        before = self._episode.earned
        step = self._episode.act(action)
        self.turns += 1
        done = step.done or self.turns >= self.max_turns
        return BaseTextEnvStepOutput(
            observations=[] if done else [{"role": "user", "content": step.observation}],
            reward=self._episode.score() - before if done else step.reward,
            done=done,
            metadata=dict(step.info),
            postprocessed_action=None,
        )

    def get_metrics(self) -> dict[str, Any]:
        """Returns the numbers of `info`, and what the environment measures."""
        return self._episode.numbers()

    def close(self) -> None:
        """Frees the environment."""
        self._episode.close()


def register(env_id: str, *, name: str | None = None, **arguments: Any) -> str:
    """Registers an id with SkyRL-gym and returns the name for the column `env_class`.

    Args:
        env_id: of the environment.
        name: under which SkyRL-gym knows it; default the id.
        arguments: of `gym.make`.

    Raises:
        skyrl_gym.error.RegistrationError: the name is taken.

    >>> name = register("ARPO/Search-v0", name="arpo-search", cities_per_country=2)
    >>> env = skyrl_gym.make(name, extras={"seed": 7})
    >>> messages, info = env.init([])
    >>> env.step("<search>Adamstown</search>")["observations"][0]["content"][:17]
    '<result>Adamstown'
    >>> env.close(); skyrl_gym.envs.registration.deregister(name)
    """
    name = name or env_id
    kwargs = {"env_id": env_id, "arguments": arguments}
    skyrl_gym.register(id=name, entry_point=f"{__name__}:{ArpoTextEnv.__name__}", kwargs=kwargs)
    return name


def stop_strings(env_id: str, **arguments: Any) -> list[str]:
    """Returns what generation should stop at (`generator.sampling_params.stop`), so that no text follows an action.

    >>> stop_strings("ARPO/Search-v0", cities_per_country=2)
    ['</search>', '</answer>']
    """
    episode = maker(env_id, arguments)()
    try:
        return episode.stop_strings
    finally:
        episode.close()
