"""A vector environment whose rows wait for nobody and fork: `gym.make_vec("ARPO/Search-v0", num_envs=8)` makes one.

Each row is a stack of its own, as `gym.make` makes it, stepped in a thread of its own. `step` and `reset` do what those of
`gymnasium.vector.SyncVectorEnv` do, on equal seeds; `step_subset`, or `send` and `recv`, step some rows while others still
wait for their tools; `fork` copies one row's state to others.
"""

from .env import ForkableVectorEnv
from .row import Step
from .wrapped import fork

__all__ = ["ForkableVectorEnv", "Step", "fork"]
