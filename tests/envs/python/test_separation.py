"""What a copy of a session is told, and by whom; the attacks on its separation are in `attacks_separation`."""

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
