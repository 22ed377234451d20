"""The alternatives to a fork server, timed: fresh interpreters, dill, Jupyter kernels; and the floor, a bare fork.

Each runs in a separate process, with the same environment variables as the fork server.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from types import TracebackType

from arpo_envs.tools import python

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_IMPORTS = "import numpy, sympy"

_BARE_FORKS = """
import gc, json, os, sys, time
sys.path.insert(0, sys.argv[1])
from server.hooks import forget_fork_hooks
forget_fork_hooks()
from server.template import warm_up
warm_up(("numpy", "sympy"))
gc.collect()
gc.freeze()
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        reading, writing = os.pipe()
        start = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os.write(writing, b"1")
            os._exit(0)
        os.read(reading, 1)
        times.append(1e3 * (time.perf_counter() - start))
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
    print(json.dumps(times), flush=True)
"""

_DILL = """
import json, sys, time
import dill, numpy as np
size, repeats = map(int, sys.argv[1:])
namespace = {"a": np.ones(size << 17), "names": ["a", "b"], "total": 3.5}
found = []
for _ in range(repeats):
    start = time.perf_counter()
    data = dill.dumps(namespace)
    dumped = time.perf_counter()
    dill.loads(data)
    found.append((1e3 * (dumped - start), 1e3 * (time.perf_counter() - dumped)))
print(json.dumps(found))
"""

_KERNEL = """
import json, sys, time
from jupyter_client import KernelManager
found = []
for _ in range(int(sys.argv[1])):
    manager = KernelManager(kernel_name="python3")
    manager.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    start = time.perf_counter()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    ready = time.perf_counter()
    client.execute("import numpy, sympy", reply=True, timeout=120)
    found.append((1e3 * (ready - start), 1e3 * (time.perf_counter() - ready)))
    client.stop_channels()
    manager.shutdown_kernel(now=True)
print(json.dumps(found))
"""


class Missing(Exception):
    """A package to be measured is not installed, or does not run."""


class BareForks:
    """A process with the server's imports that forks on request: the least that a clone can cost."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-B", "-c", _BARE_FORKS, str(Path(python.__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | _ENVIRONMENT,
        )

    def times(self, count: int) -> list[float]:
        """Returns milliseconds from before a fork to the child's first byte, once per fork."""
        reading, writing = self._process.stdout, self._process.stdin
        if reading is None or writing is None:
            raise RuntimeError("the process was started without pipes")
        writing.write(f"{count}\n")
        writing.flush()
        times: list[float] = json.loads(reading.readline())
        return times

    def __enter__(self) -> "BareForks":
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the process."""
        with self._process:
            self._process.kill()


def fresh_interpreter() -> float:
    """Returns milliseconds that a new interpreter needs to import NumPy and SymPy and exit."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True, env=os.environ | _ENVIRONMENT)
    return 1e3 * (time.perf_counter() - start)


def dill_times(megabytes: int, repeats: int) -> tuple[float, float]:
    """Returns milliseconds, medians, to write a namespace with an array of that size to bytes, and to read it back.

    Raises:
        Missing: dill is not installed.
    """
    return _pairs("dill", _DILL, str(megabytes), str(repeats))


def kernel_times(repeats: int) -> tuple[float, float]:
    """Returns milliseconds, medians, until a Jupyter kernel is ready, and from then until NumPy and SymPy are imported.

    Raises:
        Missing: ipykernel is not installed.
    """
    return _pairs("ipykernel", _KERNEL, str(repeats))


def _pairs(package: str, program: str, *arguments: str) -> tuple[float, float]:
    if importlib.util.find_spec(package) is None:
        raise Missing(package)
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _ENVIRONMENT)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Missing(f"{package}: {last[0]}")
    first, second = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
    return median(first), median(second)
