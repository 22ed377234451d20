"""What vLLM's processes do when the one that owns their engine ends; here a process stands for them, which imports the same."""

import subprocess
import sys
from pathlib import Path

import pytest
from cluster_toys import lives
from disaster_toys import wait_for

OWNER = """
import subprocess, sys, tempfile
from pathlib import Path
from algorithms.policies.vllm_owner import engine_processes

folder, is_temporary = Path(sys.argv[1]), sys.argv[2] == "temporary"
engine = "import time; import algorithms.policies.vllm_ending; print(flush=True); time.sleep(600)"
with engine_processes(folder if is_temporary else None):
    process = subprocess.Popen([sys.executable, "-c", engine], stdout=subprocess.PIPE, start_new_session=True)
process.stdout.readline()
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.parametrize("whose", ["temporary", "the user's"])
def test_an_engine_whose_owner_is_killed_ends_and_removes_the_owners_temporary_weights(whose: str, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    with subprocess.Popen([sys.executable, "-c", OWNER, str(folder), whose], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        engine = int(owner.stdout.readline())
        assert lives(engine)
        owner.kill()
    wait_for(lambda: not lives(engine))
    assert not lives(engine)
    assert folder.exists() == (whose != "temporary")
