"""`arpo train` where single questions, tools and measurements fail: the run goes on, says so once, and can be resumed."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from test_cli_train import arguments, logged, said, summary, weights

import arpo_envs
from algorithms.checkpoint import latest
from algorithms.cli import main, patience, train
from algorithms.cli.config import TrainConfig
from algorithms.models.built_in import MARK
from algorithms.rollout import RolloutError
from algorithms.tracking.trees import read_trees

pytestmark = pytest.mark.usefixtures("wide_terminal")
MOODY = "Tests/Moody-v0"


class Moody(gym.Wrapper[str, str, str, str]):
    """The built-in search, in training only with a trouble of its own; it takes no `max_tool_calls`."""

    trouble = "none"
    steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        text, info = super().reset(seed=seed, options=options)
        if self.training and seed is not None and seed % 3 == 0 and self.trouble == "long":
            text = text * 400
        if self.training and self.trouble == "dead":
            raise OSError(f"no server for {seed}")
        return text, info

    def step(self, action: str) -> Any:
        if self.training and self.trouble == "tool" and zlib.crc32(action.encode()) % 3:
            raise ConnectionError(f"search {len(action)} failed")
        return super().step(action)

    training = False


def make(trouble: str = "none", split: str = "train", cities_per_country: int = 4) -> gym.Env[str, str]:
    """Returns the environment of one trouble."""
    env = Moody(gym.make("ARPO/SearchMini-v0", split=split, cities_per_country=cities_per_country))
    env.trouble, env.training = trouble, split == "train"
    return env


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    arpo_envs.register()
    gym.register(MOODY, entry_point=make)  # type: ignore[arg-type]
    yield
    del gym.registry[MOODY]


def moody(policy: Path, run: Path, trouble: str, steps: int = 3) -> list[str]:
    return [*arguments(policy, run, "--checkpoint-every", "1", steps=steps), "--env", MOODY, "--env-args",
            f"trouble={trouble}", "cities_per_country=4", "--eval-args", "split=test"]  # fmt: skip


def test_questions_longer_than_the_context_cost_their_prompts_and_no_resume(tiny_policy, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(moody(tiny_policy, run, "long")) == 0
    told = said(capsys)
    assert told.count("others like it are counted") == 1, "one kind of failure, one line"
    assert "prompt too long: ConfigError: The prompt has" in told
    lines = logged(run)
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert sum(line["failed_prompt_too_long"] for line in lines) > 0
    assert all(line["failed_leaves"] == line["failed_prompt_too_long"] for line in lines)
    faults = {node.fault[:27] for tree in read_trees(run / "trees.jsonl.zst") for node in tree.nodes if node.fault}
    assert faults == {"ConfigError: The prompt has"}
    assert main(["train", "--resume", str(run)]) == 0


def test_a_tool_that_fails_is_one_line_and_a_count(tiny_policy, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(moody(tiny_policy, run, "tool", steps=2)) == 0
    told = said(capsys)
    failed = sum(line["failed_tool_fault"] for line in logged(run))
    assert failed > 2
    assert told.count("others like it are counted") == 1
    assert "(test_cli_failures.py:" in told, "where it was raised"
    assert f"{failed:.0f} × tool fault: ConnectionError: search" in told
    assert "Traceback" not in told


def test_an_evaluation_tells_it_once_too(tiny_policy, capsys):
    words = ["--env", MOODY, "--args", "trouble=tool", "split=train", "--questions", "12", "--concurrency", "4"]
    assert main(["eval", "--policy", str(tiny_policy), *words]) == 0
    told = said(capsys)
    assert told.count("others like it are counted") == 1
    assert "× tool fault: ConnectionError: search" in told


@pytest.mark.parametrize("module", [pytest.param("", marks=pytest.mark.slow), f"{__name__}:"])
def test_an_environment_without_max_tool_calls_is_not_measured_without_tools(module, tiny_policy, tmp_path, capsys):
    run = tmp_path / "run"
    words = [module + word if word == MOODY else word for word in moody(tiny_policy, run, "none", steps=1)]
    assert main(words) == 0
    assert summary(run)["success_closed_book"] is None
    assert main(["train", "--resume", str(run)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("error", [ZeroDivisionError("no answers"), RolloutError("all paths failed")], ids=str)
def test_a_figure_that_cannot_be_measured_ends_no_run(error, tiny_policy, tmp_path, monkeypatch, capsys):
    measure = train.evaluate

    async def fails(make_env: Any, *rest: Any, **options: Any) -> Any:
        if "max_tool_calls" in str(vars(make_env)):
            raise error
        return await measure(make_env, *rest, **options)

    monkeypatch.setattr(train, "evaluate", fails)
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, steps=1)) == 0
    assert summary(run)["success_closed_book"] is None
    assert f"not measured without tools: {type(error).__name__}: {error}" in said(capsys)


@pytest.mark.slow
def test_steps_in_which_every_path_fails_end_the_run_in_the_end_and_it_is_saved(tiny_policy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(patience, "_PAUSES", (0.0,) * 4)
    run = tmp_path / "run"
    assert main(moody(tiny_policy, run, "dead", steps=9)) == 2
    told = said(capsys)
    assert told.count("taught nothing") == 5
    assert "Every path of the last 5 steps failed. All 24 paths failed; the first because of: OSError(" in told
    assert "120 × tool fault: OSError: no server" in told
    assert f"arpo train --resume {run}" in told
    assert latest(run).step == len(logged(run)) == 5
    assert all(line["lost_steps"] == 1.0 for line in logged(run))
    before = weights(run)
    options = json.loads((run / "config.json").read_text(encoding="utf-8"))
    options["env_args"] = ["trouble=none", "cities_per_country=4"]
    (run / "config.json").write_text(json.dumps(options), encoding="utf-8")
    assert main(["train", "--resume", str(run)]) == 0, "when the server is back"
    assert [line["lost_steps"] for line in logged(run)] == [1.0] * 5 + [0.0] * 4
    assert any((before[name] != value).any() for name, value in weights(run).items())


def test_a_mistake_of_the_users_is_found_in_the_first_step(tiny_policy, tmp_path, capsys, monkeypatch):
    def reset(self: Moody, *, seed: int | None = None, options: Any = None) -> Any:
        if self.training:
            raise arpo_envs.ConfigError("No key for the search engine; set SEARCH_KEY.")
        return gym.Wrapper.reset(self, seed=seed, options=options)

    monkeypatch.setattr(Moody, "reset", reset)
    run = tmp_path / "run"
    assert main(moody(tiny_policy, run, "none")) == 2
    assert "set SEARCH_KEY" in said(capsys)
    assert latest(run) is None


@pytest.mark.parametrize("trouble", ["long", "none"])
def test_a_dry_run_looks_whether_prompts_fit(trouble, tiny_policy, tmp_path, capsys, monkeypatch):
    if trouble == "long":
        monkeypatch.setattr(Moody, "reset", lambda self, **given: ("why? " * 500, {}))
    status = main([*moody(tiny_policy, tmp_path / "run", trouble), "--dry-run"])
    told = said(capsys)
    assert (status, "The prompt has" in told) == ((2, True) if trouble == "long" else (0, False))


def test_a_model_that_is_refused_leaves_no_folder(tiny_policy, tmp_path, monkeypatch, capsys):
    def refuse(*given: Any) -> Any:
        raise arpo_envs.ConfigError("The local engine cannot run this model.")

    monkeypatch.setattr(train, "assemble", refuse)
    assert main(arguments(tiny_policy, tmp_path / "run")) == 2
    assert "cannot run this model" in said(capsys)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_refused_keeps_a_cold_start_that_is_finished(tmp_path, monkeypatch, capsys):
    def start(config: TrainConfig, run: Path, *given: Any) -> Path:
        (run / "cold_start").mkdir(exist_ok=True)
        (run / "cold_start" / MARK).write_text("{}", encoding="utf-8")
        return run / "cold_start"

    def refuse(*given: Any) -> Any:
        raise arpo_envs.ConfigError("There is no room.")

    monkeypatch.setattr(train, "starting_policy", start)
    monkeypatch.setattr(train, "assemble", refuse)
    run = tmp_path / "run"
    assert main(["train", "--output", str(run)]) == 2
    text = said(capsys)
    assert "There is no room." in text
    assert f"The cold start is kept. Use it with other options: arpo train --policy {run / 'cold_start'}" in text
    assert (run / "cold_start" / MARK).is_file()
    assert main(["train", "--resume", str(run)]) == 2
    assert "The cold start is kept" not in said(capsys), "nothing else would have been removed"
