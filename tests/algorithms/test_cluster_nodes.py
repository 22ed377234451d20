"""Every node of a cluster says what it has; versions that differ are found, and refused before anything starts."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli_train import exit_status, said
from test_cluster_ray import nodes
from test_cluster_runs import HERE, arguments

from algorithms.cli import doctor_cluster, node
from algorithms.cli.node import Gpus, Node, Room
from algorithms.cluster import NodeAnswer, ask_nodes, differences, joined, versions_here
from algorithms.cluster.versions import digest, require_same_versions
from arpo_envs import ConfigError
from arpo_envs.tools.python import IsolationReport, probe_isolation
from arpo_envs.tools.python.server.isolation.report import FILTER, from_rows

__all__ = ["nodes"]

PLANTED = "ARPO_TEST_PLANTED"

pytestmark = pytest.mark.usefixtures("wide_terminal")


# --- versions --------------------------------------------------------------------------------------------------

found_by_place = st.dictionaries(
    st.sampled_from("abcd"), st.fixed_dictionaries({name: st.sampled_from("12") for name in ("ray", "torch")}), min_size=1
)


@given(found_by_place)
def test_what_differs_is_listed_with_every_place_and_nothing_else_is(found: dict[str, dict[str, str]]) -> None:
    listed = differences(found)
    for name in ("ray", "torch"):
        assert (name in listed) == (len({own[name] for own in found.values()}) > 1)
    for name, places in listed.items():
        assert {place: number for number, names in places.items() for place in names} == {
            place: own[name] for place, own in found.items()
        }


def test_a_package_that_is_missing_differs_but_for_vllm() -> None:
    here = versions_here()
    for name, differs in (("transformers", True), ("vllm", False)):
        there = {place: number for place, number in here.items() if place != name}
        assert bool(differences({"here": here | {name: "1.0"}, "there": there})) == differs


def test_the_message_says_what_differs_and_where() -> None:
    with pytest.raises(ConfigError, match=r"torch is 2\.13\.0 on a and b, and 2\.12\.1 on c\. .* install the same everywhere"):
        require_same_versions({"a": {"torch": "2.13.0"}, "b": {"torch": "2.13.0+cu128"}, "c": {"torch": "2.12.1"}})


def test_the_digest_of_the_code_changes_with_a_file_its_name_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "arpo_envs" / "core.py"
    file.parent.mkdir()
    seen = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        file.write_text(text, encoding="utf-8")
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        seen.append(digest(tmp_path))
    file.rename(file.with_name("other.py"))
    assert seen[0] == seen[2]
    assert len({*seen, digest(tmp_path)}) == 3


# --- what a node has -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def isolation() -> IsolationReport:
    return probe_isolation()


def answer(isolation: IsolationReport, name: str = "10.0.0.1 (abcdef)", **changes: Any) -> NodeAnswer[Node]:
    usual = {"versions": versions_here(), "gpus": Gpus((("H200", 10**11),) * 2, "570.86.15")}
    rooms = {"shared_memory": Room(10**11, 10**11), "temporary": Room(10**12, 10**12)}
    resources = {"CPU": 8.0, "GPU": 2.0, "memory": 1e11, "object_store_memory": 1e10}
    return NodeAnswer(name, resources, Node(**({"isolation": isolation} | usual | rooms | changes)))


def test_a_node_that_has_everything_gives_no_reason_to_complain(isolation: IsolationReport) -> None:
    if isolation.missing_minimum() or isolation.unkept():
        pytest.skip("Python sessions do not start on this machine")
    answers = [answer(isolation)]
    assert doctor_cluster.faults_of(answers, versions_here()) == []
    assert doctor_cluster.advice_on(answers) == []


def test_each_fault_of_a_node_is_named(isolation: IsolationReport) -> None:
    gone = [row for row in isolation.rows() if row.name != FILTER]
    filterless = [row.__class__(row.name, False, row.what, "no filter") for row in isolation.rows() if row.name == FILTER]
    unconfined = answer(from_rows([*gone, *filterless], isolation.layers.landlock))
    older = answer(isolation, "10.0.0.2 (abcdef)", versions=versions_here() | {"torch": "2.0.0"})
    silent = NodeAnswer[Node]("10.0.0.3 (abcdef)", {}, None, "no answer within 120 seconds")
    faults = "\n".join(doctor_cluster.faults_of([unconfined, older, silent], versions_here()))
    assert "10.0.0.3 (abcdef): no answer within 120 seconds." in faults
    assert "and 2.0.0 on 10.0.0.2 (abcdef). Install the same everywhere." in faults
    assert "10.0.0.1 (abcdef): Python sessions cannot start: system call filter" in faults


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"shared_memory": Room(10**9, 10**9)}, "/dev/shm has 1.0 GB, less than Ray's store of 10.0 GB"),
        ({"shared_memory": None}, "/dev/shm has 0.0 GB, less than Ray's store of 10.0 GB"),
        ({"temporary": Room(10**12, 10**10)}, "only 10.0 GB of 1,000.0 GB are free for temporary files"),
        ({"gpus": Gpus()}, "Ray deals out 2 GPUs, and torch sees 0: install a build of torch for CUDA"),
        ({"gpus": Gpus(fault="torch fails there: no")}, "and torch sees 0: torch fails there: no"),
    ],
)
def test_what_should_be_better_is_said(isolation: IsolationReport, changes: dict[str, Any], advice: str) -> None:
    assert advice in "\n".join(doctor_cluster.advice_on([answer(isolation, **changes)]))


def test_gpus_are_those_that_torch_sees_though_ray_hides_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, types\n"
        "count = 0 if 'CUDA_VISIBLE_DEVICES' in os.environ else 2\n"
        "one = types.SimpleNamespace(name='H200', total_memory=5)\n"
        "cuda = types.SimpleNamespace(device_count=lambda: count, get_device_properties=lambda number: one)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert node._gpus().found == (("H200", 5), ("H200", 5))
    (tmp_path / "torch.py").write_text("raise ImportError('no library')", encoding="utf-8")
    assert node._gpus().fault == "torch fails there: ImportError: no library"


def test_the_table_has_a_row_for_each_node(
    isolation: IsolationReport, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    silent = NodeAnswer[Node]("10.0.0.3 (abcdef)", {"CPU": 4.0}, None, "no answer within 120 seconds")

    async def asked(expected: int) -> list[NodeAnswer[Node]]:
        return [answer(isolation), silent]

    monkeypatch.setattr(doctor_cluster, "_asked", asked)
    assert exit_status(["doctor", "--cluster", "--nodes", "4"]) == 1
    shown = said(capsys)
    assert "2 × H200, 100.0 GB, driver 570.86.15" in shown
    assert f"torch {versions_here()['torch']} 1 node and this process" in shown
    assert "This cluster is not ready: • Only 2 nodes of 4 joined the cluster in time. • 10.0.0.3 (abcdef): no answer" in shown


# --- a real cluster --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_nodes_answer_and_those_that_hang_fail_or_differ_are_named(
    nodes: Any, tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(["doctor", "--cluster", "--nodes", "3"]) == 0
    assert "3 nodes can take engines, with the versions of this process." in said(capsys)

    older = tmp_path / "packages" / "transformers-0.0.1.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 0.0.1\n", encoding="utf-8")
    small = {"num_cpus": 1, "object_store_memory": 100 << 20}
    path = os.pathsep.join([str(older.parent), *HERE])
    differs = nodes.add_node(**small, env_vars={"PYTHONPATH": path, PLANTED: "hangs"}).node_id[:6]
    nodes.add_node(**small, env_vars={PLANTED: "fails"})

    assert exit_status(["doctor", "--cluster"]) == 1
    wrong = f"transformers is {versions_here()['transformers']} on this process, "
    shown = said(capsys)
    assert wrong in shown
    assert f"and 0.0.1 on 127.0.0.1 ({differs})" in shown.replace(nodes.address.partition(":")[0], "127.0.0.1")
    assert exit_status(arguments(tiny_policy, tmp_path / "run", "--cluster", "ray")) == 2
    assert wrong in said(capsys)
    assert not (tmp_path / "run").exists()

    def planted() -> str:
        what = os.environ.get(PLANTED, "nothing")
        if what == "hangs":
            time.sleep(600.0)
        if what == "fails":
            raise OSError("no such disk")
        return what

    async def ask() -> list[NodeAnswer[str]]:
        async with joined():
            return await ask_nodes(planted, within=120.0)

    answers = asyncio.run(ask())
    said_so = ["OSError: no such disk", "no answer within 120 seconds", "nothing", "nothing", "nothing"]
    assert sorted(answer.fault or str(answer.value) for answer in answers) == said_so
    assert [answer.node[-7:-1] for answer in answers if "no answer" in answer.fault] == [differs]
