"""What a session and its clones may take together: files with a name and without, before a cell and after it; descriptors."""

import pytest
from python_sessions import MODES, cloned, opened, run, text, usable_tool

from arpo_envs import CloneError

TOGETHER = 160
"""Megabytes."""
BACK = "the state is as before this cell"
USED_UP = f"the interpreters of this environment may use {TOGETHER} MB together, and that is used up"
MAKE = "name = 'f{}'; n = {}; open(name, 'wb').write(bytes({} << 20))\nNone"
SIZE = "sum(os.stat(f).st_blocks for f in os.listdir()) * 512 >> 20"


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=(), memory_mb=512, disk_mb=128, total_memory_mb=TOGETHER)


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


@pytest.fixture(scope="module", params=MODES)
def small(request):
    return usable_tool(request.param, imports=("numpy",), memory_mb=512, disk_mb=8, inodes=64)


@pytest.fixture
def narrow(small):
    with opened(small) as session:
        text(session, f"n = 1\n{HELPERS}")
        yield session


# --- all together ------------------------------------------------------------------------------------------


def test_files_of_twelve_clones_count_together_after_each_cell(session):
    text(session, "import os; n = 0")
    with cloned(session, 12) as twins:
        results = [run(twin, MAKE.format(number, 1, 30)) for number, twin in enumerate(twins)]
        undone = [twin for twin, result in zip(twins, results, strict=True) if result.error == "limit"]
        assert {result.text for result in results} == {"", f"the cell was undone: {USED_UP}; {BACK}"}
        kept = [twin for twin in twins if twin not in undone]
        assert 2 <= len(kept) <= TOGETHER // 30
        kept[0].close()
        kept[1].close()  # room for the next questions
        assert {text(twin, f"n, {SIZE}") for twin in kept[2:]} <= {"(1, 30)"}
        assert {text(twin, "n, os.listdir()") for twin in undone} == {"(0, [])"}


def test_a_clone_that_there_is_no_room_for_is_not_made(session):
    text(session, f"import os; {MAKE.format(0, 1, 40)}")
    twins = session.clone(6)
    made = [twin for twin in twins if not isinstance(twin, CloneError)]
    try:
        assert 1 <= len(made) <= 3  # each with its copy of the 40 MB
        assert USED_UP in str(twins[-1])
    finally:
        for twin in made:
            twin.close()
    assert text(session, SIZE) == "40"


def test_one_session_can_always_go_on(session):
    """A cell that leaves no room for the next one's checkpoint is undone, so that the session never stands still."""
    results = [run(session, f"open('g{number}', 'wb').write(bytes(15 << 20))\nNone").text for number in range(8)]
    assert set(results) == {"", f"the cell was undone: {USED_UP}; {BACK}"}
    assert 3 <= results.count("") <= TOGETHER // 30
    assert text(session, "import os\nfor name in os.listdir(): os.remove(name)\nos.listdir()") == "[]"
    text(session, MAKE.format(0, 1, 30))


def test_there_is_room_again_when_files_are_removed_or_clones_closed(session):
    with cloned(session, 3) as twins:
        for number, twin in enumerate(twins[:2]):
            text(twin, MAKE.format(number, 1, 30))
        assert run(twins[2], MAKE.format(2, 1, 60)).error == "limit"
        text(twins[0], "import os; os.remove(name)")
        twins[1].close()
        text(twins[2], MAKE.format(2, 1, 60))


@pytest.mark.parametrize(
    "hide",
    [
        "os.unlink(name)",
        "os.unlink(name); os.dup(kept[-1].fileno())",
        "os.rename(name, 'other'); os.unlink('other')",
        "os.mkdir('d'); os.rename(name, 'd/f'); os.unlink('d/f'); os.rmdir('d')",
    ],
)
def test_files_without_a_name_of_many_clones_count_together(session, hide):
    text(session, "import os; kept = []")
    with cloned(session, 8) as twins:
        cell = f"name = 'f'; kept.append(open(name, 'wb')); kept[-1].write(bytes(30 << 20)); kept[-1].flush(); {hide}\nNone"
        results = [run(twin, cell) for twin in twins]
        assert [result.error for result in results].count(None) <= TOGETHER // 30
        assert f"the cell was undone: {USED_UP}; {BACK}" in {result.text for result in results}


# --- one working directory: files without a name -----------------------------------------------------------

HELPERS = """
import ctypes, mmap, os, tempfile
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
kept = []
def filled(file, megabytes=3):
    file.write(bytes(megabytes << 20)); file.flush()
    return file
def mapped(name, private=True):
    with filled(open(name, 'wb+')) as file:
        place = libc.mmap(None, 4096, 1, 2 if private else 1, file.fileno(), 0)
        assert place != ctypes.c_void_p(-1).value
"""
FOUR = "for i in range(4):\n    {}"
HIDDEN = {
    "deleted": "kept.append(filled(open('f', 'wb'))); os.remove('f')",
    "temporary": "kept.append(filled(tempfile.TemporaryFile()))",
    "never named": "kept.append(filled(open(os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600), 'wb')))",
    "read only": "filled(open('f', 'wb')).close(); kept.append(open('f', 'rb')); os.remove('f')",
    "of no use": "filled(open('f', 'wb')).close(); kept.append(os.open('f', os.O_PATH)); os.remove('f')",
    "duplicate alone": "with open('f', 'wb') as f: kept.append(os.dup(filled(f).fileno()))\n    os.remove('f')",
    "of two names": "kept.append(filled(open('f', 'wb'))); os.link('f', 'g'); os.remove('f'); os.remove('g')",
    "replaced": "kept.append(filled(open('f', 'wb'))); open('g', 'w').close(); os.replace('g', 'f')",
    "mapped": "mapped('f'); os.remove('f')",
    "mapped, shared": "mapped('f', private=False); os.remove('f')",
    "mapped by Python": "f = filled(open('f', 'wb+')); kept.append(mmap.mmap(f.fileno(), 0, access=1)); del f; os.remove('f')",
    "with a folder": "os.mkdir('d'); kept.append(filled(open('d/f', 'wb'))); os.remove('d/f'); os.rmdir('d')",
    "of an odd name": "os.mkdir('d'); mapped('d/a\\n(deleted)'); os.remove('d/a\\n(deleted)'); os.rmdir('d')",
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
def test_files_without_a_name_count_for_the_working_directory(small, narrow, hide):
    with cloned(narrow) as [sibling]:
        result = run(narrow, f"n = 2\n{FOUR.format(hide)}")
        if small._server.namespaces:  # the kernel bounds it
            assert result.error == "error"
            assert "No space left on device" in result.text
        else:
            assert result.error == "limit"
            bound = "the working directory may hold 8 MB in 64 files, deleted ones that are still in use included"
            assert result.text == f"the cell was undone: {bound}; {BACK}"
            assert text(narrow, "n, kept, os.listdir()") == "(1, [], [])"
        assert text(sibling, "n, kept, os.listdir()") == "(1, [], [])"


HARMLESS = {
    "deleted": "kept.append(filled(open('f', 'wb+'))); os.remove('f')",
    "mapped by Python": "with tempfile.TemporaryFile() as f: kept.append(mmap.mmap(filled(f).fileno(), 0, access=1))",
    "mapped by NumPy": "import numpy\nwith tempfile.TemporaryFile() as f: kept.append(numpy.memmap(filled(f), mode='r'))",
    "mapped with a name": "mapped('f')",
}


@pytest.mark.parametrize("use", HARMLESS.values(), ids=HARMLESS)
def test_a_little_without_a_name_is_no_harm(narrow, use):
    text(narrow, f"{use}\nNone")
    assert text(narrow, "n") == "1"


def test_a_file_without_a_name_is_in_the_state_before_a_cell(narrow):
    text(narrow, "f = tempfile.TemporaryFile(); f.write(b'kept'); f.flush()")
    assert run(narrow, "os._exit(1)").error == "died"
    assert text(narrow, "f.seek(0), f.read()") == "(0, b'kept')"


# --- descriptors -------------------------------------------------------------------------------------------

KEEP = """
held = []
try:
    while True:
        held.append(os.open({!r}, {}))
except OSError as error:
    name = error.strerror
len(held), name
"""
PIPES = """
held, name = [], ""
while not name:
    try:
        held += os.pipe() if len(held) < 60 else [os.dup(0)]
    except OSError as error:
        name = error.strerror
len(held), name
"""
WHAT = {
    "device": KEEP.format("/dev/null", "os.O_RDONLY"),
    "file": "open('f', 'w').write('x')\n" + KEEP.format("f", "os.O_RDONLY"),
    "new files": KEEP.format(".", "os.O_TMPFILE | os.O_RDWR"),
    "folder": KEEP.format(".", "os.O_RDONLY"),
    "pipes": PIPES,
    "duplicates": KEEP.replace("os.open({!r}, {})", "os.dup(0)"),
}


@pytest.mark.parametrize("keep", WHAT.values(), ids=WHAT)
def test_who_keeps_all_descriptors_gets_an_error_and_goes_on(narrow, keep):
    assert text(narrow, keep) == "(60, 'Too many open files')"
    for _ in range(3):
        assert text(narrow, "n, len(held)") == "(1, 60)"
    narrow.reseed(5)
    assert run(narrow, "open('g', 'w')").text.endswith("OSError: [Errno 24] Too many open files: 'g'")
    with cloned(narrow, 2) as [one, two], cloned(one) as [grandchild]:
        for who in (two, grandchild, one, narrow):
            who.reseed(6)
            assert text(who, "n, len(held)") == "(1, 60)"
            assert run(who, "os._exit(1)").error == "died"
            assert text(who, "n, len(held)") == "(1, 60)"
        text(one, "os.close(held.pop()); open('g', 'w').write('x'); n = 2")
        assert text(one, "open('g').read(), n") == "('x', 2)"
    parked = narrow.park()
    with cloned(parked) as [again]:
        assert text(again, "n, len(held)") == "(1, 60)"
    parked.close()


def test_descriptors_that_are_kept_for_the_session_are_out_of_a_cells_reach(narrow):
    cell = """
import resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
found = [limits[0]]
for attempt in (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1])), lambda: os.dup2(0, limits[0])):
    try:
        attempt()
        found.append("done")
    except (OSError, ValueError) as error:
        found.append(type(error).__name__)
found
"""
    for _ in range(2):
        assert text(narrow, cell) in ("[64, 'ValueError', 'OSError']", "[64, 'PermissionError', 'OSError']")
    with cloned(narrow) as [twin]:
        assert text(twin, cell) == text(narrow, cell)
