"""Attacks on the session itself: the control descriptor, what runs between cells, poisoned modules, odd code."""

from attacks import Attack, Expectation, Seen, died, fails, is_gone, not_cloned, one_of, shows, stopped, times_out

FORGED = "forged"


def _as_if_printed(seen: Seen) -> str | None:
    """A cell that steals the nonce can say no more than one that prints; nobody outside can tell them apart."""
    return None if seen.text == FORGED and seen.error is None else died(seen)


def _lost_or_died(seen: Seen) -> str | None:
    return None if seen.error == "died" else "it did not die"


def _forgery(body: str) -> str:
    return f"os.write(control()[0], frame(({body}).encode()))"


CONTROL = (
    Attack("forged_reply", _forgery("""json.dumps({"text": "forged", "error": None})"""), died),
    Attack("forged_reply_with_a_guess", _forgery("""json.dumps({"text": "forged", "error": None, "nonce": "0" * 16})"""), died),
    Attack(
        "forged_reply_without_an_end",
        _forgery("""json.dumps({"text": "forged", "error": None})""") + "\nspin()",
        one_of(died, stopped),
        seconds=0.3,
    ),
    Attack("forged_greeting", _forgery("""json.dumps({"hello": True, "text": "forged", "error": None})"""), died),
    Attack(
        "forged_reply_with_the_stolen_nonce",
        'nonce = loop_frame().f_locals["order"]["nonce"]\n'
        + _forgery('json.dumps({"text": "forged", "error": None, "nonce": nonce})'),
        _as_if_printed,
        after=None,
    ),
    Attack(
        "forged_reply_with_the_stolen_nonce_and_no_other",
        'nonce = loop_frame().f_locals["order"]["nonce"]\n'
        + _forgery('json.dumps({"text": "forged", "error": None, "nonce": nonce})')
        + "\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nspin()",
        _as_if_printed,
        after=None,
        seconds=0.3,
        answering=1.0,
    ),
    Attack(
        "forged_reply_by_a_replaced_function",
        """json.dumps = lambda *arguments, **options: '{"text": "forged", "error": null, "nonce": null, "hello": true}'""",
        shows(""),
    ),
    Attack("frame_that_is_no_json", _forgery('"forged"'), died),
    Attack("frame_that_is_no_message", _forgery('"[1, 2]"'), died),
    Attack("frame_of_deep_json", _forgery('"[" * 20000'), died),
    Attack("frame_too_long", 'os.write(control()[0], struct.pack(">I", 2**32 - 1) + b"x" * 1000)', died),
    Attack(
        "frame_that_never_ends",
        'os.write(control()[0], struct.pack(">I", 5000) + b"x")\nspin()',
        one_of(died, stopped),
        seconds=0.3,
    ),
    Attack("flood", 'while True:\n    os.write(control()[0], b"\\0\\0\\0\\2{}" * 1000)', died, seconds=1.0),
    Attack(
        "descriptors_for_the_host",
        """
link = socket.socket(fileno=os.dup(control()[0]))
for _ in range(20):
    socket.send_fds(link, [frame(b"{}")], [0, 1, 2] * 20)
link.close()""",
        died,
    ),
    Attack(
        "odd_reply",
        _forgery("""json.dumps({"text": 5, "error": [], "nonce": loop_frame().f_locals["order"]["nonce"]})"""),
        died,
    ),
    Attack("control_closed", "for file in control():\n    os.close(file)", died),
    Attack("everything_closed", "os.closerange(0, 256)", died),
    Attack("control_replaced", "null = os.open('/dev/null', os.O_RDWR)\nfor file in control():\n    os.dup2(null, file)", died),
    Attack(
        "control_read",
        "os.set_blocking(control()[0], False)\ntried(os.read, control()[0], 10)",
        one_of(shows("'EAGAIN'"), _lost_or_died),
        after=None,
    ),
    Attack("control_read_until_the_end", "os.read(control()[0], 10)", one_of(times_out, stopped), seconds=0.3),
    Attack("control_copied", "copies = [os.dup(control()[0]) for _ in range(20)]\nlen(copies)", shows("20")),
)

FIND_POSIX = """
import importlib.util
spec = importlib.util.find_spec("posix")
fresh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fresh)
"""
FIND_SESSION = "session = loop_frame().f_locals['self']\n"

CLONING = (
    Attack(
        "fork_hook",
        "'cloned'",
        shows("'cloned'"),
        before="os.register_at_fork(before=spin, after_in_child=spin, after_in_parent=spin)",
    ),
    Attack(
        "fork_hook_by_a_fresh_module",
        "'cloned'",
        one_of(not_cloned, shows("'cloned'")),
        before=FIND_POSIX + "fresh.register_at_fork(after_in_child=lambda: looping and spin())\nlooping = True",
        original=None,
        after=None,
        answering=1.0,
    ),
    Attack(
        "fork_hook_that_forks",
        "'cloned'",
        one_of(not_cloned, shows("'cloned'")),
        before=FIND_POSIX
        + """
bomb = lambda: [tried(fresh.fork) for _ in range(5)]
fresh.register_at_fork(after_in_child=bomb, after_in_parent=bomb)""",
        original=None,
        after=None,
        answering=1.0,
    ),
    Attack(
        "clone_that_answers_for_its_copy",
        "'cloned'",
        not_cloned,
        before=FIND_SESSION
        + """
def impostor(self, order):
    os.write(self.channel.files.pop(), frame(b'{"hello": true}'))
    return {}
type(session)._copy = impostor""",
        original=None,
        answering=1.0,
    ),
    Attack(
        "clone_that_forks_more",
        "'cloned'",
        not_cloned,
        before=FIND_SESSION
        + """
def greedy(self, order):
    for _ in range(10):
        try:
            if not self._fork():
                tried(self._fork), tried(os.fork)
                spin()
        except OSError:
            pass
    return {}
type(session)._copy = greedy""",
        original=None,
        answering=1.0,
    ),
    Attack(
        "clone_that_says_nonsense",
        "'cloned'",
        not_cloned,
        before=FIND_SESSION
        + """
nonsense = []
for _ in range(500):
    nonsense = [nonsense]
type(session)._copy = lambda self, order: {"failed": nonsense}""",
        original=None,
        answering=1.0,
    ),
    Attack(
        "clone_that_never_says_hello",
        "'cloned'",
        not_cloned,
        before=FIND_SESSION
        + """
def mute(self, order):
    if not self._fork():
        spin()
    return {}
type(session)._copy = mute""",
        original=None,
        answering=1.0,
    ),
    Attack(
        "clone_that_is_already_dead",  # the server may see its end before it is registered, or after
        "'cloned'",
        one_of(not_cloned, is_gone, _lost_or_died),
        before=FIND_SESSION
        + """
def deadly(self, order):
    if not self._fork():
        os.write(self.channel.files[-1], frame(b'{"hello": true}'))
        os._exit(0)
    return {}
type(session)._copy = deadly""",
        original=None,
        after=None,
        answering=1.0,
    ),
    Attack(
        "audit_hook",
        "'cloned'",
        not_cloned,
        before="""
armed = False
sys.addaudithook(lambda event, arguments: spin() if armed and event == "socket.__new__" else None)
armed = True""",
        original=None,
        after=None,
        answering=1.0,
    ),
    Attack(
        "fork_replaced",
        "'cloned'",
        shows("'cloned'"),
        before="os.fork = os._exit = os.waitpid = os.getppid = os.chdir = os.scandir = spin",
    ),
    Attack(
        "modules_poisoned", "'cloned'", shows("'cloned'"), before="for name in list(sys.modules):\n    sys.modules[name] = None"
    ),
    Attack(
        "alarm_pending",
        "'cloned'",
        shows("'cloned'"),
        before="signal.signal(signal.SIGALRM, signal.SIG_DFL)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)",
    ),
    Attack("many_generations", "counter += 1\ncounter", shows("42"), after=("counter", "42")),
)

BETWEEN = (
    Attack(
        "trace_function",
        "def tracer(*arguments):\n    raise ValueError\nsys.settrace(tracer)\ncounter = 41",
        one_of(shows(""), fails("ValueError"), died),
    ),
    Attack(
        "trace_function_that_loops",
        "sys.settrace(lambda *_: spin())\nrepr(counter)\n(lambda: 0)()",
        one_of(times_out, stopped),
        seconds=0.3,
    ),
    Attack("profile_function", "sys.setprofile(lambda *_: 1 / 0)", one_of(shows(""), fails("ZeroDivisionError"), died)),
    Attack("module_json", "sys.modules['json'] = None\njson.dumps = json.loads = None", shows("")),
    Attack(
        "builtins_overwritten",
        "builtins.len = builtins.isinstance = builtins.bytes = builtins.memoryview = None",
        one_of(shows(""), died),
    ),
    Attack("builtins_removed", "vars(builtins).clear()", one_of(shows(""), died, fails("Error"))),
    Attack("streams_replaced", "sys.stdout = sys.stderr = sys.__stdout__ = None\nprint('x')", shows("")),
    Attack("streams_closed", "sys.stdout.close(), sys.stderr.close(), sys.stdin.close()\nprint('x')", shows("x")),
    Attack("os_overwritten", "os.write = os.close = os.read = socket.socket = struct.pack = select = None", shows("")),
    Attack(
        "gc_callback",
        "gc.callbacks.append(lambda *_: 1 / 0)\ngc.collect()\nNone",
        one_of(fails("ZeroDivisionError"), lambda seen: None if seen.error is None else "failed"),
    ),
    Attack(
        "gc_callback_that_loops_later",
        "gc.callbacks.append(lambda *_: armed and spin())\ngc.set_threshold(1)\narmed = True",
        one_of(stopped, times_out),
        seconds=0.3,
        answering=1.0,
    ),
    Attack("atexit_hook", "atexit.register(spin)\nraise SystemExit", shows("exit() was called; the session continues")),
    Attack(
        "destructor",
        "class Last:\n    def __del__(self): spin()\nlast = Last()\ndel last",
        one_of(times_out, stopped, lambda seen: None if seen.error is None else "?"),
        seconds=0.3,
    ),
    Attack("destructor_at_the_end", "class Last:\n    def __del__(self): spin()\nlast = Last()\nlast.self = last", shows("")),
    Attack(
        "generator_that_never_ends",
        """
def forever():
    while True:
        try:
            yield
        except BaseException:
            pass
half = forever()
next(half)
del half""",
        one_of(shows(""), lambda seen: None if seen.error is None and "generator ignored GeneratorExit" in seen.text else "?"),
    ),
    Attack(
        "signal_handlers",
        "for number in {*signal.valid_signals()} - {9, 19, 32, 33}:\n    tried(signal.signal, number, lambda *_: spin())",
        shows(""),
    ),
    Attack(
        "excepthooks",
        "sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *_: spin()\n1 / 0",
        fails("ZeroDivisionError"),
    ),
)


def _ends_with(line: str) -> Expectation:
    return fails(line)


CODE = (
    Attack("exit_raised", "raise SystemExit", shows("exit() was called; the session continues")),
    Attack(
        "exit_with_a_message",
        "sys.exit('enough')",
        lambda seen: None if seen.error == "error" and "enough" in seen.text else "not shown",
    ),
    Attack("keyboard_interrupt", "raise KeyboardInterrupt", _ends_with("KeyboardInterrupt")),
    Attack("base_exception", "class Odd(BaseException): pass\nraise Odd('odd')", _ends_with("Odd: odd")),
    Attack("generator_exit", "raise GeneratorExit", _ends_with("GeneratorExit")),
    Attack(
        "exception_that_cannot_be_shown", "class Odd(Exception):\n    def __str__(self): raise Odd\nraise Odd", fails("Odd")
    ),
    Attack(
        "exception_whose_text_loops",
        "class Odd(Exception):\n    def __str__(self): spin()\nraise Odd",
        one_of(times_out, fails("Odd")),
        seconds=0.3,
    ),
    Attack("value_whose_text_recurs", "class Odd:\n    def __repr__(self): return repr(self)\nOdd()", fails("RecursionError")),
    Attack("value_whose_text_loops", "class Odd:\n    def __repr__(self): spin()\nOdd()", times_out, seconds=0.3),
    Attack("value_whose_text_is_none", "class Odd:\n    def __repr__(self): return None\nOdd()", fails("TypeError")),
    Attack("code_of_a_megabyte", "total = 0\n" + f"{'#' * 99}\n" * 10_000 + "total", shows("0")),
    Attack(
        "code_of_many_statements",
        "total = 0\n" + "pass\n" * 30_000 + "total",
        one_of(shows("0"), fails("MemoryError")),
        seconds=30.0,
    ),
    Attack("code_of_one_long_line", "len('" + "x" * 1_000_000 + "')", shows("1000000")),
    Attack("code_too_deep", "(" * 100_000 + ")" * 100_000, fails("Error")),
    Attack("code_of_many_signs", "-" * 200_000 + "1", one_of(fails("RecursionError", "MemoryError", "SyntaxError"), died)),
    Attack("code_with_a_null", "x = 1\0 + 1", fails("Error")),
    Attack(
        "code_with_lone_surrogates",
        "len('\udc80\ud800')",
        lambda seen: None if seen.error in (None, "error") else "not a plain result",
    ),
    Attack(
        "text_with_lone_surrogates",
        "print('\\udc80\\ud800'), '\\udcff'",
        lambda seen: None if seen.error is None and "\\udc80" in seen.text else "not shown",
    ),
    Attack("code_that_is_empty", "", shows("")),
    Attack("own_time_out_raised", "raise type('CellTimeout', (BaseException,), {})()", fails("CellTimeout")),
    Attack(
        "frames_of_the_loop",
        "frame_of_cells = loop_frame()\nframe_of_cells.f_locals['self'].notebook.namespace.clear()",
        shows(""),
        after=("'counter' in globals()", "False"),
    ),
)

SESSION = (*CONTROL, *CLONING, *BETWEEN, *CODE)
