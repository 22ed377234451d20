"""What a copy of a session is told, and by whom; the attacks on its separation are in `attacks_separation`."""

from pathlib import Path

import pytest
from attacks import PRELUDE, numbers
from attacks_session import FIND_SESSION
from python_sessions import MODES, cloned, opened, run, text, usable_tool


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=())


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        text(session, f"{PRELUDE}\nnumbers = {numbers('x86_64')}\n{FIND_SESSION}")
        yield session


LISTEN = """
heard, obey = [], type(session)._obey
def listening(self, order):
    heard.append({key: value for key, value in order.items() if key not in ("nonce", "code")})
    return obey(self, order)
type(session)._obey = listening
"""


@pytest.mark.parametrize("files", ["", "open('f', 'w')\n"])
def test_an_original_is_not_told_where_its_copy_is(session, files):
    text(session, files + LISTEN)
    with cloned(session) as [child]:
        text(child, "1")
        told = text(session, "[order for order in heard if order['op'] == 'fork'][-2:]")
        copy = str(bool(files))
        assert told == f"[{{'op': 'fork', 'copy': {copy}, 'place': None}}, {{'op': 'fork', 'copy': {copy}, 'place': None}}]"


def test_a_checkpoint_that_kept_something_does_not_take_its_originals_place(session):
    spoil = "code = type(session)._copy.__globals__\nends = os.pipe()\ncode['detach'] = lambda *arguments: None\nNone"
    text(session, spoil)
    result = run(session, "os._exit(1)")
    assert result.error == "died"
    assert "the copy is not separate: it kept a pipe of its original's" in result.text


def test_who_was_refused_a_copy_lives_on(session):
    text(
        session,
        "code = type(session)._copy.__globals__\nends, detach = os.pipe(), code['detach']\ncode['detach'] = print\nNone",
    )
    [twin] = session.clone()
    assert "the copy is not separate: it kept " in str(twin)
    text(session, "code['detach'] = detach\nNone")
    with cloned(session) as [child]:
        assert text(child, "counter") == "41"


def test_a_checkpoint_that_kept_a_mapping_does_not_take_its_originals_place(session):
    keep = """
open('f', 'w').write('mine')
with open('f', 'rb') as file:
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
type(session)._copy.__globals__['detach'].__globals__['map_copies'] = lambda *arguments: None"""
    text(session, keep)
    result = run(session, "os._exit(1)")
    assert result.error == "died"
    assert "the copy is not separate: it kept a file of its original's in its memory" in result.text


# --- mounts of a session's own -----------------------------------------------------------------------------


@pytest.fixture
def mounted():
    with opened(usable_tool("full", imports=())) as session:
        text(session, f"{PRELUDE}\nnumbers = {numbers('x86_64')}\n{FIND_SESSION}")
        yield session


def working_directories(session) -> int:
    """Returns how many a session has mounted, those that lie beneath others included."""
    mounts = Path(f"/proc/{session.pid}/mountinfo").read_text().splitlines()
    return sum("/arpo-sessions" in mount and not mount.split()[4].endswith("arpo-sessions") for mount in mounts)


@pytest.mark.parametrize("files", ["None", "open('f', 'w').write('x')"])
def test_a_copy_has_nothing_mounted_but_its_own_working_directory(mounted, files):
    text(mounted, files)
    with cloned(mounted) as [child], cloned(child) as [heir]:
        assert run(heir, "os._exit(1)").error == "died"
        for one in (mounted, child, heir):
            text(one, "counter")
            assert working_directories(one) == 1


@pytest.mark.parametrize("then", ["", "os.remove('late')"])
def test_a_file_that_is_made_and_mapped_in_the_middle_of_a_fork_is_seen(mounted, then):
    """When the fork was ordered, there was none."""
    spoil = f"""
fork = session._fork
def late():
    with open('late', 'wb+') as file:
        file.write(b'mine'), file.flush()
        called("mmap", 0, 4096, 1, 1, file.fileno(), 0)
    {then}
    return fork()
session._fork = late
None"""
    text(mounted, spoil)
    [twin] = mounted.clone()
    assert "the copy is not separate: it kept a file of its original's in its memory" in str(twin)


def test_two_sessions_never_see_one_another_at_their_common_path(mounted):
    with opened(usable_tool("full", imports=())) as stranger:
        path = text(mounted, "import os; print(os.getcwd() + '/f', file=open('f', 'w')); os.path.getsize('f')")
        assert text(stranger, "import os; os.listdir(os.getcwd()), os.listdir()") == "([], [])"
        text(stranger, "open(os.getcwd() + '/g', 'w').write('x')")
        assert text(mounted, "os.listdir(os.getcwd()), os.listdir()") == "(['f'], ['f'])", path


def test_a_copy_cannot_write_to_what_it_copies(mounted):
    spoil = """
open('f', 'w').write('mine')
settle, refused = type(session)._settle, []
def spoiling(self, place):
    for name in ("f", "g"):
        try:
            open(f"{place['original']}/{name}", "w")
        except OSError as error:
            refused.append(error.strerror)
    settle(self, place)
type(session)._settle = spoiling
None"""
    text(mounted, spoil)
    with cloned(mounted) as [child]:
        assert text(child, "refused[-2:]") == "['Read-only file system', 'Read-only file system']"
    assert text(mounted, "open('f').read(), os.listdir()") == "('mine', ['f'])"


def test_the_folder_above_is_read_only(mounted):
    assert text(mounted, "import os; os.statvfs(os.path.dirname(os.getcwd())).f_flag & os.ST_RDONLY") == "1"
