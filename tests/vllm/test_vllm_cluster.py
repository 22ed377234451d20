"""Processes around the real vLLM that are killed from outside: what its engine has started ends as well."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from vllm_toys import MARKS, DrawnByVLLM

from algorithms.cluster import Lost
from algorithms.cluster.local import LocalLauncher

pytestmark = MARKS


def test_the_engine_of_a_worker_that_is_killed_ends_and_leaves_no_files(
    save_tiny: Callable[..., tuple[Path, Any]], tmp_path: Path
) -> None:
    folder, _ = save_tiny("llama")

    async def run() -> None:
        launcher = LocalLauncher(tmp_path / "run")
        try:
            worker = launcher.create(DrawnByVLLM(folder))
            answer = await launcher.call(worker, "prepare")
            assert answer.error is None, answer.error
            inside = psutil.Process(worker.pid).children(recursive=True)
            assert any("vllm" in process.name().lower() for process in inside), [process.name() for process in inside]
            assert any(worker.temporary.iterdir()), "weights on their way"
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(Lost):
                await launcher.call(worker, "forget")
            launcher.kill(worker)
            _, left = await asyncio.to_thread(psutil.wait_procs, inside, 60.0)
            assert left == []
        finally:
            await launcher.close()
        assert not worker.temporary.parent.exists()

    asyncio.run(run())


OWNER = """
import asyncio, os, sys
sys.path[:0] = {here!r}
from pathlib import Path
from vllm_toys import DrawnByVLLM
from algorithms.cluster.local import LocalLauncher

async def run(folder, where):
    if where == "worker":
        launcher = LocalLauncher(folder / "run")
        worker = launcher.create(DrawnByVLLM(folder / "llama"))
        assert (await launcher.call(worker, "prepare")).error is None
        print(worker.pid, flush=True)
    else:
        equipment = DrawnByVLLM(folder / "llama")()
        print(os.getpid(), flush=True)
    await asyncio.sleep(600.0)

if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("where", ["worker", "trainer"])
def test_the_engine_ends_although_all_are_killed_at_once_that_could_end_it(
    where: str, save_tiny: Callable[..., tuple[Path, Any]], tmp_path: Path
) -> None:
    save_tiny("llama")
    script = tmp_path / "owner.py"
    script.write_text(OWNER.format(here=[entry for entry in sys.path if entry]), encoding="utf-8")
    words = [sys.executable, str(script), str(tmp_path), where]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as trainer:
        try:
            assert trainer.stdout is not None
            owner = psutil.Process(int(trainer.stdout.readline()))
            inside = owner.children(recursive=True)
            assert any("vllm" in process.name().lower() for process in inside), [process.name() for process in inside]
            killed = {psutil.Process(trainer.pid), owner}
            for process in killed:
                process.suspend()  # so that neither notices that the other one has ended
            for process in killed:
                process.kill()
            _, left = psutil.wait_procs(inside, 60.0)
            names = [process.name() for process in left]
            for process in left:
                process.kill()
            assert names == []
        finally:
            trainer.kill()
