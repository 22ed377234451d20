"""The files in docs/clusters fit each other, this project's options and Ray's, and do what the page says."""

import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tyro

from algorithms.cli import plan
from algorithms.cli.config import OPTIONS, TrainConfig
from algorithms.cli.flat import parsed
from algorithms.cli.groups import GROUPS
from algorithms.cli.placement import Placement
from algorithms.cli.plan import PlanConfig
from algorithms.cluster.planning import Setting, Tools, predict

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "docs" / "clusters"
SLURM = (CLUSTERS / "slurm.sh").read_text(encoding="utf-8")
DOCUMENTS = {one["kind"]: one for one in yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text(encoding="utf-8"))}
SCRIPT = DOCUMENTS["Job"]["spec"]["template"]["spec"]["containers"][0]["args"][0]
GROUP = DOCUMENTS["RayCluster"]["spec"]["workerGroupSpecs"][0]
TEMPLATES = {
    "head": DOCUMENTS["RayCluster"]["spec"]["headGroupSpec"]["template"],
    "worker": GROUP["template"],
    "job": DOCUMENTS["Job"]["spec"]["template"],
}


def commands(script: str, program: str) -> list[list[str]]:
    """Returns the words behind each call of a program in a script, variables as they stand there."""
    lines = re.sub(r"\$\(\(.*?\)\)", "8", re.sub(r"\\\n|\n(?=    --)", " ", script)).splitlines()
    found = [re.search(rf"(?<![\w-]){program} [^)&;#]*", line) for line in lines if not line.lstrip().startswith("#")]
    return [shlex.split(one[0])[program.count(" ") + 1 :] for one in found if one]


def trained(words: list[str]) -> TrainConfig:
    given = parsed(words, OPTIONS, GROUPS, prog="arpo train", description="")
    return TrainConfig.of(given)


# --- Kubernetes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_pod_has_few_rights_the_token_and_the_runs(name: str) -> None:
    pod = TEMPLATES[name]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    environment = {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN"] == {"secretKeyRef": {"name": "arpo-ray-token", "key": "auth_token"}}
    assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
    assert {"name": "runs", "persistentVolumeClaim": {"claimName": "arpo-runs"}} in pod["volumes"]
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_all_nodes_have_one_image_and_the_version_of_ray_that_is_tested() -> None:
    assert len({template["spec"]["containers"][0]["image"] for template in TEMPLATES.values()}) == 1
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert DOCUMENTS["RayCluster"]["spec"]["rayVersion"] == pinned[1]


def test_nothing_is_open_to_others() -> None:
    cluster, policy = DOCUMENTS["RayCluster"], DOCUMENTS["NetworkPolicy"]["spec"]
    assert cluster["apiVersion"] == "ray.io/v1"
    head = cluster["spec"]["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert [port["containerPort"] for port in TEMPLATES["head"]["spec"]["containers"][0]["ports"]] == [6379]
    labels = policy["podSelector"]["matchLabels"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": labels}}]}]
    assert all(labels.items() <= template["metadata"]["labels"].items() for template in TEMPLATES.values())


def test_the_job_starts_as_many_engines_as_there_are_gpus_for_them_on_all_nodes() -> None:
    config = trained(commands(SCRIPT, "arpo train")[1])
    gpus = int(TEMPLATES["worker"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert config.placement == Placement("ray", GROUP["replicas"] * gpus)
    assert (GROUP["minReplicas"], GROUP["maxReplicas"]) == (GROUP["replicas"],) * 2
    assert commands(SCRIPT, "arpo doctor") == [["--cluster", "--nodes", str(GROUP["replicas"] + 2)]]
    assert config.output is not None
    assert config.output.is_relative_to("/runs")
    environment = {one["name"]: one.get("value") for one in TEMPLATES["job"]["spec"]["containers"][0]["env"]}
    assert environment["RAY_ADDRESS"] == f"{DOCUMENTS['RayCluster']['metadata']['name']}-head-svc:6379"


# --- the table of numbers --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("row", range(5))
def test_the_table_of_numbers_is_what_the_plan_says(row: int) -> None:
    page = (ROOT / "docs" / "many-machines.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+).*\| ([\d.]+) s \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    told = re.findall(r"^--prompts .*$", page, re.MULTILINE)
    assert len(rows) == len(told) == 5
    gpus, prompts, engines, learners, seconds, tokens, each = (one.replace(",", "") for one in rows[row])
    machine = ROOT / "docs" / "measurements" / "gpu-machine.json"
    config = tyro.cli(PlanConfig, args=["--machine", str(machine), *told[row].split()])
    work, layout, tools = plan._workload(config, []), plan._layout(config, None), Tools(0.5, config.tool_spread)
    assert (config.prompts, layout.engines, layout.learners) == (int(prompts), int(engines), int(learners))
    step = predict(Setting(plan._machine(config, [])[0], work, layout, tools, config.seed, steps=1))
    assert layout.devices == int(gpus)
    assert step.seconds == pytest.approx(float(seconds), rel=0.02)
    assert step.tokens / step.seconds == pytest.approx(int(tokens), rel=0.02)
    assert int(each) == round(int(tokens) / int(gpus))


# --- options and shells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [SLURM, SCRIPT], ids=["slurm", "kubernetes"])
def test_a_shell_reads_the_script(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("script", [SLURM, SCRIPT], ids=["slurm", "kubernetes"])
def test_its_options_exist(script: str) -> None:
    options = {option for words in commands(script, "ray start") for option in words if option.startswith("--")}
    scripts = pytest.importorskip("ray.scripts.scripts")
    known = {option for parameter in scripts.start.params for option in parameter.opts}
    assert {option.partition("=")[0] for option in options} - known == set()
    assert options
    resume, fresh = commands(script, "arpo train")
    assert resume[0] == "--resume"
    config = trained(fresh)
    assert (config.placement.cluster, config.device, config.engine) == ("ray", "cuda", "vllm")


# --- Slurm -----------------------------------------------------------------------------------------------------

STUBS = {
    "srun": 'echo "srun $*" >> "$LOG"; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": 'echo "ray $* [$CUDA_VISIBLE_DEVICES]" >> "$LOG"; exec sleep 60',
    "scontrol": 'echo "scontrol $*" >> "$LOG"',
    "hostname": "echo 127.0.0.1",
    "arpo": """echo "arpo $* [$CUDA_VISIBLE_DEVICES]" >> "$LOG"
both() { grep -q -- "ray start --head" "$LOG" && grep -q "^srun .* ray start" "$LOG"; }
if [[ $1 == doctor ]]; then until both; do sleep 0.02; done; fi
if [[ $1 == train && -n "${HANGS:-}" ]]; then trap 'kill $!; exit 143' TERM; echo listens >> "$LOG"; sleep 60 & wait; fi
exit "${STATUS:-0}"
""",
}


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """Gives the environment of a job of two nodes, with programs that write down how they are called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in STUBS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    own = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8", "SLURM_NNODES": "2"}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return own | {"SLURM_CPUS_PER_TASK": "64", "LOG": str(tmp_path / "log"), "CUDA_VISIBLE_DEVICES": "", "PATH": path}


def begun(job: dict[str, str], **more: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["bash", str(CLUSTERS / "slurm.sh")], env=job | more, start_new_session=True)


def ended(process: "subprocess.Popen[bytes]") -> int:
    """Waits for the script, and ends what Slurm would end with it."""
    try:
        return process.wait(60.0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def log(job: dict[str, Any]) -> str:
    return Path(job["LOG"]).read_text(encoding="utf-8") if Path(job["LOG"]).exists() else ""


def test_a_job_trains_with_an_engine_on_every_gpu_but_the_learners(job: dict[str, str]) -> None:
    assert ended(begun(job)) == 0
    assert "--head" in log(job)
    assert "--num-gpus=7 --include-dashboard=false --block [1,2,3,4,5,6,7]" in log(job)
    assert "srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --exclude=127.0.0.1 ray start --address=127.0.0.1:6379" in log(job)
    assert "arpo doctor --cluster --nodes 2 []" in log(job)
    assert re.search(r"^arpo train --output \S+/runs/arpo-7 --cluster ray --engines 15 .* \[0\]$", log(job), re.MULTILINE)
    assert "scontrol" not in log(job)


def test_a_job_whose_time_is_over_saves_is_queued_again_and_goes_on(job: dict[str, str], tmp_path: Path) -> None:
    process = begun(job, HANGS="yes")
    while "listens" not in log(job):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert ended(process) == 128 + signal.SIGTERM
    assert "scontrol requeue 7" in log(job)

    config = tmp_path / "runs" / "arpo-7" / "config.json"
    config.parent.mkdir(parents=True)
    config.touch()
    assert ended(begun(job)) == 0
    assert f"arpo train --resume {config.parent} [0]" in log(job)


def test_a_job_that_fails_is_not_queued_again(job: dict[str, str]) -> None:
    assert ended(begun(job, STATUS="1")) == 1
    assert "arpo doctor" in log(job)
    assert "arpo train" not in log(job), "the doctor has refused"
    assert "scontrol" not in log(job)
