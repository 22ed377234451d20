"""Real vLLM servers on loopback, for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

OPTIONS = "--dtype float32 --max-model-len 512 --block-size 32 --kv-cache-memory-bytes 268435456 --enforce-eager"
WHOLE = "--no-enable-chunked-prefill"  # or a seeded request may kill the engine on a CPU (`algorithms.policies.vllm` says how)
LOGPROBS = "--logprobs-mode processed_logprobs --max-logprobs 265"
START_SECONDS = 400.0


@dataclass
class Server:
    """A vLLM server in a process group of its own."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        if self.goes_on():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def goes_on(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> None:
        """Waits until it answers."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.goes_on():
            try:
                return httpx.get(f"{self.url}/health", trust_env=False).raise_for_status() and None
            except httpx.HTTPError:
                time.sleep(1.0)
        raise AssertionError(f"vLLM did not start:\n{self.log.read_text(errors='replace')[-3000:]}")


def start(folder: Path, log: Path, *options: str) -> Server:
    """Starts a server, which takes a while; `wait` for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    words += ["--host", "127.0.0.1", "--port", str(port), *OPTIONS.split(), WHOLE, *LOGPROBS.split(), *options]
    settings = {"VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(words, env=os.environ | settings, stdout=file, stderr=file, start_new_session=True)
    return Server(f"http://127.0.0.1:{port}", folder, process, log)
