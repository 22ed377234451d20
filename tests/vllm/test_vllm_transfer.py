"""Measures of `arpo bench gpu` against the real vLLM: sleep, its own weight transfer, and the probe that watches both."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from vllm_toys import MARKS

from algorithms.bench.gpu import engines
from algorithms.bench.gpu.measures import Broken, Setting
from algorithms.bench.gpu.options import vllm_options
from algorithms.bench.gpu.weights import started, updated, woken
from algorithms.policies.transfer_sync import ThroughTransfer, _Source
from algorithms.policies.vllm import VLLMPolicy

pytestmark = MARKS

TOY = Setting("cpu", "toy")


def by_transfer(policy: VLLMPolicy) -> ThroughTransfer:
    from transfer_toys import Info

    return ThroughTransfer(policy, lambda: Info(rank=0, packed=True))


def options_of_transfer() -> dict[str, Any]:
    from transfer_toys import BACKEND

    more = {"weight_transfer_config": {"backend": BACKEND}, "worker_extension_cls": "transfer_toys.Extension"}
    return vllm_options(TOY, eager=True, **more)


def test_generation_is_measured_beside_the_engines_own() -> None:
    found = engines.vllm(TOY)
    assert min(found["tokens_per_second"], found["bare_tokens_per_second"]) > 0.0


def test_weights_arrive_by_vllms_own_transfer_and_what_is_missing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ThroughTransfer.update

    async def no_head(self: ThroughTransfer, weights: Any) -> None:
        await whole(self, {name: weight for name, weight in weights.items() if name != "lm_head.weight"})

    async def nothing(self: ThroughTransfer, weights: Any) -> None:
        """Reports an update without making one."""

    def broken(self: _Source) -> Iterator[Any]:
        yield next(iter(self.weights.items()))
        raise RuntimeError("a weight cannot be read")

    async def run() -> None:
        async with started(TOY, sync=by_transfer, **options_of_transfer()) as (policy, learner):
            for measure in (updated, woken):  # it cannot sleep on a CPU, but all else happens
                found = await measure(policy, learner)
                assert found["nats_apart"] <= found["nats_allowed"]
            for fault, said in ((nothing, "it still draws with those of"), (no_head, "a part of them did not arrive")):
                with monkeypatch.context() as patched:
                    patched.setattr(ThroughTransfer, "update", fault)
                    with pytest.raises(Broken, match=said):
                        await updated(policy, learner)
                await policy.load(learner.weights(), 9)
            with monkeypatch.context() as patched:
                patched.setattr(_Source, "__iter__", broken)
                with pytest.raises(RuntimeError, match="a weight cannot be read"):
                    await policy.load(learner.weights(), 10)
            await policy.load(learner.weights(), 11)  # an update that failed is over

    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    asyncio.run(run())
