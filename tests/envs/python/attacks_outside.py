"""Attacks on what lies outside: the network, the host's files, other processes' data, siblings' files."""

from attacks import Attack, Host, is_intact, ran, refused, shows, with_namespaces

ENVIRONMENT = ["HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "TMPDIR"]
"""All that a session's environment holds."""

NETWORK = (
    Attack(
        "network_ipv4",
        """{
            "tcp": tried(socket.socket, socket.AF_INET, socket.SOCK_STREAM),
            "udp": tried(socket.socket, socket.AF_INET, socket.SOCK_DGRAM),
            "connect": tried(socket.create_connection, ("127.0.0.1", host["port"]), 5),
            "listen": tried(socket.create_server, ("127.0.0.1", 0)),
        }""",
        refused("EPERM"),
    ),
    Attack(
        "network_ipv6",
        """{
            "tcp": tried(socket.socket, socket.AF_INET6, socket.SOCK_STREAM),
            "udp": tried(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM),
            "listen": tried(socket.create_server, ("::1", 0), family=socket.AF_INET6),
        }""",
        refused("EPERM"),
    ),
    Attack(
        "network_unix",
        """{
            "stream": tried(socket.socket, socket.AF_UNIX),
            "datagram": tried(socket.socket, socket.AF_UNIX, socket.SOCK_DGRAM),
            "pair": tried(socket.socketpair),
        }""",
        refused("EPERM"),
    ),
    Attack(
        "network_raw_and_kernel",
        """{
            "raw": tried(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
            "packet": tried(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
            "netlink": tried(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
            "vsock": tried(socket.socket, 40, socket.SOCK_STREAM),
            "crypto": tried(socket.socket, 38, socket.SOCK_SEQPACKET),
            "by number": called("socket", 2, 1, 0),
        }""",
        refused("EPERM"),
    ),
    Attack(
        "network_names",
        """{
            "address": tried(socket.getaddrinfo, "localhost", 80),
            "name": tried(socket.gethostbyname, "localhost"),
        }""",
        refused("gaierror"),
    ),
    Attack(
        "network_download",
        """
import urllib.request
{"http": tried(lambda: urllib.request.urlopen(f"http://127.0.0.1:{host['port']}/", timeout=5).read())}""",
        refused("URLError"),
    ),
    Attack(
        "network_over_the_control_socket",
        """
link = socket.socket(fileno=os.dup(control()[0]))
found = {
    "connect": tried(link.connect, "\\0somewhere"),
    "bind": tried(link.bind, "\\0somewhere"),
    "listen": tried(link.listen),
    "accept": tried(link.accept),
    "shutdown": tried(link.shutdown, socket.SHUT_RDWR),
    "options": tried(link.setsockopt, socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24),
}
link.close()
found""",
        refused("EPERM"),
    ),
)

FILES = (
    Attack(
        "read_the_hosts_files",
        """{path: tried(open, path) for path in (
            "/etc/passwd", "/etc/shadow", "/etc/hosts", "/var/log/dpkg.log", "/boot", "/home", "/etc", "/proc",
            host["secret"], host["folder"], host["checkout"] + "/pyproject.toml",
        )}""",
        # Not the checkout itself: the interpreter may lie in it, and the private root then has an empty folder of that name
        # on the way there (see list_the_hosts_folders).
        refused("EACCES", hidden=("ENOENT",)),
    ),
    Attack(
        "list_the_hosts_folders",
        """
places = ("/", "/tmp", "/root", "/etc", "/usr", "/dev/shm", host["folder"], host["checkout"])
{path: tried(os.listdir, path) for path in places}""",
        refused("EACCES", hidden=("ENOENT", "EACCES")),
    ),
    Attack(
        "ask_about_the_hosts_files",
        """{path: tried(lambda: os.stat(path).st_mode and 0) for path in (
            "/etc/passwd", "/etc", "/proc", "/sys", host["secret"], host["folder"], host["checkout"] + "/pyproject.toml",
        )}""",
        # Without namespaces nothing hides that a file exists; what it holds stays closed (see read_the_hosts_files).
        refused("did 0", "EACCES", hidden=("ENOENT",)),
    ),
    Attack(
        "write_the_hosts_files",
        """
flags = os.O_WRONLY | os.O_CREAT
places = ("/", "/tmp", "/etc", "/var/tmp", "/dev/shm", "/root", host["folder"], host["checkout"], sys.prefix,
 os.path.dirname(os.__file__))
found = {f"create in {place}": tried(os.open, place + "/planted", flags) for place in places}
found |= {f"folder in {place}": tried(os.mkdir, place + "/planted") for place in places}
found |= {f"write {path}": tried(open, path, "a") for path in (host["secret"], "/etc/passwd", os.__file__, json.__file__)}
found""",
        refused("EACCES", hidden=("ENOENT", "EACCES", "EROFS")),
        host=is_intact,
    ),
    Attack(
        "change_the_hosts_files",
        """
path = host["secret"]
{
    "rename": tried(os.rename, path, path + ".old"),
    "fetch": tried(os.rename, path, "fetched"),
    "truncate": tried(os.truncate, path, 0),
    "open to truncate": tried(os.open, path, os.O_RDWR | os.O_TRUNC),
    "link": tried(os.link, path, "linked"),
    "link beside": tried(os.symlink, "/", path + ".link"),
    "unlink": tried(os.unlink, path),
}""",
        refused("EACCES", "EPERM", "EXDEV", hidden=("ENOENT", "EACCES", "EPERM")),
        host=is_intact,
    ),
    Attack(
        "change_the_interpreters_files",
        # Nothing of this would do harm, should it be let through.
        """
path = os.__file__
{
    "rename": tried(os.rename, path, path),
    "truncate": tried(os.truncate, path, os.stat(path).st_size),
    "write": tried(os.open, path, os.O_WRONLY),
    "read and write": tried(os.open, path, os.O_RDWR),
    "link": tried(os.link, path, "linked"),
    "map": tried(mmap.mmap, os.open(path, os.O_RDONLY), 1, prot=mmap.PROT_READ | mmap.PROT_WRITE),
}""",
        refused("EACCES", "EPERM", "EXDEV", hidden=("EACCES", "EPERM", "EROFS", "EXDEV")),
    ),
    Attack(
        "change_the_hosts_times",
        # Such calls are answered with success and not made.
        """
before = os.stat(os.__file__).st_mtime
for path in (host["secret"], host["folder"], os.__file__):
    tried(os.utime, path, (before, before + 1))
os.stat(os.__file__).st_mtime == before""",
        shows("True"),
        host=is_intact,
    ),
    Attack(
        "change_the_hosts_times_by_descriptor",
        # A nanosecond, which does no harm should it be let through.
        """
file = os.open(os.__file__, os.O_RDONLY)
before = os.fstat(file).st_mtime_ns
tried(os.utime, file, ns=(before, before + 1))
os.fstat(file).st_mtime_ns == before""",
        shows("True"),
    ),
    Attack(
        "change_the_hosts_modes",
        # Such calls are answered with success and not made.
        """
for path in (host["secret"], host["folder"], "..", "."):
    tried(os.chmod, path, 0o777), tried(os.chown, path, 65534, 65534)
{"list above": tried(os.listdir, ".."), "list all": tried(os.listdir, "../.."),
 "beside": tried(os.mkdir, "../planted"), "attribute": called("setxattr", host["secret"].encode(), b"user.a", b"1", 1, 0)}""",
        refused("EACCES", "EPERM", hidden=("EACCES", "EPERM", "EROFS", "ENOENT")),
        host=lambda host: is_intact(host) or (None if host.secret.stat().st_mode & 0o777 == 0o644 else "its mode was changed"),
    ),
    Attack(
        "symbolic_links_to_the_outside",
        """
found = {}
for number, path in enumerate(("/etc/passwd", host["secret"], "../" * 20 + "etc/passwd")):
    os.symlink(path, f"link{number}")
    found[f"read {path}"] = tried(open, f"link{number}")
    found[f"write {path}"] = tried(open, f"link{number}", "a")
os.symlink("/", "root")
found["list"] = tried(os.listdir, "root")
found["through"] = tried(open, "root" + host["secret"])
found""",
        refused("EACCES", hidden=("ENOENT", "EACCES", "EROFS")),
        host=is_intact,
    ),
    Attack(
        "hard_links_to_the_outside",
        """
files = (host["secret"], "/etc/passwd", os.__file__, "/dev/null")
found = {path: tried(os.link, path, f"hard{number}") for number, path in enumerate(files)}
libc.linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
for number, path in enumerate(files):
    try:
        file = os.open(path, os.O_PATH)
    except OSError as error:
        found[f"open {path}"] = errno.errorcode[error.errno]
        continue
    linked = libc.linkat(file, b"", -100, b"by descriptor%d" % number, 0x1000) == 0
    found[f"link by descriptor {path}"] = "did" if linked else errno.errorcode[ctypes.get_errno()]
    os.close(file)
found""",
        refused("EACCES", "EXDEV", "EPERM", hidden=("ENOENT", "EXDEV", "EACCES", "EPERM")),
        host=is_intact,
    ),
    Attack(
        "above_the_working_directory",
        """
above = os.open("..", os.O_PATH | os.O_DIRECTORY)
found = {
    "list": tried(os.listdir, ".."),
    "open": tried(os.open, "..", os.O_RDONLY),
    "further up": tried(os.listdir, "../../.."),
    "create": tried(os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=above),
    "handle": called("name_to_handle_at", -100, b"..", bytes(200), bytes(8), 0),
    "rename": tried(os.rename, os.getcwd(), os.getcwd() + "x"),
    "exchange": tried(os.rename, os.getcwd(), os.path.dirname(os.getcwd())),
    "remove": tried(os.rmdir, os.getcwd()),
}
os.close(above)
found""",
        refused("EACCES", "EPERM", "EBUSY", "ENOTEMPTY", hidden=("EACCES", "EPERM", "EBUSY", "EROFS", "EXDEV", "ENOTEMPTY")),
    ),
    Attack(
        "devices",
        """
names = "kmsg mem kmem port tty tty0 console ptmx fuse kvm vda sda loop-control net/tun random urandom zero full".split()
{"list": tried(os.listdir, "/dev")} | {name: tried(os.open, "/dev/" + name, os.O_RDWR) for name in names if name != "full"} | {
    "make": called("mknodat", -100, b"null", 0o20666, 0x103), "pipe of names": tried(os.mknod, "device", 0o60666)}""",
        refused("EACCES", "ENOENT", "EPERM", "ENXIO", "EROFS"),
    ),
    Attack(
        "harmless_devices",
        """
full = tried(lambda: open("/dev/full", "w", 1).write("x\\n"))
len(open("/dev/urandom", "rb").read(8)), open("/dev/null", "w").write("x"), full""",
        shows("(8, 1, 'ENOSPC')"),
    ),
)

PROC = (
    Attack(
        "proc_of_self",
        """{name: tried(open, "/proc/self/" + name) for name in
            ("environ", "maps", "mem", "status", "cmdline", "mountinfo", "task", "root/etc/passwd",
            "cwd/../..", "oom_score_adj")}
        """,
        refused("EACCES", hidden=("ENOENT",)),
    ),
    Attack(
        "proc_of_others",
        """
pids = (1, host["pid"], host["server"], host["sibling"])
{f"{pid} {name}": tried(open, f"/proc/{pid}/{name}") for pid in pids for name in ("environ", "maps", "mem", "cmdline",
 "stat")} | {
    "list": tried(os.listdir, "/proc"), "kernel": tried(open, "/proc/version"), "setting": tried(open,
    "/proc/sys/kernel/core_pattern", "w")}""",
        refused("EACCES", hidden=("ENOENT",)),
    ),
    Attack(
        "strangers_files_through_proc",
        """
here = f"/proc/{host['stranger']}"
{
    "where": tried(os.readlink, here + "/cwd"),
    "list": tried(os.listdir, here + "/cwd"),
    "read": tried(open, here + "/cwd/mine.txt"),
    "write": tried(open, here + "/cwd/planted", "w"),
    "root": tried(os.listdir, here + "/root"),
    "go": tried(os.chdir, here + "/cwd"),
}""",
        refused("EACCES", "EPERM", hidden=("ENOENT",)),
    ),
    Attack(
        "siblings_files_through_proc",
        """
here = f"/proc/{host['sibling']}"
{
    "where": tried(os.readlink, here + "/cwd"),
    "list": tried(os.listdir, here + "/cwd"),
    "read": tried(open, here + "/cwd/mine.txt"),
    "write": tried(open, here + "/cwd/planted", "w"),
    "root": tried(os.listdir, here + "/root"),
    "go": tried(os.chdir, here + "/cwd"),
}""",
        refused("EACCES", "EPERM", hidden=("ENOENT",)),
    ),
)


def _family_is_untouched(host: Host) -> str | None:
    if host.family is None:
        return None
    opened = host.family.stat().st_mode & 0o666  # who knows a name may pass through; nobody may list, or write
    return "the folder above the working directories was opened" if opened else None


SIBLINGS = (
    Attack(
        "siblings_files_by_listing",
        """{path: tried(os.listdir, path) for path in ("/arpo-sessions", "..", "../..", os.path.dirname(os.getcwd()))} | {
            "walk": str(list(os.walk(".."))), "glob": str(__import__("glob").glob("../*/*"))}""",
        refused("EACCES", "ENOENT", "[]"),
        host=_family_is_untouched,
    ),
    Attack(
        "siblings_files_by_guessing",
        """
import secrets
sum(os.path.exists(f"../{secrets.token_hex(16)}") for _ in range(500)), tried(open, "../" + "0" * 32 + "/mine.txt")""",
        shows("(0, 'ENOENT')"),
    ),
    Attack(
        "originals_files_by_a_stored_path",
        '{"read": tried(open, path), "write": tried(open, path, "w"), "list": tried(os.listdir, os.path.dirname(path))}',
        # A path that was stored before the clone may lead to the clone's own copy, or nowhere, but not to the original's file.
        ran,
        before='path = os.path.abspath("file.txt")\nopen(path, "w").write("original")',
        original=("open('file.txt').read()", "'original'"),
    ),
    Attack(
        "originals_files_by_an_open_folder",
        'tried(os.open, "planted", os.O_CREAT | os.O_WRONLY, dir_fd=folder)',
        ran,
        before='folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)',
        original=("os.listdir('.')", "[]"),
    ),
    Attack(
        "originals_files_by_an_open_file",
        'tried(lambda: (file.seek(0), file.write("overwritten"), file.flush()))',
        ran,
        before='file = open("file.txt", "w+")\nfile.write("original")\nfile.flush()',
        original=("open('file.txt').read()", "'original'"),
    ),
    Attack(
        "talk_to_the_original_through_a_pipe",
        'tried(os.write, ends[1], b"hello")',
        ran,
        before="ends = os.pipe()\nos.set_blocking(ends[0], False)",
        original=("tried(os.read, ends[0], 5)", "'EAGAIN'"),
    ),
    Attack(
        "talk_to_the_original_through_shared_memory",
        'memory[:5] = b"hello"',
        ran,
        before="memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nshared = tried(mmap.mmap, -1, 4096)",
        original=("(bytes(memory[:5]), shared)", r"(b'\x00\x00\x00\x00\x00', 'EPERM')"),
    ),
)

ENVIRONMENTS = (
    Attack("environment", "sorted(os.environ)", shows(repr(ENVIRONMENT))),
    Attack(
        "environment_of_the_c_library",
        """
pointer, found = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ"), []
while pointer[len(found)]:
    found.append(pointer[len(found)].decode())
sorted(set(line.partition("=")[0] for line in found)), libc.getenv(b"ARPO_ATTACK_SECRET")""",
        shows(repr((ENVIRONMENT, 0))),
    ),
    Attack(
        "secrets_in_memory",
        # The host's environment holds a text that is not spelt out here; Python keeps it as bytes, and the kernel on the stack.
        """
needle = "".join(("must", " stay", " here"))
def has(part):
    return isinstance(part, (bytes, bytearray)) and needle.encode() in part or isinstance(part, str) and needle in part
def holders():
    left, met = gc.get_objects(), set()
    while left:
        thing = left.pop()
        parts = gc.get_referents(thing)
        if thing is not globals() and any(map(has, parts)):
            yield type(thing).__name__
        # The collector does not track what holds nothing but texts, such as the environment itself.
        found = [part for part in parts if isinstance(part, (dict, tuple)) and not gc.is_tracked(part) and id(part) not in met]
        met.update(map(id, found))
        left += found
def stack():
    libc.getauxval.restype = ctypes.c_ulong
    start, name_of_the_program = ctypes.c_void_p.in_dll(libc, "__libc_stack_end").value, libc.getauxval(31)
    return ctypes.string_at(start, name_of_the_program - start)
sorted(set(holders())), has(stack())""",
        shows("([], False)"),
    ),
    Attack("arguments_of_the_server", "sys.argv, sys.orig_argv", shows("([''], [''])")),
    Attack(
        "open_descriptors",
        """
kinds = [(file, stat.S_IFMT(os.fstat(file).st_mode) == stat.S_IFCHR,
 stat.S_ISSOCK(os.fstat(file).st_mode)) for file in open_files()]
[kind[0] for kind in kinds if kind[1]], sum(kind[2] for kind in kinds), sum(not (kind[1] or kind[2]) for kind in kinds)""",
        shows("([0, 1, 2], 1, 0)"),
    ),
    Attack(
        "identity_of_the_host",
        'os.uname().nodename == host["name"]',
        with_namespaces(shows("False"), shows("True")),
    ),
)

OUTSIDE = (*NETWORK, *FILES, *PROC, *SIBLINGS, *ENVIRONMENTS)
