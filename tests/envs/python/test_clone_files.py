"""A clone has its own files: by relative paths, by open descriptors, and never by a path that was stored before."""

import pytest
from python_sessions import MODES, cloned, opened, run, text, usable_tool

from arpo_envs import CloneError
from arpo_envs.tools.python.server.cell import SHOWN


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=())


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


OPEN_FILES = """
import os, tempfile
open("f", "w").write("abcdefghij")
path, half_read, log = os.path.abspath("f"), open("f"), open("log", "a")
half_read.read(3), log.write("one ")
log.flush()
nameless = tempfile.TemporaryFile("w+")
nameless.write("nobody"), nameless.seek(2)
reading, writing = os.pipe()
os.write(writing, b"x")
folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
"""


def test_open_files_of_a_clone_lead_into_its_own_copies(session):
    text(session, OPEN_FILES)
    for _ in range(2):  # of the original, then of the clone
        with cloned(session) as [child]:
            assert text(child, "half_read.read(2), nameless.read(3), log.write('two '), log.flush(), open('log').read()") == (
                "('de', 'bod', 4, None, 'one two ')"
            )
            text(
                child, "os.close(os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=folder)); half_read.seek(0); nameless.seek(0)"
            )
            assert text(child, "sorted(os.listdir())") == "['f', 'log', 'new']"
            assert text(session, "sorted(os.listdir()), open('log').read()") == "(['f', 'log'], 'one ')"
    assert text(session, "half_read.read(2), nameless.read(3)") == "('de', 'bod')"


def test_what_a_clone_cannot_have_a_copy_of_is_closed_to_it(session):
    text(session, OPEN_FILES)
    with cloned(session) as [child]:
        assert "Bad file descriptor" in run(child, "os.read(reading, 1)").text
        assert "Bad file descriptor" in run(child, "os.write(writing, b'y')").text
    assert text(session, "os.read(reading, 9)") == "b'x'"


def test_a_path_stored_before_the_clone_never_leads_to_the_originals_file(session):
    text(session, OPEN_FILES)
    with cloned(session) as [child], cloned(child) as [grandchild]:
        for heir in () if session.layers["own_mounts"] else (child, grandchild):
            for attempt in ("open(path)", "open(path, 'w')", "os.remove(path)", "os.listdir(os.path.dirname(path))"):
                assert run(heir, attempt).error == "error"
            assert text(heir, "path") == text(session, "path") == f"'{SHOWN}/f'"
    assert text(session, "open(path).read()") == "'abcdefghij'"


def test_forty_generations_of_clones_and_of_parked_ones(session):
    text(session, OPEN_FILES)
    lineage = [session]
    try:
        for generation in range(40):
            lineage.append(lineage[-1].park() if generation % 2 else lineage[-1].clone()[0])
            if generation % 2 == 0:
                assert (
                    text(lineage[-1], "half_read.read(1), open('f').read()")
                    == f"('{'defghij'[generation // 2 :][:1]}', 'abcdefghij')"
                )
    finally:
        for old in lineage[1:]:
            old.close()


def test_a_parked_session_is_as_it_was(session):
    text(session, OPEN_FILES)
    parked = session.park()
    text(session, "half_read.read(2), open('f', 'w').write('')")
    with cloned(parked, 2) as [one, two]:
        assert text(one, "half_read.read(2), open('f').read()") == "('de', 'abcdefghij')"
        parked.close()
        assert text(two, "half_read.read(2), open('f').read()") == "('de', 'abcdefghij')"
    session.close()
    with pytest.raises(CloneError):
        session.park()


FLAGS = "[fcntl.fcntl(file, fcntl.F_GETFL) for file in files]"
SET_FLAGS = """
for file in files:
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)
"""
DEVICES = "('/dev/null', '/dev/zero', '/dev/full', '/dev/urandom', '/dev/random')"
OPEN_DEVICES = f"import fcntl, os\nfiles = [0, 1, 2, *(os.open(path, os.O_RDONLY) for path in {DEVICES})]"


def test_devices_and_standard_streams_carry_no_message_to_a_clone_or_another_episode(tool, session):
    text(session, OPEN_DEVICES)
    before = text(session, FLAGS)
    with opened(tool, seed=1) as stranger, cloned(session) as [clone]:
        text(stranger, OPEN_DEVICES)
        text(clone, SET_FLAGS)
        changed = text(clone, FLAGS)
        assert changed != before
        with cloned(clone) as [heir]:
            assert text(heir, FLAGS) == changed, "a copy is as it was"
            assert text(heir, "len(os.read(files[4], 5)), len(os.read(files[6], 5)), os.write(1, b'x')") == "(5, 5, 1)"
        assert text(session, FLAGS) == text(stranger, FLAGS) == before
        text(stranger, SET_FLAGS)
        assert text(session, FLAGS) == before


MANY_NAMES = """
import os
for name in "qwertyuiopasdfg":
    open(name, "w").close(), os.makedirs(f"sub/{name}")
os.remove("t")
"""


def test_folders_are_listed_in_the_same_order_in_every_generation(session):
    text(
        session,
        "import os\nfor name in 'qwertyuiopasdfg':\n    open(name, 'w').close(); os.makedirs(f'sub/{name}')\nos.remove('t')",
    )
    look = "os.listdir(), os.listdir('sub'), [entry.name for entry in os.scandir()]"
    with cloned(session) as [child], cloned(child) as [heir]:
        assert text(child, look) == text(heir, look) == text(session, look)
        for one in (session, child):  # and goes on alike
            text(one, "open('new', 'w').close()")
        assert text(child, look) == text(session, look)


def test_modes_are_as_they_were_made(session):
    code = """
import os, stat
umask = os.umask(0o022)
for name, mode in {"a": 0o400, "b": 0o644, "c": 0o755, "d": 0o600}.items():
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, mode)), os.mkdir(name * 2, mode | 0o300)
None"""
    text(session, code)
    look = "{name: oct(stat.S_IMODE(os.stat(name).st_mode)) for name in sorted(os.listdir())}, os.umask(0o022)"
    before = text(session, look)
    assert "0o755" in before
    with cloned(session) as [child], cloned(child) as [heir]:
        assert text(heir, look) == text(child, look) == before


DUPLICATES = """
import os
open("f", "w").write("abcdefghij")
first = os.open("f", os.O_RDONLY); second, other = os.dup(first), os.open("f", os.O_RDONLY)
third = os.dup2(first, 30)
nameless = os.open("g", os.O_CREAT | os.O_RDWR); reading = os.open("g", os.O_RDONLY); again = os.dup(nameless)
os.write(nameless, b"0123456789"); os.remove("g")
os.read(first, 2), os.read(other, 2)
"""


def test_duplicated_descriptors_keep_their_common_place_and_others_get_none(session):
    text(session, DUPLICATES)
    look = "[os.read(file, 2) for file in (first, second, other, third)], os.lseek(second, 0, 1), os.lseek(other, 0, 1)"
    for one in (session, *session.clone(), *session.park().clone()):
        if one is not session:
            assert text(one, look) == "([b'cd', b'ef', b'cd', b'gh'], 8, 4)"
            assert text(one, "os.read(reading, 3), os.write(again, b'ab'), os.lseek(nameless, 0, 1)") == "(b'012', 2, 12)"
            assert text(one, "os.read(reading, 99)") == "b'3456789ab'", "one file, opened twice"
            assert text(one, "os.get_blocking(first), sorted(os.listdir())") == "(True, ['f'])"
            one.close()
    assert text(session, look) == "([b'cd', b'ef', b'cd', b'gh'], 8, 4)"
    assert text(session, "os.get_blocking(first), os.read(reading, 99)") == "(True, b'0123456789')"


def test_many_open_files_are_copied(session):
    text(session, "import os\nopen('f', 'w').write('abc')\nfiles = [os.open('f', os.O_RDONLY) for _ in range(55)]")
    with cloned(session) as [child]:
        look = "{os.read(file, 9) for file in files}"
        assert text(child, look) == text(session, look) == "{b'abc'}"
