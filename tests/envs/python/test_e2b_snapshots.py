"""A snapshot of an environment parks its sandbox in the cloud."""

from conftest import Cloud
from e2b_server import E2BServer
from test_e2b import Sums, exact

import arpo_envs
from arpo_envs.core import ToolEnv


def test_a_snapshot_of_an_environment_keeps_no_machine_running(server: E2BServer) -> None:
    env = ToolEnv(tasks=Sums(), tools=(Cloud(server).tool(),), reward=exact)
    env.reset(seed=0)
    env.step("<python>x = 41</python>")
    with arpo_envs.snapshot(env) as parked:
        assert (len(server.sandboxes), len(server.snapshots)) == (1, 1)
        twin = parked.spawn()
        env.step("<python>x = 0</python>")
        assert "42" in twin.step("<python>x + 1</python>")[0]
        arpo_envs.restore(env, parked)
        assert "42" in env.step("<python>x + 1</python>")[0]
    twin.close()
    env.close()
    assert (len(server.sandboxes), len(server.snapshots)) == (0, 0)
