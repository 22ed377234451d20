"""New weights and servers that are away or that others can reach: what is being started again is waited for."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from model_toys import tiny_model
from test_openai_policy import _quiet, folder, serve, within  # noqa: F401  # fixtures

from algorithms.policies import Sampling
from algorithms.policies.openai import OpenAIPolicy
from algorithms.policies.served import Served, ServerFault
from algorithms.policies.server_sync import require_sync


def test_weights_wait_for_a_server_that_is_being_started_again(serve: Any, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    server = serve()

    async def work(policy: OpenAIPolicy) -> None:
        server.kill()
        loading = asyncio.create_task(policy.load(tiny_model(seed=5).state_dict(), 1))
        await asyncio.sleep(0.1)
        assert not loading.done()
        back = serve(port=server.port)
        await loading
        assert len(back.loads) == 1

    within(work, server, model_folder=folder, weights_folder=tmp_path)


@pytest.mark.timeout(60)
def test_a_replica_that_hangs_while_it_takes_weights_is_left_alone_until_it_has_them(
    serve: Any,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    one, other = serve(), serve()
    one.stalls = 1

    async def work(policy: OpenAIPolicy) -> None:
        await policy.load(tiny_model(seed=5).state_dict(), 1)
        assert policy.delivered.behind == (one.url,)
        await policy.generate([5, 6], Sampling(3), seed=1)
        assert not one.requests
        for replica in policy._replicas.all:
            replica.resting_until = 0.0
        for seed in range(200):  # it is examined meanwhile, and then has some of these prompts
            await policy.generate([5, seed], Sampling(3), seed=seed)
            if one.requests:
                break
        assert one.requests
        assert one.loads == other.loads

    within(work, one, other, model_folder=folder, weights_folder=tmp_path, update_timeout=1.0)


@pytest.mark.timeout(60)
def test_nobody_waits_at_later_updates_for_a_replica_that_hangs(
    serve: Any,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    one, other = serve(), serve()
    one.stalls = 1

    async def work(policy: OpenAIPolicy) -> None:
        (hanging,) = (replica for replica in policy._replicas.all if replica.url == one.url)
        hanging.fail(-1000.0)
        await policy.load(tiny_model(seed=5).state_dict(), 1)
        await policy.generate([5, 6], Sampling(3), seed=1)  # has the other one examined meanwhile
        while one.stalls:
            await asyncio.sleep(0.01)
        await policy.load(tiny_model(seed=6).state_dict(), 2)
        assert policy.delivered.behind == (one.url,)
        assert (len(one.loads), len(other.loads)) == (0, 2)

    within(work, one, other, model_folder=folder, weights_folder=tmp_path)


@pytest.mark.timeout(60)
def test_a_server_that_hangs_while_it_takes_weights_ends_the_run(serve: Any, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    server = serve()
    server.stalls = 1

    async def work(policy: OpenAIPolicy) -> None:
        with pytest.raises(ServerFault, match=r"No replica took the new weights.* did not take them within 0\.5 seconds"):
            await policy.load(tiny_model(seed=5).state_dict(), 1)

    within(work, server, model_folder=folder, weights_folder=tmp_path, update_timeout=0.5)


def test_a_server_that_others_may_reach_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(2):  # a rehearsal asks, and the run itself
        for hosts in ("localhost", "127.0.0.1", "[::1]"), ("localhost", "gpu-of-this-test", "10.0.0.7"):
            require_sync(Served(tuple(f"http://{host}:8000" for host in hosts), "model", None, None, syncs=True))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "http://gpu-of-this-test:8000, http://10.0.0.7:8000: a server in vLLM's development mode"
    )
    assert "tunnel" in record.getMessage()
