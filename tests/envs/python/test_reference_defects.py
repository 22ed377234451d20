"""Defects 12 to 14 of the reference implementation's tools, each with a test that would find it here."""

import pytest
from python_sessions import opened, run, text, usable_tool


@pytest.fixture(scope="module")
def session():
    with opened(usable_tool("auto", imports=())) as session:
        yield session


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket()",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])",
        "import os; os.fork()",
        "open('/etc/passwd').read()",
        "open('../outside', 'w')",
        "x = bytearray(1 << 40)",
    ],
)
def test_12_code_is_confined(session, attempt):
    """Defect 12: code ran as the same user, with network, files, processes and memory without limit."""
    assert run(session, attempt).error == "error"


def test_12_the_environment_of_the_host_is_not_seen(session, monkeypatch):
    monkeypatch.setenv("ARPO_SECRET", "secret")
    with opened(usable_tool("auto", imports=(), disk_mb=60)) as fresh:  # a server that is started now
        assert text(fresh, "import os; os.environ.get('ARPO_SECRET')") == ""


def test_12_long_code_and_long_output_and_fences(session):
    """Defect 12: code above 128 KiB failed, fences were not stripped, output had no limit."""
    assert text(session, "```python\nx = '" + "a" * 300_000 + "'\nlen(x)\n```") == "300000"
    assert len(text(session, "print(x)")) <= 8000


def test_13_a_cell_that_prints_nothing_is_a_success_and_runs_once(session):
    """Defect 13: an empty result was taken for a failure, and the code was run three times."""
    text(session, "runs = 0")
    result = run(session, "runs += 1")
    assert (result.text, result.error) == ("", None)
    assert text(session, "runs") == "1"


@pytest.mark.parametrize("blocked", ["", "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n"])
def test_14_the_time_limit_acts(session, blocked):
    """Defect 14: the limit was put on calls that had ended already."""
    result = run(session, f"{blocked}while True:\n    pass", timeout=0.2)
    assert result.error == "timeout"
    assert text(session, "6 * 7") == "42"
