"""`arpo train` and `arpo eval` of a chat model: a tiny Llama with Llama 3.1's template, in both dialects."""

import json
from pathlib import Path

import pytest
import torch
from chat_toys import FAMILIES, chat_tokenizer
from model_toys import tiny_model

from algorithms.checkpoint import save_policy
from algorithms.cli import main
from algorithms.cli.environments import env_maker
from algorithms.cli.policy_source import policy_folder
from algorithms.rendering.chat import ChatRenderer
from algorithms.tracking.trees import read_trees
from arpo_envs.errors import ConfigError

CALL = {"json": '{"name": "search", "parameters": {"query": "Köln"}}<|eot_id|>', "tags": "<search>Köln</search>"}
ANSWER = {"json": "Euro<|eot_id|>", "tags": "<answer>Euro</answer>"}
SIZES = ["--action-tokens", "40", "--context-length", "1536", "--prompts", "2", "--rollouts", "6", "--eval-questions", "2"]
SIZE = {"max_position_embeddings": 1536, "initializer_range": 0.05, "hidden_size": 64, "num_hidden_layers": 1}

pytestmark = pytest.mark.usefixtures("wide_terminal")


def said(capsys) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def episode(renderer: ChatRenderer, dialect: str, seed: int) -> tuple[list[int], list[int]]:
    """Returns tokens and labels of an episode with one call."""
    env = env_maker("ARPO/SearchMini-v0", {"dialect": dialect, "cities_per_country": 4})()
    question, _ = env.reset(seed=seed)
    prompt = renderer.start(env.unwrapped.instructions, question, env.unwrapped.tool_specs)
    call, answer = (renderer.tokenizer.encode(text[dialect], add_special_tokens=False) for text in (CALL, ANSWER))
    observation, *_ = env.step(renderer.action(renderer.text(call)))
    seen = renderer.observation(observation, 1000, ended=call[-1] in renderer.stop_tokens).tokens
    env.close()
    tokens = [*prompt, *call, *seen, *answer]
    labels = [-100] * len(prompt) + call + [-100] * len(seen) + answer
    return tokens, labels


@pytest.fixture(scope="module", params=["json", pytest.param("tags", marks=pytest.mark.slow)])
def chat_policy(request, tmp_path_factory) -> tuple[str, Path]:
    """Returns a dialect and the folder of a model that searches for Köln, most of the time, and then answers with the Euro."""
    tokenizer = chat_tokenizer(FAMILIES["llama3.1"])
    renderer = ChatRenderer(tokenizer, dialect=request.param)
    model = tiny_model(vocabulary=len(tokenizer), **SIZE).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    episodes = [episode(renderer, request.param, seed) for seed in range(4)]
    for step in range(40 if request.param == "json" else 30):  # well enough to call, not well enough to be always right
        tokens, labels = (torch.tensor([part]) for part in episodes[step % 4])
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"])
    folder = tmp_path_factory.mktemp("chat")
    save_policy(folder, model, tokenizer)
    return request.param, folder


def test_a_chat_model_trains_in_both_dialects(chat_policy, tmp_path):
    dialect, folder = chat_policy
    run = tmp_path / "run"
    words = ["train", "--policy", str(folder), "--output", str(run), "--steps", "2", "--env-args", f"dialect={dialect}"]
    assert main([*words, "cities_per_country=4", *SIZES, "--probe", "4", "--learning-rate", "1e-3"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    assert max(line["gradient_norm"] for line in lines) > 0, "some paths earned more than others"
    nodes = [node for tree in read_trees(run / "trees.jsonl.zst") for node in tree.nodes]
    calls = [node for node in nodes if node.tool == "search"]
    assert calls, "calls in the model's own format reach the environment"
    wanted = '"parameters": {' if dialect == "json" else "<search>"
    assert all(wanted in node.text for node in calls), "the tree keeps what the model wrote"
    seen = [node.text for node in nodes if node.kind == "observation"]
    assert seen
    assert all(text.startswith("<tool_response>" if dialect == "json" else "<result>") for text in seen)
    assert (run / "policy" / "tokenizer_config.json").is_file()


def test_a_chat_model_is_evaluated_by_its_folder(chat_policy, tmp_path):
    dialect, folder = chat_policy
    file = tmp_path / "eval.json"
    words = ["eval", "--policy", str(folder), "--questions", "2", "--json", str(file), "--args", "split=test"]
    assert main([*words, f"dialect={dialect}", "cities_per_country=4"]) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["questions"] == 2


# --- what --policy may name ----------------------------------------------------------------------------------


@pytest.fixture
def empty_hub(monkeypatch, tmp_path) -> Path:
    """Returns an empty cache of the hub, which is not asked itself."""
    import huggingface_hub.constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def cached(cache: Path, *files: str) -> None:
    """Puts a model with these files into a cache, as the hub's own client lays it out."""
    folder = cache / "models--some--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123", encoding="utf-8")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    for file in files:
        (folder / "snapshots" / "abc123" / file).write_text("{}", encoding="utf-8")


def test_a_hub_id_is_a_folder_of_the_cache(empty_hub):
    cached(empty_hub, "config.json", "model.safetensors")
    assert policy_folder("some/model") == empty_hub / "models--some--model" / "snapshots" / "abc123"


def test_a_hub_id_without_weights_is_refused_when_they_are_wanted(empty_hub):
    cached(empty_hub, "config.json")
    assert policy_folder("some/model", weights=False).is_dir()
    with pytest.raises(ConfigError, match="no weights as safetensors"):
        policy_folder("some/model")


def test_the_folder_of_a_run_stands_for_the_policy_in_it(tmp_path):
    run, model = tmp_path / "run", tmp_path / "model"
    for folder in (run, run / "policy", model, model / "policy"):
        folder.mkdir()
    for file in (run / "config.json", run / "policy" / "config.json", model / "config.json"):
        file.write_text("{}", encoding="utf-8")
    assert policy_folder(str(run)) == run / "policy"
    assert policy_folder(str(model)) == model, "a model may have a folder of that name, but no model in it"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("some/model", "hub cannot be reached"),
        ("http://127.0.0.1:9/v1", "No server answers at http://127.0.0.1:9"),
        ("nowhere", "a model folder"),
        ("a/b/c", "not a model folder"),
        ("../no model", "not a model folder"),
    ],
)
@pytest.mark.parametrize("command", ["train --dry-run", "eval"])
def test_a_policy_that_is_nowhere_is_explained(command, name, hint, empty_hub, capsys):
    assert main([*command.split(), "--policy", name]) == 2
    assert hint in said(capsys)


def test_a_template_that_rewrites_history_is_refused_before_training_and_evaluated(tmp_path, capsys):
    tokenizer = chat_tokenizer(FAMILIES["r1-distill"])
    folder = tmp_path / "policy"
    save_policy(folder, tiny_model(vocabulary=len(tokenizer), max_position_embeddings=1536), tokenizer)
    json_dialect = ["dialect=json", "cities_per_country=4"]
    assert main(["train", "--dry-run", "--policy", str(folder), "--env-args", *json_dialect]) == 2
    assert "The chat template rewrites earlier turns: a turn that thinks" in said(capsys)
    assert main(["eval", "--policy", str(folder), "--questions", "1", "--args", "split=test", *json_dialect]) == 0


def test_a_folder_without_a_tokenizer_is_explained(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    assert main(["train", "--dry-run", "--policy", str(tmp_path)]) == 2
    assert "has no tokenizer that transformers can read" in said(capsys)
