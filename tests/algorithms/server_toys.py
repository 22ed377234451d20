"""A small server on loopback that speaks the protocol of /v1/completions, and fails on demand.

It is not vLLM, and no test of vLLM: it serves our own local policy, so that a client can be tested against servers
that die, hang, are busy or talk nonsense.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from algorithms.policies import Sampling
from algorithms.policies.local import LocalPolicy

Fault = str
"""hang; cut: closes the connection; nonsense: no JSON; empty: JSON without an answer; blind: no token ids; NNN or NNN/S:
that status, with Retry-After S; one of them for each of the next requests."""


class LoopbackServer:
    """Serves a model in a thread of its own, until `kill`.

    Args:
        model: a `transformers` model.
        tokenizer: its tokenizer.
        dev: whether it takes weights.
        scaled: whether log-probabilities are those at the temperature.
        delay: seconds between streamed tokens, and before an answer.
        root: the folder it says it serves.
        sees: where it can read weights.
        port: to listen on; a free one when 0.
        batch_invariant: see `LocalPolicy`.
        api_key: which it demands.
        names: whether it remembers the name of its weights.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        dev: bool = True,
        scaled: bool = True,
        delay: float = 0.0,
        root: str = "tiny",
        sees: Path = Path("/"),
        context_length: int = 128,
        port: int = 0,
        batch_invariant: bool = False,
        api_key: str | None = None,
        names: bool = True,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.dev, self.scaled, self.delay, self.root = dev, scaled, delay, root
        self.sees, self.context_length, self.port = sees, context_length, port
        self.batch_invariant, self.api_key, self.names = batch_invariant, api_key, names
        self.name = "default"
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.stalls = 0
        """How often it hangs when it is to take weights."""
        self.dies_after: int | None = None
        """Generations after which it dies."""
        self.requests: list[dict[str, Any]] = []
        self.loads: list[str] = []
        self.keys: set[str] = set()
        self.busy = self.most_busy = self.abandoned = 0
        self._started = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._started.wait(30.0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def weights(self) -> dict[str, torch.Tensor]:
        """Returns what it serves now."""
        state: dict[str, torch.Tensor] = self._policy.model.state_dict()
        return state

    def kill(self) -> None:
        """Stops listening and cuts all connections, as the end of a process does."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30.0)

    def __enter__(self) -> "LoopbackServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    # --- the thread -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        options = {"context_length": self.context_length, "batch_invariant": self.batch_invariant}
        self._policy = LocalPolicy(self.model, self.tokenizer, slots=16, **options)
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        # Who has been accepted is let in, and sent away: asyncio would never close a connection that is cancelled, or whose
        # server is closed, between these two.
        self._loop.remove_reader(server.sockets[0].fileno())
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.wait(rest, timeout=0.01)
        server.close()
        await self._policy.close()
        await asyncio.sleep(0.02)  # until the transports are closed

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, route, *_ = head.split(" ", 2)
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                self.keys |= {fields["authorization"]} if "authorization" in fields else set()
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                if self.api_key is not None and fields.get("authorization") != f"bearer {self.api_key}":
                    await self._send(writer, 401, {"error": "Unauthorized"})
                    continue
                await self._answer(method, route.partition("?")[0], json.loads(body) if body else {}, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # `asyncio.streams` logs cancelled ones
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, method: str, route: str, body: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if (method, route) == ("GET", "/v1/models"):
            card = {"id": "tiny", "root": self.root, "max_model_len": self.context_length}
            await self._send(writer, 200, {"object": "list", "data": [card]})
        elif route == "/collective_rpc" and self.dev:
            await self._send(writer, *(await self._reload(body) if method == "POST" else (405, {})))
        elif route == "/reset_prefix_cache" and self.dev:
            await self._send(writer, 200, {"success": True})
        elif route == "/update_weight_version" and self.names:
            self.name = body["new_version"]
            await self._send(writer, 200, {"success": True})
        elif route == "/weight_info" and self.names:
            await self._send(writer, 200, {"weight_version": self.name})
        elif (method, route) == ("POST", "/v1/completions"):
            await self._complete(body, reader, writer)
        else:
            await self._send(writer, 404, {"detail": "Not Found"})

    async def _reload(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        folder = Path(body["kwargs"]["weights_path"])
        if not folder.is_relative_to(self.sees):
            return 500, {"error": {"message": f"{folder} is not there"}}
        if self.stalls:
            self.stalls -= 1
            await self._over.wait()
            raise ConnectionError
        self.loads.append(folder.name)
        await self._policy.load(load_file(folder / "model.safetensors"), 0)
        return 200, {"results": [None]}

    async def _complete(self, body: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers while the client is there."""
        self.requests.append(dict(body))
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        work = asyncio.create_task(self._work(body, writer))
        gone = asyncio.create_task(reader.read(1))  # a client that waits sends nothing: this ends when it hangs up
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.abandoned += 1
                raise ConnectionError
            await work
        finally:
            self.busy -= 1
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _work(self, body: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        fault = self.faults.popleft() if self.faults else self.always
        if self.dies_after is not None and len(self.requests) > self.dies_after:
            self._over.set()
            await asyncio.sleep(60.0)
        if fault == "hang":
            await asyncio.sleep(60.0)
        if fault == "cut":
            writer.transport.abort()
            raise ConnectionError
        if fault == "nonsense":
            return await self._send(writer, 200, "<html>")
        if fault == "empty":
            return await self._send(writer, 200, {"choices": []})
        if fault is not None and fault[0].isdigit():
            status, _, wait = fault.partition("/")
            message = {"error": {"message": "no room" if status in ("429", "503") else "it broke"}}
            return await self._send(writer, int(status), message, {"Retry-After": wait} if wait else {})
        await asyncio.sleep(self.delay)
        params = Sampling(body["max_tokens"], body["temperature"], tuple(body["stop"]), tuple(body["stop_token_ids"]))
        drawn = await self._policy.generate(body["prompt"], params, seed=body["seed"])
        tops = self._top(body, drawn.tokens)
        choices = [_choice(drawn.tokens[i : i + 1], tops[i : i + 1]) for i in range(len(drawn.tokens))]
        choices[-1]["finish_reason"] = drawn.finish
        if fault == "blind":
            return await self._send(writer, 200, {"choices": [{"text": "x", "finish_reason": "stop", "logprobs": None}]})
        if not body["stream"]:
            whole = _choice(drawn.tokens, tops) | {"finish_reason": drawn.finish}
            return await self._send(writer, 200, {"choices": [whole]})
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for line in [*(json.dumps({"choices": [choice]}) for choice in choices), "[DONE]"]:
            data = f"data: {line}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
            await asyncio.sleep(self.delay)
        writer.write(b"0\r\n\r\n")
        return None

    def _top(self, body: Mapping[str, Any], tokens: Sequence[int]) -> list[dict[int, float]]:
        """Returns the likeliest tokens' log-probabilities at each place, the drawn one's first."""
        ids = torch.tensor([[*body["prompt"], *tokens]])
        with torch.inference_mode():
            logits_TV = self._policy.model(input_ids=ids).logits[0].float()
        temperature = body["temperature"] or 1.0 if self.scaled else 1.0
        logp_TV = torch.log_softmax(logits_TV[len(body["prompt"]) - 1 : -1] / temperature, dim=-1)
        places = zip(logp_TV, tokens, strict=True)
        return [{token: float(logp_V[token])} | _likeliest(logp_V, body["logprobs"]) for logp_V, token in places]

    async def _send(
        self, writer: asyncio.StreamWriter, status: int, body: Any, fields: Mapping[str, str] | None = None
    ) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [f"{name}: {value}" for name, value in {"content-length": str(len(data)), **(fields or {})}.items()]
        writer.write("\r\n".join([f"HTTP/1.1 {status} said", *lines, "", ""]).encode() + data)
        await writer.drain()


class SleepsAtOnce:
    """Stands for the module `asyncio`, and is its own event loop's clock, which moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def get_running_loop(self) -> "SleepsAtOnce":
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def _likeliest(logp_V: torch.Tensor, count: int) -> dict[int, float]:
    values, ids = logp_V.topk(min(count, len(logp_V)))
    return dict(zip(ids.tolist(), values.tolist(), strict=True))


def _choice(tokens: Sequence[int], tops: Sequence[Mapping[int, float]]) -> dict[str, Any]:
    return {
        "text": "?",
        "finish_reason": None,
        "token_ids": list(tokens),
        "logprobs": {
            "tokens": [f"token_id:{token}" for token in tokens],
            "token_logprobs": [top[token] for token, top in zip(tokens, tops, strict=True)],
            "top_logprobs": [{f"token_id:{token}": value for token, value in top.items()} for top in tops],
        },
    }
