"""Requests to a server that are cancelled at any moment leave no connection open."""

import asyncio
import gc
import warnings

import pytest
from model_toys import byte_tokenizer, tiny_model
from server_toys import LoopbackServer

from algorithms.policies import Sampling, openai
from algorithms.policies.openai import OpenAIPolicy

IDLE, MOMENTS = 4, 20


async def cancelled(server: LoopbackServer, moment: int) -> None:
    """Lets connections grow too old, and cancels the request that has to close them after some turns of the event loop."""
    policy = OpenAIPolicy([server.url], byte_tokenizer(), vocabulary_size=265)
    await asyncio.gather(*(policy.generate([1, 2], Sampling(1), seed=seed) for seed in range(IDLE)))
    await asyncio.sleep(0.1)
    drawing = asyncio.create_task(policy.generate([1, 2], Sampling(1), seed=IDLE))
    for _ in range(moment):
        await asyncio.sleep(0)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    await policy.close()


def test_a_request_that_is_cancelled_while_it_closes_old_connections_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "_KEEP_ALIVE_SECONDS", 0.05)
    with LoopbackServer(tiny_model(), byte_tokenizer()) as server, warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        for moment in range(MOMENTS):
            asyncio.run(cancelled(server, moment))
        gc.collect()
    assert [str(one.message) for one in found] == []
