"""All mutants, in the order in which they are made."""

from mutants import Mutant
from mutants_copies import COPIES
from mutants_isolation import ISOLATION
from mutants_server import SERVER

MUTANTS: tuple[Mutant, ...] = (*SERVER, *COPIES, *ISOLATION)
