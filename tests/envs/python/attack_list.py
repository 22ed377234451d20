"""All attacks, in the order in which they are run."""

from attacks import Attack
from attacks_afterwards import AFTERWARDS
from attacks_locks import LOCKS
from attacks_outside import OUTSIDE
from attacks_processes import PROCESSES
from attacks_races import RACES
from attacks_resources import RESOURCES
from attacks_separation import SEPARATION
from attacks_session import SESSION
from attacks_waiting import WAITING

ATTACKS: tuple[Attack, ...] = (*OUTSIDE, *LOCKS, *PROCESSES, *RESOURCES, *SESSION, *SEPARATION, *AFTERWARDS, *WAITING, *RACES)
