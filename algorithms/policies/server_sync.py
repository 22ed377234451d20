"""New weights for a running vLLM server: it reads them from a folder, and drops the keys of the old ones."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from .dispatch import Lost
from .served import SYNC_ROUTE, Served, ServerFault

Post = Callable[[str, str, Mapping[str, Any] | None], Awaitable[Any]]
"""(url, route, JSON body) -> JSON answer."""

_RESETS = 20
_PAUSE = 0.1


def require_sync(served: Served) -> None:
    """Refuses a server that cannot take weights.

    Args:
        served: what it reports about itself.

    Raises:
        ConfigError: it cannot.
    """
    if not served.syncs:
        raise ConfigError(
            f"{', '.join(served.urls)} cannot take new weights, so it can evaluate but not train. Use vLLM, started "
            "with the environment variable VLLM_SERVER_DEV_MODE=1 where only you can reach it."
        )


async def push_weights(url: str, folder: Path, post: Post) -> None:
    """Has a vLLM server read weights and drop its prefix cache.

    Args:
        url: of the server, which runs with VLLM_SERVER_DEV_MODE=1.
        folder: as the server sees it too.
        post: makes a request.

    Raises:
        ServerFault: it did not do so.
    """
    try:
        await post(url, SYNC_ROUTE, {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
    except Lost:
        raise
    except ServerFault as fault:
        raise ServerFault(
            f"{fault} Does the server see {folder} by that name? Until it gets weights it has none, and a request crashes it."
        ) from fault
    for _ in range(_RESETS):
        answer = await post(url, "/reset_prefix_cache?reset_running_requests=true", None)
        if not isinstance(answer, Mapping) or answer.get("success", True):
            return
        await asyncio.sleep(_PAUSE)  # blocks of cancelled requests are still held
    raise ServerFault(f"{url} does not drop its prefix cache, so it would mix old keys with new weights.")
