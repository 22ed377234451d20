"""Tests that need a GPU, run by pytest in a process of their own."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from .measures import Numbers, Setting, Skipped, require


def passed(setting: Setting) -> Numbers:
    """Counts the tests that pass.

    Raises:
        Skipped: none were named, or a package is missing.
        Broken: one fails.
    """
    if not setting.tests:
        raise Skipped("no tests were named with --tests")
    if find_spec("pytest") is None:
        raise Skipped("pytest is not installed")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", f"--junitxml={file}", setting.tests]
        subprocess.run(command, stdout=sys.stderr, check=False)
        found = ElementTree.parse(file).getroot()
    return counted(list(found.iter("testcase")))


def counted(cases: list[ElementTree.Element]) -> Numbers:
    """Returns how many tests had each outcome.

    Args:
        cases: as in a JUnit file.

    Raises:
        Skipped: a package that they need is missing.
        Broken: one failed, or all were skipped.

    >>> counted([ElementTree.fromstring('<testcase name="a"/>')])
    {'passed': 1, 'failed': 0, 'skipped': 0}
    """
    failed = [case for case in cases if _has(case, ("failure", "error"))]
    if missing := re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", "".join(map(_text, failed))):
        raise Skipped(f"the tests need {missing[1]}")
    skipped = sum(_has(case, ("skipped",)) for case in cases)
    numbers: Numbers = {"passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped}
    require(not failed, f"failed: {', '.join(case.get('name', '?') for case in failed)}", numbers)
    require(len(cases) > skipped, "no test ran", numbers)
    return numbers


def _has(case: ElementTree.Element, tags: Iterable[str]) -> bool:
    return any(case.find(tag) is not None for tag in tags)


def _text(case: ElementTree.Element) -> str:
    return "".join(case.itertext())
