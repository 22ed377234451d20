"""Attacks by an original that spoils its own code, so that copies of it keep a way to it or to one another."""

from attacks import Attack, Expectation, Seen, one_of, shows
from attacks_session import FIND_SESSION

CLONED = "'cloned'"
_CODE = FIND_SESSION + "code = type(session)._copy.__globals__\n"
_NO_DETACH = _CODE + "code['detach'] = lambda *arguments: None\n"
_FILE = "open('f', 'w').write('mine')\n"


def refused_for(*reasons: str) -> Expectation:
    """There was no clone, and the server said why."""

    def check(seen: Seen) -> str | None:
        said = seen.error == "clone" and "the copy is not separate: " in seen.text
        return None if said and any(reason in seen.text for reason in reasons) else f"not refused for {reasons}"

    return check


def _never_at_rest(seen: Seen) -> str | None:
    return None if seen.error == "clone" else "it was cloned"


def _poisoned(name: str, before: str, expect: Expectation, **arguments: object) -> Attack:
    return Attack(name, CLONED, expect, before=before, original=None, after=None, answering=2.0, **arguments)  # type: ignore[arg-type]


_ON_SETTLE = (
    _CODE
    + """
settle = type(session)._settle
def greedy(self, place):
    settle(self, place)
    kept.append({})
type(session)._settle, kept = greedy, []
"""
)

_MAPPED = """
def mapped(path):
    file = os.open(path, os.O_RDONLY)
    called("mmap", 0, 4096, 1, 1, file, 0)
    os.close(file)
"""

SEPARATION = (
    _poisoned("keeps_a_pipe", _NO_DETACH + "ends = os.pipe()", refused_for("a pipe", "a device")),
    _poisoned(
        "keeps_a_pipe_and_files", _FILE + _NO_DETACH + "ends = os.pipe()", refused_for("a pipe", "an open file", "a device")
    ),
    _poisoned(
        "keeps_only_a_pipe",
        _CODE
        + """
ends = os.pipe()
detach, names = code['detach'], set(ends)
code['detach'] = lambda found, *rest: detach([each for each in found if not names & {*each.files}], *rest)""",
        refused_for("a pipe"),
    ),
    _poisoned(
        "keeps_an_open_file",
        _FILE + _NO_DETACH + "file = open('f')\nos.dup2(file.fileno(), 60)",
        refused_for("an open file", "a device"),
    ),
    _poisoned(
        "keeps_only_an_open_file",
        _FILE
        + _CODE
        + """
file = os.open('f', os.O_RDWR)
detach = code['detach']
code['detach'] = lambda found, *rest: detach([each for each in found if file not in each.files], *rest)""",
        refused_for("an open file"),
    ),
    _poisoned(
        "keeps_a_deleted_file",
        _FILE
        + _CODE
        + """
file = os.open('f', os.O_RDWR)
os.remove('f')
detach = code['detach']
code['detach'] = lambda found, *rest: detach([each for each in found if file not in each.files], *rest)""",
        refused_for("an open file"),
    ),
    _poisoned(
        "keeps_a_folder",
        _FILE
        + _CODE
        + """
folder = os.open('.', os.O_PATH)
detach = code['detach']
code['detach'] = lambda found, *rest: detach([each for each in found if folder not in each.files], *rest)""",
        refused_for("a folder"),
    ),
    _poisoned("keeps_the_openings_of_devices", _NO_DETACH, refused_for("shares a device")),
    _poisoned("keeps_the_openings_of_devices_and_files", _FILE + _NO_DETACH, refused_for("shares a device")),
    _poisoned(
        "copy_keeps_the_channel_of_its_original",
        _CODE + "kept = []\ncode['Channel'].close = lambda self: kept.append(self.sock)",
        refused_for("a socket"),
    ),
    _poisoned(
        "copy_with_files_keeps_the_channel_of_its_original",
        _FILE + _CODE + "kept = []\ncode['Channel'].close = lambda self: kept.append(self.sock)",
        refused_for("a socket"),
    ),
    _poisoned(
        "copy_hides_the_channel_of_its_original",
        _CODE + "code['Channel'].close = lambda self: os.dup2(self.sock.detach(), 79)",
        refused_for("a socket"),
    ),
    _poisoned(
        "original_keeps_the_channel_of_a_copy",
        _CODE + "code['_close'] = lambda file: None",
        refused_for("the channel of a copy"),
    ),
    _poisoned(
        "original_with_files_keeps_the_channel_of_a_copy",
        _FILE + _CODE + "close = code['_close']\ncode['_close'] = lambda file: (os.dup2(file, 70), close(file))",
        refused_for("the channel of a copy"),
    ),
    _poisoned(
        "keeps_a_mapping",
        _FILE
        + _CODE
        + """
with open('f', 'rb') as file:
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
code['detach'].__globals__['map_copies'] = lambda *arguments: None""",
        refused_for("in its memory"),
    ),
    _poisoned(
        "keeps_the_mapping_of_a_deleted_file",
        _FILE
        + _CODE
        + """
with open('f', 'rb') as file:
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.remove('f')
code['detach'].__globals__['map_copies'] = lambda *arguments: None""",
        refused_for("in its memory"),
    ),
    _poisoned(
        "keeps_the_working_directory",
        _FILE + _CODE + "code['_chdir'] = lambda path: None",
        refused_for("the working directory"),
    ),
    _poisoned(
        "keeps_an_empty_working_directory", _CODE + "code['_chdir'] = lambda path: None", refused_for("the working directory")
    ),
    _poisoned(
        "opens_its_originals_folder",
        _FILE + _ON_SETTLE.format("os.open(place['original'], os.O_PATH)"),
        refused_for("a folder"),
    ),
    _poisoned(
        "opens_its_originals_file",
        _FILE + _ON_SETTLE.format("open(place['original'] + '/f')"),
        refused_for("an open file"),
    ),
    _poisoned(
        "maps_its_originals_file",
        _FILE + _ON_SETTLE.format("mapped(place['original'] + '/f')") + _MAPPED,
        refused_for("in its memory"),
    ),
    _poisoned(
        "goes_to_its_originals_folder",
        _FILE + _ON_SETTLE.format("os.chdir(place['original'])"),
        refused_for("the working directory"),
    ),
    _poisoned(
        "never_rests",
        _NO_DETACH
        + """
ends = os.pipe()
receive = code['Channel'].receive
def restless(self, **options):
    while not self.waiting():
        for number in range(40, 60):
            os.dup2(ends[0], number), os.dup2(0, number - 1)
    return receive(self, **options)
code['Channel'].receive = restless""",
        _never_at_rest,
    ),
    _poisoned(
        "functions_of_os_replaced",
        """
file, ends = open('f', 'w'), os.pipe()
os.close = os.dup2 = os.open = os.fstat = os.chdir = os.listdir = os.scandir = fcntl.fcntl = lambda *arguments, **options: 0""",
        shows(CLONED),
    ),
    _poisoned(
        "fork_handlers",
        """
import importlib.util
spec = importlib.util.find_spec("posix")
fresh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fresh)
ends, late = os.pipe(), []
fresh.register_at_fork(after_in_child=lambda: late.append(os.dup(ends[0])))""",
        one_of(shows(CLONED), refused_for("a pipe")),
    ),
    _poisoned(
        "keeps_what_a_fork_handler_duplicates",
        _CODE
        + """
ends, openings = os.pipe(), code['openings']
code['openings'] = lambda kept: openings(kept)[:-1]""",
        one_of(refused_for("a pipe", "a device"), shows(CLONED)),
    ),
)
