"""Workers that are watched while they work."""

import asyncio
from typing import Any

from cluster_toys import InProcess

from algorithms.cluster.launcher import watched
from algorithms.cluster.worker import Answer


class Finishing(InProcess):
    """Its workers finish while somebody waits for their next sign of life, of which there is none any more."""

    async def health(self, worker: Any, within: float) -> bool:
        self.finish.set()
        await asyncio.Event().wait()
        return False

    async def call(self, worker: Any, method: str, *arguments: Any) -> Answer:
        self.finish = asyncio.Event()
        await self.finish.wait()
        return Answer("done")

    def kill(self, worker: Any) -> None:
        raise AssertionError("it has finished")


def test_a_worker_that_finishes_while_it_is_looked_at_is_not_waited_for() -> None:
    found = watched(Finishing(iter([])), None, "grow", look=0.01, silence=60.0, longest=60.0, tell=lambda seconds: None)
    assert asyncio.run(asyncio.wait_for(found, 30.0)) == "done"
