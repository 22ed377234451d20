"""What a server of OpenEnv and its clients say to each other, and the typed client: `pip install 'arpo-envs[openenv]'`."""

from typing import Any

from openenv.core import EnvClient
from openenv.core.client_types import StepResult
from openenv.core.env_server import Action, Observation, State


class ArpoAction(Action):  # type: ignore[misc]  # as below: not installed where types are checked
    """A text for the environment, or the wish for a copy of its state."""

    text: str | None = None
    fork: bool = False


class ArpoObservation(Observation):  # type: ignore[misc]
    """What a model reads next; `metadata` is `info`. A fork returns the same observation again, with the copy's handle."""

    text: str
    truncated: bool = False
    handle: str | None = None


class ArpoState(State):  # type: ignore[misc]
    """What is known of a session."""

    env_id: str = ""
    task: str | None = None
    instructions: str = ""
    fork_level: str = ""


class ArpoClient(EnvClient[ArpoAction, ArpoObservation, ArpoState]):  # type: ignore[misc]
    """The client of `make_app`'s server."""

    def _step_payload(self, action: ArpoAction) -> dict[str, Any]:
        return dict(action.model_dump(exclude_none=True))

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[ArpoObservation]:
        told = {"done": payload["done"], "reward": payload["reward"]}
        return StepResult(observation=ArpoObservation(**payload["observation"], **told), **told)

    def _parse_state(self, payload: dict[str, Any]) -> ArpoState:
        return ArpoState(**payload)
