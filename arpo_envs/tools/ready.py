"""Whether an environment's tools can be called now, asked before the long work."""

from typing import Any

import gymnasium as gym

from ..members import REQUIRE_READY, TOOLS


def require_ready(env: "gym.Env[Any, Any]") -> None:
    """Checks that the tools' calls can be made; those of a replay always can.

    Args:
        env: a stack around an environment with tools.

    Raises:
        ConfigError: they cannot, such as for want of a key.
    """
    for tool in TOOLS.of(env.unwrapped):
        REQUIRE_READY.of(tool)()
