"""Where every session has mounts of its own, all that holds a path leads a copy into the copy's own files."""

import pytest
from python_sessions import cloned, opened, run, text, usable_tool


@pytest.fixture(scope="module")
def tool():
    return usable_tool("full", imports=())


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


KILL = "import signal\nos.mkdir('lost'), open('f', 'w').write('lost')\nos._exit(1)"
SETUP = """
import os, pathlib, sqlite3, sys, tempfile
os.makedirs("sub/deep"), open("f", "w").write("old"), open("sub/g", "w").write("deep")
pathlib.Path("helper.py").write_text("value = 'helped'")
"""
KEPT = {
    "an absolute path": ("path = os.path.abspath('f')", "open(path).read()"),
    "a path object": ("path = pathlib.Path.cwd() / 'f'", "path.read_text()"),
    "a resolved path": ("path = pathlib.Path('sub/../f').resolve()", "path.read_text()"),
    "a temporary folder": ("folder = tempfile.mkdtemp(); open(folder + '/t', 'w').write('old')", "open(folder + '/t').read()"),
    "a temporary folder to be removed": (
        "keeper = tempfile.TemporaryDirectory(); open(keeper.name + '/t', 'w').write('old')",
        "open(keeper.name + '/t').read()",
    ),
    "a named temporary file": (
        "keeper = tempfile.NamedTemporaryFile('w+'); keeper.write('old'); keeper.flush()",
        "open(keeper.name).read()",
    ),
    "a link to an absolute path": ("os.symlink(os.path.abspath('f'), 'link')", "open('link').read()"),
    "a folder's descriptor": (
        "folder = os.open('.', os.O_RDONLY)",
        "os.read(os.open('f', os.O_RDONLY, dir_fd=folder), 9).decode()",
    ),
    "a descriptor of a folder below": (
        "folder = os.open('sub', os.O_PATH)",
        "os.read(os.open('../f', os.O_RDONLY, dir_fd=folder), 9).decode()",
    ),
    "the working directory below": ("os.chdir('sub/deep')", "open('../../f').read()"),
    "HOME": ("home = os.path.expanduser('~')", "open(home + '/f').read() if home == os.environ['HOME'] else home"),
    "TMPDIR": ("temporary = os.environ['TMPDIR'], tempfile.gettempdir()", "open(set(temporary).pop() + '/f').read()"),
    "a listing": ("entries = [entry for entry in os.scandir() if entry.name == 'f']", "open(entries[0].path).read()"),
    "sys.path": ("sys.path = [path for path in sys.path]", "(__import__('helper').value == 'helped') * open('f').read()"),
}
CHANGE = """
import os
for place, _, names in os.walk(os.environ["HOME"]):
    for name in names:
        open(os.path.join(place, name), "r+").write("new")
"""


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("way", ["clone", "parked", "killed", "generations"])
def test_what_a_session_keeps_of_a_path_leads_a_copy_to_its_own_files(session, name, way):
    keep, look = KEPT[name]
    text(session, SETUP), text(session, f"{keep}\nNone")
    if way == "killed":
        assert run(session, f"{CHANGE}\nos._exit(1)").error == "died"
        assert text(session, look) == "'old'"
        return
    parked = session.park() if way == "parked" else session
    with cloned(parked) as [child], cloned(child) as [heir]:
        text(session, CHANGE)
        for copy in (child, heir):
            assert text(copy, look) == "'old'"
        text(heir, CHANGE.replace("new", "hey"))
        assert (text(child, look), text(session, look.replace("__import__('helper').value == 'helped'", "1"))) == (
            "'old'",
            "'new'",
        )


def test_sixty_generations_have_the_same_paths(session):
    text(session, f"{SETUP}\npath = os.path.abspath('f')\nhere = os.getcwd()")
    lineage = [session]
    try:
        for generation in range(60):
            lineage += lineage[-1].clone()
            text(lineage[-1], f"open(path, 'a').write(' {generation}')\nNone")
        for generation, old in enumerate(lineage):
            assert text(old, "open(path).read() + str(here == os.getcwd())") == repr(
                " ".join(["old", *map(str, range(generation))]) + "True"
            )
    finally:
        for old in lineage[1:]:
            old.close()


DATABASE = """
base = sqlite3.connect("d", isolation_level=None)
base.execute("create table t (a)"), base.execute("insert into t values (1)")
"""
LOOK = "[a for a, in base.execute('select a from t order by a')], sorted(os.listdir())"


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "memory"])
@pytest.mark.parametrize("where", ["d", "sub/deep/d"])
def test_a_database_that_is_open_goes_on_in_a_copy(session, journal, where):
    (
        text(session, SETUP),
        text(session, DATABASE.replace('"d"', f'"{where}"')),
        text(session, f"base.execute('pragma journal_mode = {journal}')"),
    )
    text(
        session, "base.execute('begin'), base.execute('insert into t values (2)'), base.execute('pragma cache_spill = 1')\nNone"
    )
    rows = "[a for a, in base.execute('select a from t order by a')]"
    with cloned(session) as [child], cloned(child) as [heir]:
        text(child, "base.execute('insert into t values (3)'), base.execute('commit')\nNone")
        text(heir, "base.execute('rollback'), base.execute('insert into t values (4)')\nNone")
        fresh = f"[a for a, in sqlite3.connect('{where}').execute('select a from t order by a')]"
        assert text(child, rows) == text(child, fresh) == "[1, 2, 3]"
        assert text(heir, rows) == text(heir, fresh) == "[1, 4]"
        assert text(session, rows) == "[1, 2]"
        assert run(session, "base.execute('commit'), base.execute('insert into t values (5)')\nos._exit(1)").error == "died"
        text(session, "base.execute('rollback')\nNone")
        assert text(session, rows) == text(session, fresh) == "[1]"
        text(session, "base.execute('insert into t values (6)'), base.execute('vacuum')\nNone")
        assert text(session, fresh) == "[1, 6]"
