"""Attacks on other processes and on the kernel: signals, tracing, mounts, rights, new processes, raw system calls."""

from attacks import Attack, died, fails, is_intact, one_of, refused, shows

_ADMINISTRATION = 1 << 21
"""The one capability of a session with mounts of its own; `test_capability` shows that it is of no use."""

SIGNALS = (
    Attack(
        "signals_to_others",
        """
pids = {"parent": os.getppid(), "host": host["pid"], "server": host["server"], "sibling": host["sibling"],
        "sibling inside": host["sibling inside"], "supervisor": host["supervisor"], "everybody": -1, "group": 0, "one": 1}
{f"{name} {number}": tried(os.kill, pid, number) for name, pid in pids.items() for number in (0, signal.SIGTERM,
 signal.SIGKILL)} | {
    "killpg": tried(os.killpg, os.getpgrp(), signal.SIGKILL)}""",
        refused("EPERM"),
    ),
    Attack(
        "signals_by_other_calls",
        """
pid = host["sibling inside"]
{"tkill": called("tkill", pid, 9), "tgkill": called("tgkill", pid, pid, 9), "queue": called("rt_sigqueueinfo", pid, 9,
 bytes(128)),
 "thread queue": called("rt_tgsigqueueinfo", pid, pid, 9, bytes(128)), "pidfd": called("pidfd_open", pid, 0),
 "pidfd send": called("pidfd_send_signal", 0, 9, 0, 0), "owner": tried(fcntl.fcntl, 0, fcntl.F_SETOWN, pid),
 "signal of a file": tried(fcntl.fcntl, 0, fcntl.F_SETSIG, 9), "lease": tried(fcntl.fcntl, 0, fcntl.F_SETLEASE,
 fcntl.F_WRLCK)}""",
        refused("EPERM"),
    ),
    Attack(
        "signals_to_itself",
        '{"raise": tried(signal.raise_signal, signal.SIGUSR1), "kill": tried(os.kill, os.getpid(), 9)}',
        refused("EPERM"),
    ),
)

TRACING = (
    Attack(
        "ptrace",
        """
pids = (host["pid"], host["sibling"], host["sibling inside"], os.getppid(), 1)
{f"{what} {pid}": called("ptrace", code, pid, 0, 0) for what, code in (("attach", 16), ("seize", 0x4206)) for pid in pids} | {
    "trace me": called("ptrace", 0, 0, 0, 0)}""",
        refused("EPERM"),
    ),
    Attack(
        "memory_of_others",
        """
pid, here = host["sibling inside"], ctypes.create_string_buffer(8)
vector = struct.pack("PN", ctypes.addressof(here), 8)
{"read": called("process_vm_readv", pid, vector, 1, vector, 1, 0), "write": called("process_vm_writev", pid, vector, 1,
 vector, 1, 0),
 "read the host": called("process_vm_readv", host["pid"], vector, 1, vector, 1, 0), "advise": called("process_madvise", 0,
 vector, 1, 4, 0),
 "compare": called("kcmp", os.getpid(), pid, 0, 0, 0), "descriptor": called("pidfd_getfd", 0, 0, 0),
 "pages": called("move_pages", pid, 0, 0, 0, 0, 0)}""",
        refused("EPERM"),
    ),
)

NAMESPACES = (
    Attack(
        "mounts",
        """{"mount": called("mount", b"tmpfs", b".", b"tmpfs", 0, 0), "bind": called("mount", b"/", b".", 0, 4096, 0),
            "unmount": called("umount2", os.getcwd().encode(), 2), "unmount all": called("umount2", b"/arpo-sessions", 2),
            "fsopen": called("fsopen", b"tmpfs", 0), "fsmount": called("fsmount", 0, 0, 0),
            "open_tree": called("open_tree", -100, b"/", 1),
            "move_mount": called("move_mount", -100, b".", -100, b"/", 0), "attributes": called("mount_setattr", -100,
            b"/", 0, bytes(32), 32)}""",
        refused("EPERM"),
    ),
    Attack(
        "namespaces",
        """
kinds = {"user": 0x10000000, "process": 0x20000000, "network": 0x40000000, "mount": 0x20000, "host name": 0x4000000}
{f"unshare {name}": called("unshare", flag) for name, flag in kinds.items()} | {f"clone into {name}": called("clone",
 flag | 17) for name, flag in kinds.items()} | {
    "setns": called("setns", 0, 0), "chroot": tried(os.chroot, "."), "pivot_root": called("pivot_root", b".", b"."),
    "host name": tried(socket.sethostname, "mine")}""",
        refused("EPERM"),
    ),
)

RIGHTS = (
    Attack(
        "other_users",
        """{"setuid": tried(os.setuid, 0), "setgid": tried(os.setgid, 0), "setresuid": tried(os.setresuid, 0, 0, 0),
            "groups": tried(os.setgroups, [0]),
            "setresgid": tried(os.setresgid, 0, 0, 0), "setfsuid": called("setfsuid", 0), "number": called("setuid", 0),
            "capabilities": called("capset", struct.pack("Ii", 0x20080522, 0), b"\\xff" * 24)}""",
        refused("EPERM"),
    ),
    Attack(
        "programs_with_rights",
        """
su = next((path for path in ("/usr/bin/su", "/bin/su", "/usr/bin/passwd") if os.path.exists(path)), "/usr/bin/su")
{"execv": tried(os.execv, su, ["su"]), "execve": tried(os.execve, su, ["su"], {}), "spawn": tried(os.posix_spawn, su,
 ["su"], {}),
 "descriptor": tried(os.execve, os.open(os.__file__, os.O_RDONLY), ["x"], {}), "python": tried(os.execv, sys.executable,
 ["python"])}""",
        refused("EPERM"),
    ),
    Attack(
        "capabilities_are_gone",
        """
data = ctypes.create_string_buffer(24)
libc.capget(struct.pack("Ii", 0x20080522, 0), data)
bounding = [libc.prctl(23, number, 0, 0, 0) for number in range(8)]
struct.unpack("6I", data.raw), bounding, libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0)""",
        lambda seen: (
            None
            if seen.text.startswith(f"(({_ADMINISTRATION}, {_ADMINISTRATION}, 0" if seen.namespaces else "((0, 0, 0")
            and ", 0, 0, 0), [" in seen.text
            and seen.text.endswith("], 1, 2)")
            else "capabilities, or no no_new_privs"
        ),
    ),
    Attack(
        "process_controls",
        """{"dumpable": called("prctl", 4, 1), "not dumpable": called("prctl", 4, 0), "new privileges": called("prctl", 38, 0),
            "outlive": called("prctl", 1, 0),
            "other signal": called("prctl", 1, 10), "ambient": called("prctl", 47, 2, 21), "keep": called("prctl", 8, 1),
            "bits": called("prctl", 28, 0),
            "tracer": called("prctl", 0x59616d61, -1), "reaper": called("prctl", 36, 1), "memory map": called("prctl", 35,
            8, 0), "filter": called("prctl", 22, 2, 0),
            "oddly large": called("prctl", 1, 9 + (1 << 32)), "seccomp": called("seccomp", 1, 0, bytes(16)),
            "listener": called("seccomp", 1, 8, bytes(16)),
            "personality": called("personality", 0x0400000)}""",
        refused("EPERM"),
    ),
    Attack(  # a clone needs these calls, which can only take rights away
        "widen_by_landlock",
        """import ctypes
rights = ctypes.create_string_buffer((4).to_bytes(8, "little"))
ruleset = ctypes.CDLL(None, use_errno=True).syscall(444, rights, 8, 0)
rule = ctypes.create_string_buffer((4).to_bytes(8, "little") + os.open("/", os.O_PATH).to_bytes(4, "little"))
added = ctypes.CDLL(None, use_errno=True).syscall(445, ruleset, 1, rule, 0)
done = ctypes.CDLL(None, use_errno=True).syscall(446, ruleset, 0)
{"outside": tried(open, "/etc/passwd"), "host": tried(open, host["secret"])}""",
        refused("EACCES", "EPERM", hidden=("ENOENT",)),
    ),
    Attack(
        "higher_limits",
        """
kinds = [name for name in dir(resource) if name.startswith("RLIMIT_") and resource.getrlimit(getattr(resource, name))[1] != -1]
{name: tried(resource.setrlimit, getattr(resource, name), (-1, -1)) for name in kinds} | {
    "of the parent": tried(resource.prlimit, os.getppid(), resource.RLIMIT_NOFILE), "nice": tried(os.nice, -5),
    "priority": tried(os.setpriority, os.PRIO_PROCESS, 0, -10), "scheduler": called("sched_setscheduler", 0, 1,
    struct.pack("i", 50)),
    "affinity": called("sched_setaffinity", 0, 8, b"\\xff" * 8), "disk": called("ioprio_set", 1, 0, 1 << 13),
    "lock": called("mlockall", 3)}""",
        refused("EPERM", "ValueError"),
    ),
)

FORKS = (
    Attack(
        "forks",
        """
import multiprocessing
{"fork": tried(os.fork), "process": tried(multiprocessing.get_context("fork").Process(target=print).start),
 "spawned": tried(multiprocessing.get_context("spawn").Process(target=print).start), "by number": called("fork"),
 "vfork": called("vfork"),
 "c fork": "EPERM" if libc.fork() == -1 else "did"}""",
        refused("EPERM"),
    ),
    Attack(
        "forks_with_a_terminal",
        'import pty\n{"pty": tried(pty.fork), "forkpty": tried(os.forkpty)}',
        refused("EPERM", "EACCES", "ENOENT", "OSError"),
    ),
    Attack(
        "clones_by_number",
        """
flags = {"thread": 0x3d0f00, "vfork": 0x4111, "with shared memory": 0x111, "brother": 0x8011, "plain": 17,
         "oddly large": 0x01200011 + (1 << 32), "pidfd": 0x1011, "untraced": 0x800011, "no signal": 0,
         "sibling": 0x01208011, "sibling with a stack": 0x01208011}
found = {name: called("clone", flag, 4096 if "stack" in name else 0) for name, flag in flags.items()}
found | {"like the C library": called("clone", 0x01200011)}""",
        refused("EPERM"),
    ),
    Attack(
        "clone3", '{"clone3": called("clone3", struct.pack("11Q", 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)}', refused("ENOSYS")
    ),
    Attack(
        "programs",
        """
import shutil
{"run": tried(subprocess.run, ["/bin/true"]), "shell": tried(subprocess.run, "true", shell=True), "popen": tried(os.popen,
 "true"),
 "system": "did" if os.system("exit 3") == 3 << 8 else "EPERM", "spawn": tried(os.posix_spawn, "/bin/true", ["true"], {}),
 "spawnv": tried(os.spawnv, os.P_NOWAIT, "/bin/true", ["true"]), "output": tried(subprocess.check_output, ["id"])}""",
        refused("EPERM"),
    ),
    Attack(
        "fork_bomb",
        """
done = denied = 0
for _ in range(2000):
    try:
        done += 1 if os.fork() else os._exit(0)
    except PermissionError:
        denied += 1
done, denied""",
        shows("(0, 2000)"),
    ),
    Attack("thread", "threading.Thread(target=print).start()", fails("RuntimeError: can't start new thread")),
    Attack(
        "thread_bomb",
        """
import _thread
from concurrent.futures import ThreadPoolExecutor
started = 0
for _ in range(500):
    try:
        _thread.start_new_thread(spin, ())
        started += 1
    except RuntimeError:
        pass
pool = tried(lambda: ThreadPoolExecutor(4).submit(print).result())
started, threading.active_count(), pool, tried(threading.Timer(0.01, print).start)""",
        shows("(0, 1, 'RuntimeError', 'RuntimeError')"),
    ),
)

KERNEL = (
    Attack(
        "kernel_doors",
        """
names = '''kexec_load kexec_file_load bpf io_uring_setup userfaultfd keyctl add_key request_key perf_event_open
memfd_create memfd_secret open_by_handle_at init_module finit_module delete_module reboot swapon syslog acct
settimeofday clock_settime shmget semget msgget mq_open mlock move_pages migrate_pages iopl ioperm
modify_ldt setpgid setsid sethostname socketpair'''.split()
{name: called(name, 0, 0, 0, 0, 0) for name in names}""",
        refused("EPERM"),
    ),
    Attack(
        "every_unlisted_call",
        """
outcomes = {str(number): called(number) for number in host["unlisted"]}
{number: outcome for number, outcome in outcomes.items() if outcome != "EPERM"} | {"all others": "EPERM"}""",
        refused("EPERM"),
        host=is_intact,
    ),
    Attack(
        "calls_that_no_filter_sees",
        "called(335) if os.uname().machine == 'x86_64' else 'EPERM'",
        one_of(died, shows("'EPERM'")),
    ),
    Attack(
        "program_in_memory",
        """{"memfd": called("memfd_create", b"x", 0), "execveat": called("execveat", 0, b"", 0, 0, 4096),
            "execve": called("execve", b"/bin/true", 0, 0)}""",
        refused("EPERM"),
    ),
    Attack(
        "terminal_input",
        """
codes = (0x5412, 0x540E, 0x541C, 0x5423, 0x5405, 0x8901, 0x5412 + (7 << 32))
{str(code): called("ioctl", 0, code, b"x") for code in codes}""",
        refused("EPERM"),
    ),
    Attack(
        "shared_memory",
        """
kinds = {"anonymous": 0x21, "validated": 0x23, "locked": 0x2022, "huge": 0x40022, "growing down": 0x122}
{name: called("mmap", 0, 4096, 3, flags, -1, 0) for name, flags in kinds.items()} | {
    "file": tried(lambda: (open("m", "wb").write(b"x" * 4096), mmap.mmap(os.open("m", os.O_RDWR), 4096)))}""",
        refused("EPERM"),
    ),
    Attack(
        "machine_code_of_another_interface",
        # 32-bit calls of x86, and x32's; on other machines there is nothing of the kind.
        """
if os.uname().machine == "x86_64":
    code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    code.write(bytes.fromhex("b814000000cd80c3"))
    ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
else:
    os._exit(1)""",
        died,
    ),
    Attack(
        "calls_of_x32",
        "libc.syscall(ctypes.c_long(0x40000000 + 39)) if os.uname().machine == 'x86_64' else os._exit(1)",
        died,
    ),
    Attack(
        "machine_code_of_its_own",
        """
if os.uname().machine == "x86_64":  # mov eax, 41 (socket); mov edi, 2; mov esi, 1; xor edx, edx; syscall; ret
    code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    code.write(bytes.fromhex("b829000000bf02000000be0100000031d20f05c3"))
    value = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
else:
    value = -1
value""",
        shows("-1"),
    ),
    Attack("crash", "ctypes.string_at(0)", died),
    Attack("abort", "os.abort()", died),
    Attack("end_of_process", "counter = 0\nos._exit(0)", died),
    Attack("broken_interpreter", "ctypes.memset(id(None), 255, 16)\nNone", one_of(died, shows(""))),
)

PROCESSES = (*SIGNALS, *TRACING, *NAMESPACES, *RIGHTS, *FORKS, *KERNEL)
