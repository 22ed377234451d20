"""A file that is mapped into memory: a copy of the session has its own, and never sees what the original writes later."""

from contextlib import closing

import pytest
from python_sessions import MODES, cloned, opened, run, text, usable_tool


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=("numpy",))


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


ARRAY = "import mmap, os, numpy as np\nnp.save('a.npy', np.arange(5000))\n"
BYTES = "import ctypes, mmap, os\nopen('b', 'wb').write(b'old!' * 5000)\n"
OVERWRITE_ARRAY = "with open('a.npy', 'r+b') as f: f.seek(128); f.write(b'\\xff' * 40000)"
OVERWRITE_BYTES = "with open('b', 'r+b') as f: f.write(b'new!' * 5000)"
OPEN = "file = open('b', 'r+b'); "
LIBC = """
libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p; libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_size_t] * 5
def view(offset, length, kind, protection=1):
    file = os.open('b', os.O_RDONLY)
    address = libc.mmap(None, length, protection, kind, file, offset)
    os.close(file)
    return (ctypes.c_char * length).from_address(address)
"""
MAPPED = {
    "numpy, for reading": (ARRAY + "a = np.load('a.npy', mmap_mode='r')", OVERWRITE_ARRAY, "int(a.sum()), int(a[4999])"),
    "numpy, copied when written to": (
        ARRAY + "a = np.load('a.npy', mmap_mode='c'); a[7] = 70",
        OVERWRITE_ARRAY,
        "int(a.sum()), int(a[7]), int(a[4999])",
    ),
    "numpy, of a part": (
        ARRAY + "a = np.memmap('a.npy', dtype='i8', mode='r', offset=4096 + 128)",
        OVERWRITE_ARRAY,
        "int(a.sum())",
    ),
    "mmap, shared": (BYTES + OPEN + "m = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)", OVERWRITE_BYTES, "m[:4], m[-4:]"),
    "mmap, whose file is closed": (
        BYTES + "with open('b', 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)",
        OVERWRITE_BYTES,
        "m[:4], m[-4:]",
    ),
    "mmap, private, changed": (
        BYTES + OPEN + "m = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY); m[4096:4099] = b'odd'",
        OVERWRITE_BYTES,
        "m[:4], m[4096:4100], m[-4:]",
    ),
    "a part, below a folder": (
        BYTES + "os.makedirs('x/y'); os.rename('b', 'x/y/b'); os.symlink('x/y/b', 'b')\n" + LIBC + "m = view(4096, 8192, 1)",
        OVERWRITE_BYTES,
        "m[:4], m[-4:]",
    ),
    "several parts of one file": (
        BYTES + LIBC + "m = [view(0, 4096, 1), view(8192, 4096, 2, 3), view(8192, 8192, 2)]; m[1][0] = b'O'",
        OVERWRITE_BYTES,
        "[part[:4] for part in m]",
    ),
    "beyond the end of the file": (
        BYTES + LIBC + "m = view(0, 1 << 20, 1), view(0, 1 << 20, 2, 3)",
        OVERWRITE_BYTES,
        "m[0][:4], m[1][19996:20000]",
    ),
    "a file of an odd name": (
        BYTES + "os.rename('b', 'b \\u00fc\\n'); os.symlink('b \\u00fc\\n', 'b')\n" + LIBC + "m = view(0, 4096, 1)",
        OVERWRITE_BYTES,
        "m[:4]",
    ),
}


@pytest.mark.parametrize("name", MAPPED)
def test_a_mapping_of_a_copy_shows_the_copys_own_file(session, name):
    keep, overwrite, look = MAPPED[name]
    text(session, keep + "\nNone")
    before = text(session, look)
    parked = session.park()
    with cloned(session) as [child], cloned(child) as [heir]:
        text(session, overwrite + "\nNone")
        assert text(child, look) == text(heir, look) == before
        if "copied" not in name and "private" not in name and "several" not in name:
            text(heir, overwrite + "\nNone")
            assert text(heir, look) == text(session, look) != before, "and goes on showing it"
        assert text(child, look) == before
    with closing(parked), cloned(parked) as [restored]:
        assert text(restored, look) == before
    lost = session
    text(lost, overwrite + "\nNone")
    now = text(lost, look)
    assert (
        run(lost, overwrite.replace("new", "bad").replace("xff", "x01") + "\nos.truncate if 0 else os._exit(1)").error == "died"
    )
    assert text(lost, look) == now, "a cell that was undone has changed nothing"


@pytest.mark.parametrize("name", MAPPED)
def test_a_file_that_is_cut_off_kills_no_copy(session, name):
    keep, _, look = MAPPED[name]
    text(session, keep + "\nNone")
    before = text(session, look)
    with cloned(session) as [child]:
        text(session, "[os.ftruncate(os.open(name, os.O_RDWR), 0) for name in ('a.npy', 'b') if os.path.exists(name)]")
        assert text(child, look) == before


UNKNOWN = ("several parts of one file", "beyond the end of the file")
"""What is mapped and not open: without namespaces, nobody knows how long a file is that has no name either."""


@pytest.mark.parametrize("name", [name for name in MAPPED if "folder" not in name and "odd" not in name])
def test_a_mapped_file_without_a_name_is_copied_as_well(session, name):
    keep, _, look = MAPPED[name]
    if name in UNKNOWN and not session.layers["namespaces"]:
        text(session, keep + "\nNone")
        before = text(session, look)
        undone = run(session, "for name in ('a.npy', 'b'):\n    if os.path.exists(name): os.remove(name)")
        assert undone.text.startswith("the cell was undone: ")
        assert text(session, look) == before
        return
    text(session, keep + "\nwriting = [os.open(name, os.O_RDWR) for name in ('a.npy', 'b') if os.path.exists(name)]")
    before = text(session, look)
    for kept in ("writing", "nothing"):
        text(session, "for name in ('a.npy', 'b'):\n    if os.path.exists(name): os.remove(name)")
        with cloned(session) as [child], cloned(child) as [heir]:
            if kept == "writing":
                text(session, "[os.pwrite(file, bytes(4096), 0) for file in writing]\nNone")
                text(heir, "[os.pwrite(file, bytes(4096), 0) for file in writing]\nNone")
                assert text(heir, look) == text(session, look), "what is open and mapped is one file"
            assert text(child, look) == before
            assert text(child, "os.listdir()") == "[]"
        text(session, "for file in writing: os.close(file)\nwriting = []")
        before = text(session, look)


def test_mapping_for_writing_is_refused_where_it_is_tried(session):
    assert "PermissionError" in run(session, ARRAY + "np.load('a.npy', mmap_mode='r+')").text
    assert "PermissionError" in run(session, BYTES + OPEN + "mmap.mmap(file.fileno(), 0)").text
    assert "PermissionError" in run(session, "mmap.mmap(-1, 4096)").text


def test_who_maps_thousands_of_pieces_is_not_cloned_and_is_told_why(session):
    text(session, BYTES + LIBC)
    many = "m = [view(0, 4096, 1) for _ in range(20000)]\nNone"
    result = run(session, many)
    assert result.error is None, result
    [twin] = session.clone()
    assert "too many pieces of memory" in str(twin)
