"""ARPO trains a tiny model in games of other libraries, with executed and replayed moves counted apart."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from model_toys import byte_tokenizer, tiny_model

from algorithms.checkpoint import save_policy
from algorithms.cli import main
from algorithms.cli.environments import env_maker
from algorithms.rendering.text import TextRenderer

SIZES = ["--action-tokens", "28", "--context-length", "1536", "--prompts", "2", "--rollouts", "6", "--eval-questions", "2"]
GAMES = {
    "textarena": (
        "arpo_envs.hubs.textarena:TextArena/Game-v0",
        {"game": "GuessTheNumber-v0"},
        [["[9]", "[4]"], ["[14]", "[17]"]],
    ),
    "textarena, one of two seats": (
        "arpo_envs.hubs.textarena_seat:TextArena/Seat-v0",
        {"game": "Nim-v0", "other": "hub_toys:takes_one", "piles": [2, 2]},
        [["[0 2]", "[1 1]"], ["[0 1]", "[1 1]"]],  # wins, loses
    ),
    "textworld": (
        "arpo_envs.hubs.textworld:TextWorld/Game-v0",
        {"rooms": 1, "objects": 2, "quest_length": 1, "games": 1},
        [["drop legume", "look"], ["inventory", "drop textbook"]],  # the last command wins
    ),
}
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wide_terminal")]


def schooled(folder: Path, env_id: str, options: dict[str, Any], scripts: Sequence[Sequence[str]]) -> Path:
    """Writes the folder of a model that has seen these moves often enough to write similar ones."""
    tokenizer = byte_tokenizer()
    renderer = TextRenderer(tokenizer)
    model = tiny_model(vocabulary=len(tokenizer), max_position_embeddings=1536, hidden_size=64).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(60):
        env = env_maker(env_id, options)()
        task, _ = env.reset(seed=step % 2)
        tokens = list(renderer.start(env.get_wrapper_attr("instructions"), task, ()))
        labels = [-100] * len(tokens)
        for move in scripts[step % len(scripts)]:
            written = renderer.written(move)
            seen = renderer.observation(env.step(move)[0], 1000, ended=True).tokens
            tokens += [*written, *seen]
            labels += [*written, *[-100] * len(seen)]
        loss = model(input_ids=torch.tensor([tokens]), labels=torch.tensor([labels])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        env.close()
    save_policy(folder, model, tokenizer)
    return folder


@pytest.mark.parametrize("hub", list(GAMES))
def test_arpo_trains_and_counts_executed_and_replayed_moves_apart(hub: str, tmp_path: Path) -> None:
    if find_spec(library := hub.partition(",")[0]) is None:
        pytest.skip(f"{library} is not installed")
    env_id, options, scripts = GAMES[hub]
    policy = schooled(tmp_path / "policy", env_id, options, scripts)
    given = [f"{name}={value}" for name, value in options.items()]
    counts = {}
    for fork in ("auto", "replay"):
        words = ["train", "--policy", str(policy), "--env", env_id, "--env-args", *given, f"fork={fork}"]
        run = tmp_path / fork
        words += ["--train-args", "--eval-args", "--algorithm", "arpo", "--output", str(run), *SIZES]
        words += ["--steps", "3", "--probe", "2", "--learning-rate", "1e-3"]
        assert main(words) == 0
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        assert len(lines) == 3
        assert max(line["gradient_norm"] for line in lines) > 0
        counts[fork] = [
            [line[f"{how}_tool_calls_per_prompt"] for line in lines] for how in ("executed", "inherited", "replayed")
        ]
    assert counts["auto"][2] == [0, 0, 0]
    assert sum(counts["replay"][2]) > 0
    assert counts["auto"][:2] == counts["replay"][:2], "the same trees grow, whichever way they fork"
