"""Attacks of cells that answer for themselves, or leave something behind, and go on when nobody is to run any more."""

from attacks import Attack, Seen, died, not_cloned, one_of, shows


def _said(seen: Seen) -> str | None:
    """The answer is the cell's own; nobody outside can tell it from another one."""
    return None if (seen.text, seen.error) == ("forged", None) else "it said something else"


ANSWER = """
session = loop_frame().f_locals["self"]
kind, notebook = type(session), session.notebook
real_send, real_copy, real_settle = type(session.channel).send, kind._copy, type(notebook)._settle
def answer_alone(text="forged"):
    nonce = loop_frame().f_locals["order"]["nonce"]
    body = json.dumps({"text": text, "error": None, "nonce": nonce}).encode()
    os.write(session.channel.sock.fileno(), frame(body))
    def not_once(self, *arguments, **options):
        type(session.channel).send = real_send
    type(session.channel).send = not_once
def take():
    global taken
    taken = bytearray(b"x") * (300 << 20)
"""

AFTERWARDS = (
    Attack("computing_after_the_answer", f"counter = 0\n{ANSWER}\nanswer_alone()\nspin()", _said, after=None),
    Attack(
        "computing_after_the_answer_without_signals",
        f"counter = 0\n{ANSWER}\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nanswer_alone()\nspin()",
        _said,
        after=None,
    ),
    Attack("computing_in_C_after_the_answer", f"{ANSWER}\nanswer_alone()\n10 ** 10 ** 8", _said, after=None),
    Attack("sleeping_after_the_answer", f"{ANSWER}\nanswer_alone()\ntime.sleep(60)", _said, after=None, answering=1.0),
    Attack("memory_after_the_answer", f"{ANSWER}\nanswer_alone()\ntake()", _said, after=None),
    Attack("ending_after_the_answer", f"{ANSWER}\nanswer_alone()\nos._exit(0)", one_of(_said, died), after=None),
    Attack(
        "what_comes_of_computing_after_the_answer",
        "counter",
        one_of(not_cloned, shows("41")),
        before=f"counter = 0\n{ANSWER}\nanswer_alone()\nspin()",
        original=None,
    ),
    Attack(
        "working_in_the_fork",
        "counter",
        not_cloned,
        before=f"{ANSWER}\nkind._copy = lambda self, order: spin() or real_copy(self, order)\nNone",
    ),
    Attack(
        "working_in_the_fork_of_a_clone_only",
        "counter",
        not_cloned,
        before=f"{ANSWER}\nkind._copy = lambda self, order: order['branch'] and spin() or real_copy(self, order)\nNone",
    ),
    Attack(
        "working_in_the_copy",
        "counter",
        one_of(not_cloned, shows("41")),
        before=f"{ANSWER}\nkind.move = spin\nkind._narrow = spin\nNone",
        original=None,
        after=None,
        answering=1.0,
    ),
    Attack(
        "handler_of_going_on",
        "counter",
        one_of(not_cloned, shows("41")),
        before=f"{ANSWER}\ndef settle(self):\n    real_settle(self)\n    signal.signal(signal.SIGCONT, lambda *_: spin())\n"
        "type(notebook)._settle = settle\nNone",
        original=None,
        after=None,
    ),
    Attack(
        "timer_that_nobody_can_stop",
        "time.sleep(0.3)\nticks < 100",
        shows("True"),
        before="import _signal\nticks = 0\ndef tick(*_):\n    global ticks\n    ticks += 1\n"
        "signal.signal(signal.SIGALRM, tick)\n_signal.setitimer(0, 0.001, 0.001)\n"
        "signal.setitimer = _signal.setitimer = signal.signal = None",
    ),
    Attack(
        "functions_of_the_session_replaced",
        "counter",
        shows("41"),
        before="os.close = os.dup2 = os.open = os.fstat = socket.socket.recvmsg = socket.socket.sendmsg = select = None\n"
        "json.loads = json.dumps = json.JSONDecoder.decode = struct.Struct = fcntl.fcntl = stat.S_ISREG = mmap.mmap = None",
    ),
)
