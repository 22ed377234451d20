"""Rollouts in many processes, here or on other machines, that give the trees of one process.

The trainer stays as it is; two of its parts stand for the engines. Its policy is a `ClusterPolicy`, which sends new weights to
all of them, and its way to collect is `collect_elsewhere`, which sends them prompts. `collector.py` holds the prompts: an
engine that has room takes some, and those of an engine that is lost are taken by another one. `engines.py` holds the engines:
it starts them, gives them weights, and makes lost ones anew. `worker.py` is what is inside an engine's process: a policy, a
renderer, and, in `growing.py`, the trees that grow beside each other. `launcher.py` is the seam below: `local.py` starts
processes of this machine, `ray_actors.py` actors of a Ray cluster, and nothing else knows where a worker runs. `ray_nodes.py`
asks the nodes of such a cluster what they have, and `versions.py` whether that is the same everywhere. Trees travel as
`parcel.py` packs them, weights as `published.py` lays them out. `in_front.py` stands for engines that are clients of servers.
`ahead.py` lets rollouts and updates overlap. `ranks.py` stands for a learner whose model lies on several processes, `rank.py`
is what is inside one of these, and `rank_faults.py` says what it means that one fails. What all of it will cost is said by
`planning/`, which simulates a step. `leftovers.py` removes what a run that was killed could not.
"""

from .ahead import Ahead, require_correction
from .collector import COUNTS, collect_elsewhere
from .engines import Engines, Listener, NoEngines, Patience, Standing
from .in_front import ServedPolicy
from .launcher import Launcher, Lost, MakeEquipment
from .launchers import launcher_for, require_ray
from .leftovers import LEARNERS, clear
from .parcel import packed
from .policy import ClusterPolicy
from .published import StoredWeights, write_published
from .rank import Origin
from .rank_faults import LostForGood
from .ranks import RankedLearner, Ranks
from .ray_nodes import HERE, NodeAnswer, ask_nodes, gathered, joined, require_same_nodes
from .versions import differences, in_lines, in_words, versions_here
from .worker import Equipment

__all__ = [
    "COUNTS",
    "HERE",
    "LEARNERS",
    "Ahead",
    "ClusterPolicy",
    "Engines",
    "Equipment",
    "Launcher",
    "Listener",
    "Lost",
    "LostForGood",
    "MakeEquipment",
    "NoEngines",
    "NodeAnswer",
    "Origin",
    "Patience",
    "RankedLearner",
    "Ranks",
    "ServedPolicy",
    "Standing",
    "StoredWeights",
    "ask_nodes",
    "clear",
    "collect_elsewhere",
    "differences",
    "gathered",
    "in_lines",
    "in_words",
    "joined",
    "launcher_for",
    "packed",
    "require_correction",
    "require_ray",
    "require_same_nodes",
    "versions_here",
    "write_published",
]
