"""Nobody draws with half of the new weights: what an update may do wrong, and engines that die in the middle of one."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_toys import byte_tokenizer, tiny_model
from rounding import nats
from server_toys import LoopbackServer
from test_openai_policy import CONTEXT, folder, logprob_error, serve, within  # noqa: F401  # fixtures

from algorithms.policies import Sampling
from algorithms.policies.local import LocalPolicy
from algorithms.policies.openai import OpenAIPolicy
from algorithms.policies.weight_sync import Delivery, HalfUpdated
from arpo_envs import ConfigError

FAULTS = {"init": RuntimeError, "start": RuntimeError, "refused": ConfigError, "update": OSError, "finish": OSError}
"""Where an update may break off, and what is raised there."""


class Engine:
    """Holds two tensors, which an update replaces one after the other; it is a transport at the same time."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.held = [0, 0]
        self.fault = ""

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if self.fault == name:
            raise FAULTS[name]

    async def init(self) -> None:
        self._step("init")

    async def start(self) -> None:
        self._step("start")

    async def update(self, weights: Mapping[str, Any]) -> None:
        if self.fault == "refused":
            raise ConfigError("not mine")
        self.held[0] = weights["one"]
        await asyncio.sleep(0.0)
        self._step("update")
        self.held[1] = weights["other"]

    async def finish(self, version: int) -> None:
        self._step("finish")


@given(st.lists(st.sampled_from(["", *FAULTS]), max_size=6))
def test_whatever_breaks_off_what_is_drawn_from_is_whole(faults: list[str]) -> None:
    async def run() -> None:
        engine = Engine()
        delivery = Delivery(engine)
        whole: int | None = 0

        async def draw() -> list[int]:
            await delivery.whole()
            return list(engine.held)

        for version, fault in enumerate(faults, 1):
            engine.fault = fault
            sending = asyncio.create_task(delivery.send({"one": version, "other": version}, version))
            await asyncio.sleep(0.0)
            drawn = (await asyncio.gather(draw(), return_exceptions=True))[0]  # asked in the middle
            await asyncio.wait([sending])
            if sending.exception() is None:
                whole = version
            elif fault in ("update", "finish"):
                whole = None
            assert drawn == [whole] * 2 if whole is not None else isinstance(drawn, HalfUpdated)
        assert engine.steps.count("init") <= 1 + faults.count("init")

    asyncio.run(run())


def test_the_four_steps_in_their_order() -> None:
    engine = Engine()
    delivery = Delivery(engine)
    for version in (1, 2):
        asyncio.run(delivery.send({"one": version, "other": version}, version))
    assert engine.steps == ["init", *["start", "update", "finish"] * 2]


def test_an_engine_whose_update_breaks_off_draws_nothing_until_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    new = tiny_model(seed=5).state_dict()

    async def run() -> None:
        policy = LocalPolicy(tiny_model(), byte_tokenizer(), context_length=64)

        async def draw() -> Any:
            await policy.forget()
            return await policy.generate(CONTEXT[:8], Sampling(4), seed=1)

        old = await draw()
        with pytest.raises(ConfigError, match=r"lm_head\.weight is missing \(1 in all\)"):
            await policy.load({name: tensor for name, tensor in new.items() if name != "lm_head.weight"}, 1)
        with pytest.raises(ConfigError, match="strange is not one of its own"):
            await policy.load({**new, "strange": torch.zeros(1)}, 1)
        assert await draw() == old, "nothing has changed"

        with pytest.raises(RuntimeError, match="size mismatch"):
            await policy.load({**new, "lm_head.weight": torch.zeros(1)}, 1)
        for _ in range(2):
            with pytest.raises(HalfUpdated, match="weights of step 1 broke off"):
                await draw()
        await policy.load(new, 2)
        assert (await draw()).version == 2
        await policy.close()

    asyncio.run(run())


def test_a_server_that_dies_in_the_middle_of_an_update_comes_back_with_the_new_weights(
    serve: Any,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = serve(), serve()
    new, reload = tiny_model(seed=5), LoopbackServer._reload

    async def dies(server: LoopbackServer, body: Mapping[str, Any]) -> tuple[int, Any]:
        if server is not other:
            return await reload(server, body)
        other.loads.append("half")
        other.weights()["lm_head.weight"].copy_(new.state_dict()["lm_head.weight"])
        other._over.set()
        raise ConnectionError

    async def work(policy: OpenAIPolicy) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(LoopbackServer, "_reload", dies)
            await policy.load(new.state_dict(), 1)
        other.kill()
        back = serve(port=other.port)
        contexts = [[i, *CONTEXT] for i in range(16)]
        for _ in range(100):
            answers = await asyncio.gather(*(policy.generate(context, Sampling(4), seed=1) for context in contexts))
            assert {drawn.version for drawn in answers} == {1}
            assert max(map(logprob_error, [new] * 16, contexts, answers)) <= nats(new)
            if back.requests:
                break
            await asyncio.sleep(0.1)
        assert back.requests, "it is used again"
        assert back.loads == one.loads
        assert other.loads == ["half"]
        assert set(policy.engines()) == {one.url, back.url}

    within(work, one, other, model_folder=folder, weights_folder=tmp_path)


def test_where_no_server_took_the_weights_nobody_draws_from_the_old_ones(serve: Any, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    server = serve(sees=tmp_path / "elsewhere")

    async def work(policy: OpenAIPolicy) -> None:
        with pytest.raises(Exception, match="No replica took the new weights"):
            await policy.load(tiny_model(seed=5).state_dict(), 1)
        with pytest.raises(HalfUpdated):
            await policy.generate(CONTEXT, Sampling(2), seed=1)
        assert policy.engines() == {}

    within(work, server, model_folder=folder, weights_folder=tmp_path / "here")
