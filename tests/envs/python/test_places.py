"""The interpreter works wherever the environment and the checkout lie, and whatever the folders on the way are called."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from isolation_modes import ALONE, skip_if_missing
from odd_places import NOBODY, PLACES

from arpo_envs.tools.python.server import isolation

PROGRAM = Path(__file__).parent / "odd_places.py"
MODES = ("full", "no-namespaces")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


@pytest.fixture(scope="module")
def machine():
    return isolation.probe()


@pytest.fixture(params=["root", "unprivileged"])
def user(request):
    if os.geteuid() == 0:
        return 0 if request.param == "root" else NOBODY
    if request.param == "root":
        pytest.skip("root: the tests are not run as root")
    return os.geteuid()


@pytest.mark.turns("name", always=2, often=4)
@pytest.mark.parametrize("name", PLACES)
def test_an_environment_may_lie_anywhere(machine, user, name):
    skip_if_missing(machine, ALONE["namespaces"])
    done = subprocess.run([sys.executable, str(PROGRAM), str(user), name], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    place = PLACES[name]
    prefix = f"{place.seen_as or place.folder}/environment"
    for mode in MODES:
        assert said[mode] == {"prefix": prefix, "packages": True, "where": "/work", "listed": [], "mine": ["mine"]}, mode
        assert said[f"{mode}, cloned"] == "'x'", mode


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        ([], "/arpo-sessions"),
        (["/usr/arpo-sessions"], "/arpo-sessions"),
        (["/arpo-sessions-2/x"], "/arpo-sessions"),
        (["/arpo-sessions"], "/arpo-sessions-"),
        (["/arpo-sessions/a/b"], "/arpo-sessions-"),
        (["//arpo-sessions/../arpo-sessions/./a"], "/arpo-sessions-"),
        (["/arpo-sessions-/a", "/arpo-sessions/b"], "/arpo-sessions--"),
        (["/proc/self/root/arpo-sessions/a"], "/arpo-sessions-"),
        (["/"], "/arpo-sessions"),
    ],
)
def test_the_folder_for_sessions_bears_a_name_that_is_on_no_path(paths, name):
    assert isolation.PrivateRoot(paths).work == name


def test_the_name_is_found_when_only_a_link_leads_there(tmp_path):
    link = partial(os.path.join, tmp_path)
    os.symlink("/arpo-sessions/environment", link("one"))
    os.symlink("one", link("two"))
    assert isolation.PrivateRoot([link("two")]).work == "/arpo-sessions-"
    assert isolation.PrivateRoot([str(tmp_path)]).work == "/arpo-sessions", "what is in a folder leads nowhere by itself"
