"""What locks its own files goes on working, although no lock is ever taken."""

import pytest
from python_sessions import MODES, cloned, opened, text, usable_tool


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=())


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


WORKING = {
    "two connections": """
one, two = sqlite3.connect("d", isolation_level=None), sqlite3.connect("d", isolation_level=None, timeout=0.1)
one.execute("create table t (a)")
one.execute("begin immediate"); one.execute("insert into t values (1)")
try:
    two.execute("insert into t values (2)")
    kept = "no lock"
except sqlite3.OperationalError as error:
    kept = str(error)
seen = two.execute("select count(*) from t").fetchone()
one.execute("commit")
two.execute("insert into t values (3)")
(kept, seen, one.execute("select a from t order by a").fetchall())
""",
    "a journal that a crash has left": """
base = sqlite3.connect("d", isolation_level=None)
base.execute("pragma cache_size = 1"), base.execute("create table t (a)")
base.executemany("insert into t values (?)", [("old" * 500,) for _ in range(100)])
base.execute("begin"), base.execute("update t set a = 'new'")
shutil.copy("d", "e"), shutil.copy("d-journal", "e-journal")
changed = b"new" in open("e", "rb").read()
crashed = sqlite3.connect("e")
(changed, crashed.execute("select distinct substr(a, 1, 3) from t").fetchall(), os.path.exists("e-journal"))
""",
    "locking modes": """
base = sqlite3.connect("d", isolation_level=None)
modes = [base.execute(f"pragma locking_mode = {mode}").fetchone() for mode in ("exclusive", "normal")]
journals = [base.execute(f"pragma journal_mode = {mode}").fetchone()[0] for mode in ("delete", "truncate", "persist", "memory")]
base.execute("create table t (a)"), base.execute("vacuum"), base.execute("pragma integrity_check").fetchone(), modes, journals
""",
    "backup": """
source, target = sqlite3.connect("d"), sqlite3.connect("e")
with source:
    source.execute("create table t (a)"), source.executemany("insert into t values (?)", [(n,) for n in range(1000)])
source.backup(target)
target.execute("select sum(a) from t").fetchone()
""",
    "shelves": """
with shelve.open("s") as shelf:
    shelf["a"] = [1, 2]
with shelve.open("s") as shelf:
    found = dict(shelf)
found
""",
    "mailboxes": """
box = mailbox.mbox("m")
box.lock(), box.add("Subject: x\\n\\nhello"), box.flush(), box.unlock()
[message["subject"] for message in mailbox.mbox("m")]
""",
    "plain locks": """
with open("f", "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX), fcntl.flock(file, fcntl.LOCK_EX), file.write("x"), fcntl.lockf(file, fcntl.LOCK_UN)
open("f").read()
""",
}
SEEN = {
    "two connections": "('database is locked', (0,), [(1,), (3,)])",
    "a journal that a crash has left": "(True, [('old',)], False)",
    "locking modes": "['delete', 'truncate', 'persist', 'memory'])",
    "backup": "(499500,)",
    "shelves": "{'a': [1, 2]}",
    "mailboxes": "['x']",
    "plain locks": "'x'",
}


@pytest.mark.parametrize("name", WORKING)
def test_what_locks_files_works(session, name):
    text(session, "import fcntl, mailbox, os, shelve, shutil, sqlite3")
    assert text(session, WORKING[name]).endswith(SEEN[name])


def test_a_database_is_copied_with_a_clone(session):
    text(session, "import sqlite3\nbase = sqlite3.connect('d')\nwith base: base.execute('create table t (a)')\nbase.close()")
    add = "with sqlite3.connect('d') as base: base.execute('insert into t values (1)')"
    look = "sqlite3.connect('d').execute('select count(*) from t').fetchone()"
    with cloned(session) as [child]:
        text(child, add)
        assert (text(child, look), text(session, look)) == ("(1,)", "(0,)")
