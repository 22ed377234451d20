"""New weights and servers that are away: what is being started again is waited for."""

import asyncio
from pathlib import Path
from typing import Any

from model_toys import tiny_model
from test_openai_policy import _quiet, folder, serve, within  # noqa: F401  # fixtures

from algorithms.policies.openai import OpenAIPolicy


def test_weights_wait_for_a_server_that_is_being_started_again(serve: Any, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    server = serve()

    async def work(policy: OpenAIPolicy) -> None:
        server.kill()
        loading = asyncio.create_task(policy.load(tiny_model(seed=5).state_dict(), 1))
        await asyncio.sleep(0.1)
        assert not loading.done()
        back = serve(port=server.port)
        await loading
        assert len(back.loads) == 1

    within(work, server, model_folder=folder, weights_folder=tmp_path)
