"""The file that answers are kept in: the first value stays, whoever else writes, forks, or is killed."""

import copy
import os
import pickle
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arpo_envs.errors import ConfigError, ToolFault
from arpo_envs.tools.cache import Found, Store

JSON = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
WRITE = """
import sys
from arpo_envs.tools.cache import Store
store, who = Store(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[3])):
    print(i, store.settle(b"subject", [who, i, "x" * 2000], at=b"%d" % i).value[0], flush=True)
"""
FORK = """
import os, sys
from arpo_envs.tools.cache import Store
store = Store(sys.argv[1])
store.settle(b"subject", "parent", at=b"parent")
connected = store._here()
child = os.fork()
if child == 0:
    assert store._here() is not connected
    store.settle(b"subject", store.find(b"parent").value + "'s child", at=b"child")
    store.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
store.settle(b"subject", "after", at=b"after")
print(*(store.find(key).value for key in (b"parent", b"child", b"after")), sep=", ")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


def writer(file: Path, who: str, count: int) -> "subprocess.Popen[str]":
    """Returns a process that stores values as soon as it is sent a line."""
    command = [sys.executable, "-c", WRITE, str(file), who, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@given(value=JSON | st.binary(), other=JSON | st.binary())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_value_stays_as_it_was(value, other, tmp_path_factory):
    file = tmp_path_factory.mktemp("store") / "answers.sqlite"
    with Store(file) as store:
        assert store.find(b"key") is None
        assert store.settle(b"subject", value, at=b"key") == Found(b"key", value)
        assert store.settle(b"subject", other, at=b"key") == Found(b"key", value)
    with Store(file, reading=True) as store:
        assert store.find(b"none", b"key") == Found(b"key", value)
        assert type(store.find(b"key").value) is type(value)


def test_another_keys_entry_counts_instead(file):
    with Store(file) as store:
        store.settle(b"s", "right", at=b"call")
        assert store.settle(b"s", "wrong", at=b"place", unless=b"call") == Found(b"call", "right")
        assert store.find(b"place") is None
        assert store.settle(b"s", "wrong", at=b"elsewhere", unless=b"other") == Found(b"elsewhere", "wrong")
        assert store.find(b"elsewhere", b"call") == Found(b"elsewhere", "wrong"), "the first key that has an entry"
        assert (store.knows(b"s"), store.knows(b"t"), len(store)) == (True, False, 2)


def test_only_the_owner_may_use_it_and_the_files_beside_it(file):
    before = os.umask(0)
    try:
        with Store(file) as store:
            store.settle(b"s", 1, at=b"k")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert {"answers.sqlite", "answers.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    file.chmod(0o644)
    Store(file).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_processes_agree_on_every_value(file):
    writers = [writer(file, who, 60) for who in ("one", "two")]
    for process in writers:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[0].splitlines() for process in writers]
    assert [process.returncode for process in writers] == [0, 0]
    assert told[0] == told[1]
    assert len(told[0]) == 60
    with Store(file) as store:
        assert len(store) == 60


def test_what_was_stored_outlives_a_writer_that_is_killed(file):
    process = writer(file, "victim", 100_000)
    process.stdin.write("go\n")
    process.stdin.flush()
    told = [process.stdout.readline() for _ in range(40)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.communicate()[0].splitlines()
    assert process.returncode == -signal.SIGKILL
    assert Path(f"{file}-wal").stat().st_size > 0, "it was killed before it could tidy up"
    whole = [line for line in told if line.strip().endswith("victim")]
    with Store(file) as store:
        assert all(store.find(line.split()[0].encode()).value[0] == "victim" for line in whole)
        assert len(store) in (len(whole), len(whole) + 1)
        store.settle(b"subject", "new", at=b"new")
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_forked_process_opens_the_file_itself(file):
    told = subprocess.check_output([sys.executable, "-c", FORK, str(file)], text=True)
    assert told == "parent, parent's child, after\n"


def test_copies_are_the_store_itself_and_travel_by_name(file):
    with Store(file) as store:
        store.settle(b"s", 1, at=b"k")
        assert copy.deepcopy(store) is store
        with pickle.loads(pickle.dumps(store)) as other:
            assert other.find(b"k") == Found(b"k", 1)


def test_a_recording_is_read_where_nothing_can_be_written(file, monkeypatch):
    with Store(file) as store:
        store.settle(b"s", 1, at=b"k")
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # the tests may run as root
    with Store(file, reading=True) as store:
        assert store.find(b"k") == Found(b"k", 1)
    assert not Path(f"{file}-shm").exists()
    Path(f"{file}-wal").write_bytes(b"something")
    with pytest.raises(ConfigError, match=r"Copy it, with answers\.sqlite-wal"):
        Store(file, reading=True)


def test_reading_never_writes(file):
    Store(file).close()
    with Store(file, reading=True) as store, pytest.raises(ToolFault, match=r"answers\.sqlite cannot be written: .*readonly"):
        store.settle(b"s", 1, at=b"k")


def test_what_is_no_recording_is_refused_and_left_alone(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no recording .*none\.sqlite"):
        Store(tmp_path / "none.sqlite", reading=True)
    (tmp_path / "notes.txt").write_text("Not a database, and longer than its header would be." * 4)
    for reading in (False, True):
        with pytest.raises(ConfigError, match="cannot be opened as a recording"):
            Store(tmp_path / "notes.txt", reading=reading)
    foreign = sqlite3.connect(tmp_path / "foreign.sqlite")
    foreign.execute("CREATE TABLE mine (x)")
    foreign.close()
    with pytest.raises(ConfigError, match="another database"):
        Store(tmp_path / "foreign.sqlite")
    with pytest.raises(ConfigError, match="cannot be opened as a recording"):
        Store(tmp_path / "no folder" / "answers.sqlite")


def test_a_full_disk_is_named_and_what_fits_later_is_stored(file):
    """A limit on the size of this process's files stands for the disk."""
    with Store(file) as store:
        store.settle(b"subject", "small", at=b"first")
        before, kept = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
            for size in (100_000, 5_000_000):  # the second one is more than SQLite keeps in memory
                with pytest.raises(ToolFault, match="cannot be written: disk I/O error"):
                    store.settle(b"subject", "x" * size, at=b"large")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, kept)
        assert store.settle(b"subject", "again", at=b"large").value == "again"
        assert len(store) == 2


def test_a_closed_store_says_so(file):
    store = Store(file)
    store.close()
    store.close()
    with pytest.raises(ToolFault, match="was closed"):
        store.find(b"k")
