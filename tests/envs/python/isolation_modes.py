"""The combinations of layers that the tests use, and who skips which."""

from pathlib import Path

import pytest

from arpo_envs.tools.python.server import isolation
from arpo_envs.tools.python.server.isolation.report import Layers

SERVER = Path(isolation.__file__).parents[2]
"""The folder from which the server's package is imported."""

NONE = Layers(namespaces=False, landlock=0, seccomp=False, no_new_privs=False, capabilities_dropped=False)
ALONE = {
    "namespaces": Layers(True, 0, False, False, False),
    "landlock": Layers(False, 7, False, True, False),
    "seccomp": Layers(False, 0, True, True, False),
    "capabilities": Layers(False, 0, False, False, True),
}
ALL = Layers(True, 7, True, True, True)
WITHOUT_NAMESPACES = Layers(False, 7, True, True, True)


def skip_if_missing(machine: isolation.Report, wanted: Layers) -> None:
    """Skips a test, by name, for what this machine does not offer."""
    offered = machine.layers
    for name in ("namespaces", "seccomp", "no_new_privs", "capabilities_dropped"):
        if getattr(wanted, name) and not getattr(offered, name):
            pytest.skip(f"{name}: this machine does not offer it")
    if wanted.landlock > offered.landlock:
        pytest.skip(f"landlock {wanted.landlock}: this machine offers {offered.landlock}")
