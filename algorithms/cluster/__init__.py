"""Rollouts in many processes, here or on other machines, that give the trees of one process.

The trainer stays as it is; two of its parts stand for the engines. Its policy is a `ClusterPolicy`, which sends new weights
to all of them, and its way to collect is `collect_elsewhere`, which sends them prompts. `collector.py` holds the prompts: an
engine that has room takes some, and those of an engine that is lost are taken by another one. `engines.py` holds the
engines: it starts them, gives them weights, and makes lost ones anew. `worker.py` is what is inside an engine's process: a
policy, a renderer, and `rollout.try_collect`. `launcher.py` is the seam below: `local.py` starts processes of this machine,
`ray_actors.py` actors of a Ray cluster, and nothing else knows where a worker runs. Trees travel as `parcel.py` packs them,
weights as `published.py` lays them out. What all of it will cost is said by `planning/`, which simulates a step.
"""

from .collector import COUNTS, collect_elsewhere
from .engines import Engines, Listener, NoEngines, Patience, Standing
from .launcher import Launcher, Lost, MakeEquipment
from .launchers import launcher_for, require_ray
from .policy import ClusterPolicy
from .worker import Equipment

__all__ = [
    "COUNTS",
    "ClusterPolicy",
    "Engines",
    "Equipment",
    "Launcher",
    "Listener",
    "Lost",
    "MakeEquipment",
    "NoEngines",
    "Patience",
    "Standing",
    "collect_elsewhere",
    "launcher_for",
    "require_ray",
]
