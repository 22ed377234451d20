"""`arpo eval` and `arpo train` with a policy behind a URL, against a server on loopback that is not vLLM."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rounding import kl, nats
from server_toys import LoopbackServer

from algorithms.cli import main
from algorithms.models.loading import load_policy

TINY = ["cities_per_country=4"]
SMALL = ["--env-args", *TINY, "--prompts", "2", "--rollouts", "4", "--eval-questions", "2", "--mode", "free"]

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.fixture
def server(tiny_policy: Path) -> Iterator[LoopbackServer]:
    with LoopbackServer(*load_policy(tiny_policy), root=str(tiny_policy), context_length=512) as started:
        yield started


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_a_server_is_evaluated(server: LoopbackServer, tmp_path: Path) -> None:
    file = tmp_path / "eval.json"
    words = ["eval", "--policy", server.url, "--args", *TINY, "split=test", "--questions", "3", "--json", str(file)]
    assert main(words) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert sum(count for name, count in record.items() if name.startswith("ended_")) == 3
    assert record.get("ended_policy_fault", 0) == 0
    assert {request["temperature"] for request in server.requests} == {1.0}
    assert server.loads == [], "an evaluation leaves the server's weights alone"


def test_a_server_is_trained_and_has_the_learners_weights_after_each_step(
    server: LoopbackServer, tiny_policy: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["train", "--policy", server.url, "--output", str(run), "--steps", "2", *SMALL, "--prompts", "6"]
    assert main(words) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    bound = kl(nats(load_policy(tiny_policy)[0]))
    measured = [line["mismatch_kl"] for line in lines if "mismatch_kl" in line]  # where rewards are all equal, nothing is
    assert measured
    assert all(abs(mismatch) <= bound for mismatch in measured)
    loads = [name.rpartition("-")[0] for name in server.loads]
    assert loads == [f"update-{i:06d}" for i in range(3 + 2)], "two more before the first step: others, to compare, and its own"
    assert list((run / "weights").iterdir()) == []
    learned, served = load_policy(run / "policy")[0].state_dict(), server.weights()
    assert all(torch.equal(learned[name], tensor) for name, tensor in served.items())
    first = load_policy(tiny_policy)[0].state_dict()
    assert any(not torch.equal(first[name], tensor) for name, tensor in served.items())
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["limits"]["action_tokens"] == 16, "what the server serves says how large it is"


def test_a_server_that_takes_no_weights_is_not_trained(server: LoopbackServer, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    server.dev = False
    run = tmp_path / "run"
    assert main(["train", "--policy", server.url, "--output", str(run), *SMALL]) == 2
    assert "VLLM_SERVER_DEV_MODE=1" in said(capsys)
    assert not run.exists()
    assert server.requests == []


def test_a_model_that_has_another_name_here_is_named(server: LoopbackServer, tiny_policy: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    server.root = "far/away"
    words = ["eval", "--policy", server.url, "--args", *TINY, "split=test", "--questions", "1"]
    assert main([*words[:2], f"{server.url}/v1,http://127.0.0.1:9", *words[3:], "--model-folder", str(tiny_policy)]) == 0
    server.root = str(tiny_policy / "nowhere")
    assert main(words) == 2
    assert "--model-folder" in said(capsys)
    with pytest.raises(SystemExit):
        main(["eval", "--policy", str(tiny_policy), "--model-folder", str(tiny_policy)])
    assert "belongs to a policy behind a URL" in said(capsys)
