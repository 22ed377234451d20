"""What nemo-gym 0.7's `resources_servers.gymnasium` asks and answers over HTTP, for a Python that it does not run on.

Names and bodies are those of its wheel: `POST /reset` and `/step`, sessions by a cookie, what else a row has as metadata.
"""

import uuid
from abc import abstractmethod
from typing import Any

from fastapi import FastAPI, Request
from fastapi import Response as Reply
from openai.types.responses import Response
from pydantic import BaseModel, ConfigDict


class EnvResetRequest(BaseModel):
    model_config = ConfigDict(extra="allow")
    responses_create_params: dict[str, Any]


class EnvResetResponse(BaseModel):
    observation: str | None = None
    info: dict[str, Any] = {}


class EnvStepRequest(EnvResetRequest):
    response: Response


class EnvStepResponse(EnvResetResponse):
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False


def extract_text(response: Response) -> str:
    return response.output_text


class GymnasiumServer:
    """The server that environments derive from."""

    def __init__(self) -> None:
        self.session_state: dict[str, Any] = {}

    def setup_webserver(self) -> FastAPI:
        app = FastAPI()
        app.post("/reset")(self._reset_endpoint)
        app.post("/step")(self._step_endpoint)
        return app

    async def _reset_endpoint(self, body: EnvResetRequest, request: Request, reply: Reply) -> EnvResetResponse:
        session_id = request.cookies.get("session", str(uuid.uuid4()))
        reply.set_cookie("session", session_id)
        observation, info = await self.reset(body.model_extra or {}, session_id)
        return EnvResetResponse(observation=observation, info=info)

    async def _step_endpoint(self, body: EnvStepRequest, request: Request) -> EnvStepResponse:
        session_id = request.cookies.get("session", str(uuid.uuid4()))
        observation, reward, terminated, truncated, info = await self.step(body.response, body.model_extra or {}, session_id)
        if terminated or truncated:
            await self.close_session(session_id)
        return EnvStepResponse(observation=observation, reward=reward, terminated=terminated, truncated=truncated, info=info)

    @abstractmethod
    async def reset(self, metadata: dict[str, Any], session_id: str | None = None) -> tuple[str | None, dict[str, Any]]: ...

    @abstractmethod
    async def step(
        self, action: Response, metadata: dict[str, Any], session_id: str | None = None
    ) -> tuple[str | None, float, bool, bool, dict[str, Any]]: ...

    @abstractmethod
    async def close_session(self, session_id: str | None) -> None: ...
