"""The configuration of a run: records in Python and in config.json, one flat list of options on the command line."""

import json
from dataclasses import asdict, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from algorithms.cli import main
from algorithms.cli.config import OPTIONS, TrainConfig
from algorithms.cli.parts import learner_config
from algorithms.learner import LearnerConfig, LoRA, Schedule
from algorithms.rollout import Limits
from arpo_envs import ConfigError

OLDER = Path(__file__).with_name("config_of_an_older_run.json")
"""As `arpo train --env-args hops=1 --algorithm tree_grpo --lora 8 --importance sequence …` wrote it when a configuration was
one flat record of 49 options."""
AS_READ = TrainConfig(
    env_args=("hops=1",),
    algorithm="tree_grpo",
    rollouts=6,
    roots=2,
    steps=80,
    learner=LearnerConfig(
        learning_rate=0.0005,
        adam_epsilon=1.0,
        gradient_clip=10.0,
        micro_batch_tokens=8192,
        importance="sequence",
        importance_cap=3.0,
        schedule=Schedule(warmup=10, decay="cosine"),
        epochs=2,
        minibatches=4,
        entropy_bonus=0.001,
        lora=LoRA(rank=8, alpha=16),
    ),
    limits=Limits(mode="free", temperature=0.9, action_tokens=24, idle_turns=0),
    context_length=512,
    threads=2,
    keep_trees=5,
)

pytestmark = pytest.mark.usefixtures("wide_terminal")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def written(run: Path, **changes: object) -> Path:
    """Returns the folder of an older run, after some changes to its settings; None removes one."""
    values = json.loads(OLDER.read_text(encoding="utf-8")) | changes
    run.mkdir()
    kept = {name: value for name, value in values.items() if name not in changes or value is not None}
    (run / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    return run


# --- files -----------------------------------------------------------------------------------------------


def test_a_run_of_an_earlier_version_is_read(tmp_path):
    run = written(tmp_path / "run")
    assert TrainConfig.is_in(run)
    assert TrainConfig.load(run) == replace(AS_READ, output=run, resume=run)


def test_what_is_saved_is_read_again_record_by_record(tmp_path):
    limits = replace(AS_READ.limits, tool_timeout=9.0, answer_reserve=8)
    learner = replace(AS_READ.learner, bad_steps=3, lora=LoRA(rank=8, alpha=8, targets=("q_proj", "v_proj")))
    options = {"policy": "http://localhost:1", "model_folder": "somewhere", "weights_folder": tmp_path / "weights"}
    config = replace(AS_READ, learner=learner, limits=limits, output=tmp_path, resume=tmp_path, **options)
    config.save(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (values["learner"]["lora"]["rank"], values["limits"]["mode"]) == (8, "free")
    assert TrainConfig.is_in(tmp_path)
    assert TrainConfig.load(tmp_path) == config


def test_attention_of_earlier_versions_is_read(tmp_path):
    """They wrote two words for what is now one; the flat file of the older run has them, too."""
    assert json.loads(OLDER.read_text(encoding="utf-8"))["attention"] == "as loaded"
    replace(AS_READ, output=tmp_path, resume=tmp_path).save(tmp_path)
    file = tmp_path / "config.json"
    text = file.read_text(encoding="utf-8")
    assert text.count('"as-loaded"') == 1
    file.write_text(text.replace("as-loaded", "as loaded"), encoding="utf-8")
    assert TrainConfig.load(tmp_path) == replace(AS_READ, output=tmp_path, resume=tmp_path)


def test_what_an_older_run_left_out_is_as_usual_for_its_policy(tmp_path):
    usual = TrainConfig.load(written(tmp_path / "small", adam_epsilon=None, weight_decay=None))
    assert (usual.learner.adam_epsilon, usual.learner.weight_decay) == (1.0, 0.0)
    large = written(tmp_path / "large", policy="some/model", adam_epsilon=None)
    assert TrainConfig.load(large).learner.adam_epsilon == 1e-8


def test_a_server_is_not_asked_what_an_older_run_says_itself(tmp_path):
    run = written(tmp_path / "run", policy="http://127.0.0.1:9")
    assert TrainConfig.load(run).learner == AS_READ.learner


@pytest.mark.parametrize("place", ["", "learner", "learner.schedule", "learner.lora", "limits"])
def test_settings_nobody_knows_are_refused_by_name(place, tmp_path):
    replace(AS_READ, output=tmp_path).save(tmp_path)
    file = tmp_path / "config.json"
    inner = values = json.loads(file.read_text(encoding="utf-8"))
    for step in place.split(".") if place else ():
        inner = inner[step]
    inner["colour"] = "red"
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"does not know: {place + '.' if place else ''}colour"):
        TrainConfig.load(tmp_path)


def test_settings_nobody_knows_are_refused_in_an_older_run_too(tmp_path):
    with pytest.raises(ConfigError, match=r"does not know: bad_steps, colour\."):
        TrainConfig.load(written(tmp_path / "run", colour="red", bad_steps=3))


# --- options ---------------------------------------------------------------------------------------------


def records(kind: type) -> set[type]:
    """Returns the dataclasses that one consists of, itself included."""
    inside = {part for hint in get_type_hints(kind).values() for part in (hint, *get_args(hint)) if is_dataclass(part)}
    return {kind}.union(*map(records, inside))


YOUNGER = {
    *("cold_start", "tools", "recording", "track_gated", "wandb_mode", "budget_calls", "eval_every", "verify_every"),
    *("idle_turns", "prompt", "examples", "cluster", "engines", "learners", "ahead", "wait_for_checkpoints"),
}
"""Options that there were none of when the older run was made."""


def test_a_new_run_says_which_versions_it_was_made_with(tmp_path):
    TrainConfig().resolved().save(tmp_path)
    versions = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["versions"]
    assert versions.keys() >= {"arpo-envs", "torch", "transformers", "numpy", "gymnasium"}
    assert versions == {name: version(name) for name in versions}


def test_the_options_are_what_they_were_and_each_is_declared_once():
    older = json.loads(OLDER.read_text(encoding="utf-8"))
    assert OPTIONS.keys() - YOUNGER == older.keys() - {"versions"}
    made = records(TrainConfig)
    assert {LearnerConfig, Schedule, LoRA, Limits} < made
    homes = {name: [kind for kind in made if name in {one.name for one in fields(kind)}] for name in OPTIONS}
    alike = {name: kinds for name, kinds in homes.items() if len(kinds) > 1}
    assert alike.keys() == {"steps", "threads"}, "of the run and of its schedule; of torch and of its tools"


@pytest.mark.parametrize(("policy", "rate", "tokens"), [("embedded", 5e-4, 16), ("some/model", 1e-6, 512)])
def test_what_is_left_out_is_as_usual_for_the_policy(policy, rate, tokens):
    asked = TrainConfig.of({"policy": policy, "warmup": 3, "lora": 4, "mode": "free", "context_length": None})
    assert asked.learner.learning_rate == rate
    assert asked.limits == Limits(mode="free", action_tokens=tokens)
    assert (asked.learner.schedule, asked.learner.lora) == (Schedule(warmup=3), LoRA(rank=4, alpha=8))
    left = TrainConfig(policy=policy).resolved()
    assert left.learner == replace(asked.learner, schedule=Schedule(), lora=None)
    assert left.limits == Limits(action_tokens=tokens, answer_reserve=min(64, tokens))


def test_python_says_what_no_option_says():
    config = TrainConfig(limits=Limits(tool_timeout=5.0), learner=LearnerConfig(bad_steps=2)).resolved()
    assert (config.limits, config.learner.bad_steps) == (Limits(tool_timeout=5.0), 2)
    assert learner_config(config).schedule.steps == config.steps


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"learner": LearnerConfig(minibatches=3), "prompts": 2}, "2 prompts cannot be divided into 3 minibatches"),
        ({"limits": Limits(temperature=0.0)}, "temperature must be above 0 for training"),
    ],
)
def test_records_that_do_not_fit_a_run_are_refused(config, told):
    with pytest.raises(ConfigError, match=told):
        TrainConfig(**config)


# --- runs of earlier versions ----------------------------------------------------------------------------


def test_an_older_run_is_resumed(tiny_policy, tmp_path, capsys):
    run = written(tmp_path / "run", policy=str(tiny_policy), env_args=["cities_per_country=4"])
    assert main(["train", "--resume", str(run), "--steps", "99"]) == 2
    assert "The learning rate of this run decays until step 80; in a run of 99" in said(capsys)
    assert main(["train", "--resume", str(run), "--learning-rate", "0.0005", "--mode", "free"]) == 2
    assert "--learning-rate, --mode would have no effect with --resume" in said(capsys)
    before = (run / "config.json").read_bytes()
    assert main(["train", "--resume", str(run), "--dry-run"]) == 0
    assert '"micro_batch_tokens": 8192' in said(capsys)
    assert (run / "config.json").read_bytes() == before


def test_an_older_run_whose_model_has_moved_is_written_anew(tiny_policy, tmp_path, monkeypatch):
    monkeypatch.setattr("algorithms.cli.train.train", lambda *given: _done())
    run = written(tmp_path / "run", policy="gone")
    assert main(["train", "--resume", str(run), "--policy", str(tiny_policy)]) == 0
    values = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert values["policy"] == str(tiny_policy)
    assert values["learner"]["lora"] == asdict(AS_READ)["learner"]["lora"]


async def _done() -> int:
    return 0
