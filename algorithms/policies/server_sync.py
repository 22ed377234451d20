"""New weights for a running vLLM server: it reads them from a folder, and drops the keys of the old ones."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from .dispatch import Lost
from .served import SYNC_ROUTE, Served, ServerFault, is_loopback

log = logging.getLogger(__name__)

Post = Callable[[str, str, Mapping[str, Any] | None], Awaitable[Any]]
"""(url, route, JSON body) -> JSON answer."""
Get = Callable[[str, str], Awaitable[Any]]
"""(url, route) -> JSON answer."""

_RESETS = 20
_PAUSE = 0.1


def require_sync(served: Served) -> None:
    """Refuses a server that cannot take weights, and warns of one that others may be able to reach.

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
    if open_ := tuple(url for url in served.urls if not is_loopback(url)):
        _warn(open_)


@cache
def _warn(urls: tuple[str, ...]) -> None:
    """Warns of servers, once: several parts of a run ask for their weights to be taken."""
    log.warning(
        "%s: a server in vLLM's development mode that is not on this machine. Whoever reaches its port can replace its weights "
        "and call its workers. Let it listen in a private network only, or on 127.0.0.1 behind a tunnel (ssh -L).",
        ", ".join(urls),
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


async def name_weights(url: str, folder: Path, post: Post) -> None:
    """Has a vLLM server remember which weights it read; one that is started anew has forgotten it."""
    with suppress(ConfigError):  # an older vLLM remembers no name
        await post(url, "/update_weight_version", {"new_version": folder.name})


async def require_named(url: str, folder: Path, get: Get) -> None:
    """Finds out whether a vLLM server still has the weights that it read last.

    Raises:
        Lost: it has others.
        ServerFault: it does not answer.
    """
    try:
        named = (await get(url, "/weight_info"))["weight_version"]
    except ConfigError:  # see `name_weights`
        return
    if named != folder.name:
        raise Lost(f"{url} no longer has the weights it was given: it was started anew, or another run gave it others.")
