"""Whatever a session was in the middle of goes on in a copy, and after a cell that was undone, as if nothing had been."""

import pytest
from python_sessions import cloned, opened, run, text, usable_tool

IMPORTS = """
import csv, glob, gzip, importlib, logging, mmap, os, pathlib, shelve, shutil, sqlite3, sys, tarfile, tempfile, zipfile
"""
CASES = {
    "a log": (
        "log = logging.getLogger('x'); log.addHandler(logging.FileHandler(os.path.abspath('l'))); log.error('one')",
        "log.error('two'); open('l').read()",
    ),
    "a shelf": ("shelf = shelve.open('s'); shelf['a'] = 1", "shelf['b'] = 2; shelf.sync(); dict(shelf)"),
    "a table": (
        "file = open('c', 'w', newline=''); table = csv.writer(file); table.writerow([1])",
        "file.flush(); open('c').read()",
    ),
    "an archive": (
        "archive = zipfile.ZipFile('z', 'w'); archive.writestr('a', '1')",
        "archive.writestr('b', '2'); archive.close(); zipfile.ZipFile('z').namelist()",
    ),
    "a compressed file": (
        "packed = gzip.open('g', 'wt'); packed.write('one')",
        "packed.write('two'); packed.close(); gzip.open('g', 'rt').read()",
    ),
    "a tape": (
        "open('q', 'w').write('q'); tape = tarfile.open('t', 'w'); tape.add('q')",
        "tape.close(); tarfile.open('t').getnames()",
    ),
    "a temporary folder": (
        "folder = tempfile.TemporaryDirectory(); open(folder.name + '/x', 'w')",
        "folder.cleanup(); os.listdir()",
    ),
    "a spooled file": ("file = tempfile.SpooledTemporaryFile(2, 'w+'); file.write('abcdef')", "file.seek(0); file.read()"),
    "two databases": (
        "base = sqlite3.connect('m', isolation_level=None); base.execute(\"attach 'n' as n\")\n"
        "base.execute('create table n.t (a)'), base.execute('begin'), base.execute('insert into n.t values (1)')",
        "base.execute('commit'); base.execute('insert into n.t values (2)'); base.execute('select * from n.t').fetchall()",
    ),
    "two connections": (
        "one, two = [sqlite3.connect('d', isolation_level=None, timeout=0.1) for _ in range(2)]\n"
        "one.execute('create table t (a)'), one.execute('begin immediate')",
        """
try:
    two.execute('insert into t values (1)')
except sqlite3.OperationalError as error:
    print(error)
one.execute('commit'); two.execute('insert into t values (2)'); one.execute('select * from t').fetchall()""",
    ),
    "a cursor": (
        "base = sqlite3.connect('d'); base.execute('create table t (a)')\n"
        "base.executemany('insert into t values (?)', [(n,) for n in range(1000)]); base.commit()\n"
        "cursor = base.execute('select a from t'); next(cursor)",
        "next(cursor), len(list(cursor))",
    ),
    "a database after many files": (
        "for n in range(300): open('f', 'w'), os.remove('f')\n"
        "base = sqlite3.connect('d', isolation_level=None); base.execute('create table t (a)')",
        "base.execute('insert into t values (1)'); base.execute('select * from t').fetchall()",
    ),
    "a write-ahead log": (
        "base = sqlite3.connect('d', isolation_level=None); base.execute('pragma locking_mode = exclusive')\n"
        "base.execute('pragma journal_mode = wal').fetchone(), base.execute('create table t (a)')",
        "base.execute('insert into t values (1)'); base.execute('select * from t').fetchall()",
    ),
    "fifty open files": (
        "files = [open(f'f{n}', 'w') for n in range(50)]; [file.write(file.name) for file in files]",
        "[file.flush() for file in files]; open('f49').read(), len(os.listdir())",
    ),
    "a half-read listing": (
        "for n in range(9): open(str(n), 'w')\nentries = os.scandir(); first = next(entries).name",
        "[first, *(entry.name for entry in entries)] == os.listdir()",
    ),
    "a module": (
        "open('m1.py', 'w').write('x = 1'); import m1",
        "open('m2.py', 'w').write('x = 2'); importlib.invalidate_caches(); import m2\n"
        "m2.x, m1.__file__ == os.path.abspath('m1.py')",
    ),
    "a renamed file": (
        "file = open('old', 'w+'); file.write('abc'); file.flush(); os.rename('old', 'new')",
        "file.write('d'); file.flush(); open('new').read()",
    ),
    "a file with two names": (
        "open('h', 'w').write('x'); os.link('h', 'k'); file = open('k', 'a')",
        "file.write('y'); file.flush(); open('h').read(), os.stat('h').st_nlink",
    ),
    "behind a link": (
        "os.makedirs('r/s'); os.symlink(os.path.abspath('r'), 'l'); os.chdir('l/s'); open('z', 'w').write('1')",
        "os.getcwd().endswith('r/s'), open('z').read(), os.listdir('../..')",
    ),
    "in a folder that is gone": ("os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')", "os.listdir(os.environ['HOME'])"),
    "odd modes": (
        "os.close(os.open('r', os.O_CREAT | os.O_WRONLY, 0o400)); os.mkdir('f', 0o500); os.mkdir('x', 0)",
        "sorted((name, oct(os.stat(name).st_mode)) for name in os.listdir())",
    ),
    "numbers of open files": (
        "open('a', 'w'); os.mkdir('b'); files = [open('c', 'w'), open('b/d', 'w'), open('e', 'w')]",
        "[(os.stat(file.name).st_ino, os.fstat(file.fileno()).st_ino) for file in files]",
    ),
}


@pytest.fixture(scope="module")
def tool():
    return usable_tool("full", imports=())


@pytest.mark.parametrize("name", CASES)
def test_a_copy_goes_on_as_its_original_does(tool, name):
    before, look = CASES[name]
    with opened(tool) as undisturbed, opened(tool) as session, opened(tool) as undone:
        for one in (undisturbed, session, undone):
            text(one, f"{IMPORTS}{before}\nNone")
        expected = text(undisturbed, look)
        with cloned(session) as [child], cloned(child) as [heir]:
            assert [text(one, look) for one in (heir, child, session)] == [expected] * 3
        assert run(undone, "os._exit(1)").error == "died"
        assert text(undone, look) == expected
