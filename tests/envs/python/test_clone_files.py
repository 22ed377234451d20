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
        for heir in (child, grandchild):
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
