"""Where the kernel lacks Landlock or mounts per session, nobody is left to believe in what only these can keep."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attack_rights import NOBODY
from isolation_modes import ALL, skip_if_missing

from arpo_envs.tools.python.server import isolation

PROGRAM = Path(__file__).parent / "lacking_landlock.py"
REMEDY = {
    errno.ENOSYS: "It needs Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK",
    errno.EOPNOTSUPP: "add landlock to the kernel parameter `lsm=`",
    errno.EPERM: "A filter is already in place",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


@pytest.fixture(scope="module", params=[pytest.param("root", marks=pytest.mark.slow), "unprivileged"])
def user(request):
    if os.geteuid() == 0:
        return 0 if request.param == "root" else NOBODY
    if request.param == "root":
        pytest.skip("root: the tests are not run as root")
    return os.geteuid()


def _said(user, code, *calls):
    skip_if_missing(isolation.probe(), ALL)
    command = [sys.executable, str(PROGRAM), str(user), str(code), *calls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PATH": os.environ.get("PATH", "")})
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) | {"remedy": REMEDY[code]}


@pytest.fixture(
    scope="module",
    params=[pytest.param(code, marks=[pytest.mark.slow] if code != errno.ENOSYS else []) for code in REMEDY],
    ids=errno.errorcode.get,
)
def said(request, user):
    """What this program says without Landlock and mounts per session, and the remedy that it should name."""
    return _said(user, request.param, "landlock_create_ruleset", "setns")


@pytest.fixture(scope="module")
def said_with_mounts(user):
    return _said(user, errno.ENOSYS, "landlock_create_ruleset")


@pytest.fixture(scope="module")
def said_with_landlock(user):
    return _said(user, errno.EPERM, "setns")


def test_mounts_per_session_keep_a_path_without_landlock(said_with_mounts):
    assert said_with_mounts["auto"] == {"warned": [], "escaped": False}
    assert "layers='full' needs namespaces and Landlock. Landlock: " in said_with_mounts["full"]["refused"]
    assert said_with_mounts["doctor"]["status"] == 0


def test_landlock_keeps_a_path_without_mounts_per_session(said_with_landlock):
    assert said_with_landlock["auto"] == {"warned": [], "escaped": False}
    assert "layers='full' needs namespaces and Landlock. mounts per session: " in said_with_landlock["full"]["refused"]
    assert said_with_landlock["no-namespaces"] == {"warned": [], "escaped": False}
    assert said_with_landlock["doctor"]["status"] == 0
    assert "mounts per session" in said_with_landlock["doctor"]["shown"]


def test_all_layers_are_refused_by_name_with_what_to_do(said):
    refused = said["full"]["refused"]
    assert "layers='full' needs namespaces and Landlock. mounts per session: " in refused
    assert "Landlock: " in refused
    assert said["remedy"] in refused
    assert "namespace: " not in refused, "what is there is not called missing"
    assert ".." not in refused


def test_the_default_says_what_is_not_kept(said):
    [warning] = said["auto"]["warned"]
    assert warning.startswith("Landlock is missing: ")
    assert "a path that was stored before the clone leads to its original's files" in warning
    assert said["remedy"] in warning
    assert said["auto"]["escaped"], "if the path leads nowhere now, the warning and the documentation are out of date"


def test_without_namespaces_as_well_nothing_starts_unless_it_may_be_unsafe(said):
    assert "Landlock" in said["no-namespaces"]["refused"]
    assert said["remedy"] in said["no-namespaces"]["refused"]
    [warning] = said["unsafe"]["warned"]
    assert warning.startswith("unsafe=True: ")


def test_the_doctor_says_it_and_fails(said):
    assert said["doctor"]["status"] == 1
    assert "Python sessions start, but not every promise is kept here:" in said["doctor"]["shown"]
    assert "a path that was stored before the clone leads to its original's files" in said["doctor"]["shown"]
    assert said["remedy"] in said["doctor"]["shown"]
