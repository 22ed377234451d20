"""Attacks by what waits: loops that go on, that were tampered with, and the descriptors that loops elsewhere have."""

from attacks import Attack, fails, one_of, refused, shows, stopped, times_out

_LOOP = "import asyncio\nawait asyncio.sleep(0)\nloop = asyncio.get_running_loop()\n"

WAITING = (
    Attack(
        "descriptors_of_loops",
        """import select, selectors
{"epoll": tried(select.epoll), "selector": tried(selectors.EpollSelector), "pair": tried(socket.socketpair),
 "datagrams": tried(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM), "event": called("eventfd2", 0, 0)}""",
        refused("EPERM"),
    ),
    Attack(
        "task_that_cannot_be_cancelled",
        """
import asyncio
async def stubborn():
    while True:
        try:
            await asyncio.sleep(0.001)
        except BaseException:
            pass
await stubborn()""",
        one_of(times_out, stopped),
        seconds=0.3,
    ),
    Attack(
        "clean_up_that_never_ends",
        "import asyncio\ntry:\n    await asyncio.sleep(60)\nfinally:\n    spin()",
        one_of(times_out, stopped),
        seconds=0.3,
    ),
    Attack("loop_that_says_it_runs", f"{_LOOP}asyncio._set_running_loop(loop)\nloop._thread_id = 1", shows("")),
    Attack(
        "loop_that_is_marked_as_running_for_later",
        "import asyncio\nasyncio._set_running_loop(asyncio.new_event_loop())",
        shows(""),
        after=("await asyncio.sleep(0, counter)", "41"),
    ),
    Attack(
        "loop_with_other_methods",
        f"{_LOOP}type(loop).run_until_complete = type(loop).create_task = type(loop).is_closed = lambda *_: spin()",
        shows(""),
    ),
    Attack(
        "loop_that_is_called_back_between_cells",
        f"{_LOOP}changed = []\nloop.call_later(0.02, changed.append, 1)\ncounter = 41",
        shows(""),
        after=("time.sleep(0.05)\nchanged", "[]"),
    ),
    Attack(
        "task_that_is_shared_with_the_original",
        "await task\ncounter = 42\nlen(seen)",
        shows("5"),
        before="""
import asyncio
seen = []
async def tick():
    while len(seen) < 5:
        seen.append(1)
        await asyncio.sleep(0.001)
task = asyncio.create_task(tick())
await asyncio.sleep(0)""",
        after=("counter, task.done()", "(42, True)"),
        original=("counter, task.done()", "(41, False)"),
    ),
    Attack("stop_of_the_loop", f"{_LOOP}loop.stop()\nawait asyncio.sleep(9)", fails("RuntimeError")),
    Attack("end_by_a_task", "import asyncio\nawait asyncio.gather(asyncio.to_thread(spin))", fails("can't start new thread")),
)
