"""The `arpo` command, called as its console script calls it; `arpo train` is in `test_cli_train.py`."""

import json
from importlib.metadata import version

import gymnasium as gym
import pytest
from rollout_toys import CountEnv, CountTool

import algorithms.rollout.environments
from algorithms.bench.counting import Counter, counted
from algorithms.bench.sharing import ReExecuted, require_once
from algorithms.cli import COMMANDS, main
from algorithms.cli.config import TrainConfig
from algorithms.cli.results import write_json
from arpo_envs import clone_many
from arpo_envs.spaces import TextSpace

TINY = ["--args", "cities_per_country=4"]

pytestmark = pytest.mark.usefixtures("wide_terminal")


def said(capsys) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


class Repeat(gym.Env):
    """Repeats what it is told."""

    observation_space = action_space = TextSpace()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "say it", {}

    def step(self, action):
        return f"you said: {action}", 1.0, True, False, {}


def exit_status(words: list[str]) -> int:
    """Returns the exit status, whoever ends the program: we, or the parser of the arguments."""
    try:
        return main(words)
    except SystemExit as end:
        return end.code


# --- help and mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_help_names_every_command(words, capsys):
    assert main(words) == 0
    text = said(capsys)
    assert all(f"arpo {name}" in text for name in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "sft",
        "eval",
        "entropy",
        "export",
        "play",
        "envs",
        "algorithms",
        "study",
        "plan",
        "serve-search",
        "new",
        "bench env",
        "bench gpu",
        "bench sharing",
    ],
)
def test_every_command_explains_itself(command, capsys):
    assert exit_status([*command.split(), "--help"]) == 0
    assert f"usage: arpo {command}" in said(capsys)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            "trian",
            "Known: algorithms, bench, compare, doctor, entropy, envs, eval, export, new, plan, play, report, serve-search, "
            "sft, show, study, train, view. Did you mean 'train'?",
        ),
        ("bench shraing", "Did you mean 'sharing'?"),
        ("envs ARPO/Serch-v0", "Did you mean 'ARPO/Search-v0'?"),
        ("envs CartPole-v1", "CartPole-v1 takes no text: its actions are Discrete(2). `arpo envs` lists environments that do."),
        ("play CartPole-v1", "CartPole-v1 takes no text: its actions are Discrete(2). `arpo envs` lists environments that do."),
        ("play ARPO/Search-v0 --args hop=2", "Did you mean 'hops'?"),
        ("play ARPO/Search-v0 --args hops", "Expected NAME=VALUE, got 'hops'."),
        ("play nowhere_to_be_found:Env-v0", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("play ARPO/SearchMini-v0 --task nothing", "nothing"),
        ("eval --policy nowhere", "neither a run that has a policy nor a model folder"),
        ("eval --policy . --questions 0", "questions must be at least 1"),
        ("eval --policy . --temperature 0 --samples 2", "Greedy samples are all the same"),
        ("bench env --rounds 0", "rounds must be at least 1"),
        ("bench sharing --policy nowhere", "not a model folder"),
        ("bench sharing --policy . --prompts 0", "prompts must be at least 1"),
    ],
)
def test_a_mistake_is_explained_and_gives_2(words, hint, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert exit_status(words.split()) == 2
    assert hint in " ".join(said(capsys).split())  # a terminal breaks lines where it likes
    assert list(tmp_path.iterdir()) == []


def test_an_argument_nobody_knows_gives_2(capsys):
    assert exit_status(["eval", "--polcy", "x"]) == 2
    assert "--policy" in said(capsys)


# --- envs ------------------------------------------------------------------------------------------------


def test_envs_lists_every_environment(capsys):
    assert main(["envs"]) == 0
    text = said(capsys)
    for wanted in ("ARPO/Search-v0", "ARPO/SearchMini-v0", "Answer a question by searching documents", "exact"):
        assert wanted in text
    assert "cities_per_country=10" in text


def test_envs_explains_one(capsys):
    assert main(["envs", "ARPO/SearchMini-v0"]) == 0
    text = said(capsys)
    assert "how many documents a built-in question needs, 1 to 4; default 2." in text
    assert "search(query)" in text
    line = next(line for line in text.splitlines() if "max_tool_calls" in line)
    assert "│ 4 " in line, "the id's own default, not the class's"
    assert "What is the" in text
    assert "→" in text


def test_envs_explains_a_text_environment_of_others_that_has_no_tools(monkeypatch, capsys):
    monkeypatch.setitem(gym.registry, "Repeat-v0", gym.envs.registration.EnvSpec("Repeat-v0", entry_point=Repeat))
    assert main(["envs", "Repeat-v0"]) == 0
    text = said(capsys)
    assert "Repeats what it is told." in text
    assert "say it" in text


# --- eval ------------------------------------------------------------------------------------------------


def test_eval_prints_a_table_and_writes_a_flat_object(tiny_policy, tmp_path, capsys):
    file = tmp_path / "results" / "eval.json"
    words = [
        "eval",
        "--policy",
        str(tiny_policy),
        *TINY,
        "split=test",
        "--questions",
        "5",
        "--samples",
        "2",
        "--json",
        str(file),
    ]
    assert main(words) == 0
    text = said(capsys)
    assert "95% interval 0.000 – " in text
    assert "pass@2" in text
    record = json.loads(file.read_text(encoding="utf-8"))
    assert all(isinstance(value, str | int | float) for value in record.values())
    assert record["env"] == "ARPO/SearchMini-v0"
    assert record["args"] == "cities_per_country=4 split=test"
    assert sum(count for name, count in record.items() if name.startswith("ended_")) == 10
    assert record["success_low"] <= record["success"] <= record["success_high"]


def test_eval_is_a_function_of_its_seed(tiny_policy, tmp_path):
    records = []
    for seed in (1, 1, 2):
        file = tmp_path / "eval.json"
        words = ["eval", "--policy", str(tiny_policy), *TINY, "--questions", "4", "--seed", str(seed), "--json", str(file)]
        assert main(words) == 0
        record = json.loads(file.read_text(encoding="utf-8"))
        records.append({name: value for name, value in record.items() if name not in ("seconds", "seed")})
    assert records[0] == records[1] != records[2]


@pytest.mark.parametrize("command", ["eval --questions 2", "bench sharing --prompts 1 --rollouts 4 --roots 2"])
def test_the_renderer_speaks_the_dialect_of_the_environment(command, tiny_policy):
    assert main([*command.split(), "--policy", str(tiny_policy), *TINY, "dialect=json"]) == 0


def test_a_flat_object_replaces_the_old_one_whole(tmp_path):
    file = tmp_path / "new" / "x.json"
    write_json(file, {"a": 1})
    write_json(file, {"b": "ü", "c": None})
    assert json.loads(file.read_text(encoding="utf-8")) == {"b": "ü", "c": None}
    assert list(file.parent.iterdir()) == [file]


# --- bench -----------------------------------------------------------------------------------------------


def test_bench_without_a_name_lists_the_benchmarks(capsys):
    assert main(["bench"]) == 0
    assert "arpo bench sharing" in said(capsys)


def test_bench_env(tmp_path, capsys):
    file = tmp_path / "env.json"
    assert main(["bench", "env", "--rounds", "1", "--episodes", "5", "--forks", "2", "--json", str(file)]) == 0
    assert "GEM 0.1.0" in said(capsys)
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record.pop("reference_gem_per_call_us") == 37.0
    parts = {"per_call", "reset", "tool_call", "answer", "clone", "snapshot", "restore"}
    forks = {"clone", "snapshot", "restore"}
    names = {f"{part}_{stack}_us" for stack in ("unwrapped", "gym_make") for part in parts}
    ratios = {"per_call_by_hand_us", "per_call_over_by_hand", "clone_over_reset"}
    assert set(record) == names | ratios | {f"{part}_search_us" for part in forks}
    assert all(value > 0 for value in record.values())


SHARING = ["bench", "sharing", *TINY, "--prompts", "4", "--rollouts", "8", "--roots", "4"]


def test_bench_sharing(tiny_policy, tmp_path, capsys):
    file = tmp_path / "sharing.json"
    assert main([*SHARING, "--policy", str(tiny_policy), "--json", str(file)]) == 0
    assert "no call was executed twice" in said(capsys)
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["grpo_inherited_tool_calls"] == record["grpo_forks_per_prompt"] == 0
    assert record["grpo_executed_share"] == 1.0
    for name in ("arpo", "random_branching"):
        assert record[f"{name}_forks_per_prompt"] > 0
        assert record[f"{name}_inherited_tool_calls"] > 0
        depths = sum(value for key, value in record.items() if key.startswith(f"{name}_forks_at_depth_"))
        assert depths == 4 * record[f"{name}_forks_per_prompt"]
        assert 4 + record[f"{name}_forks_per_prompt"] + record[f"{name}_backfills_per_prompt"] == 8
        executed, inherited = (record[f"{name}_{kind}_tool_calls"] for kind in ("executed", "inherited"))
        assert record[f"{name}_executed_share"] == pytest.approx(executed / (executed + inherited), abs=1e-4)


def test_bench_sharing_notices_a_fork_that_runs_a_call_again(tiny_policy, monkeypatch, capsys):
    def again(env, seeds):
        children = clone_many(env, seeds)
        if env.unwrapped.last()[1]["turn"] > 0:
            children[0].unwrapped.sessions[0].call("search", {"query": "x"}, timeout=1.0)
        return children

    monkeypatch.setattr(algorithms.rollout.environments, "clone_many", again)
    assert main([*SHARING, "--policy", str(tiny_policy)]) == 2
    assert "A fork must never execute a call again" in said(capsys)


def test_the_tools_own_count():
    counter, tool = Counter(), CountTool()
    env = counted(CountEnv(tool), counter)
    env.reset(seed=0)
    env.step("<count>a</count>")
    left, right = clone_many(env, [1, 2])
    left.step("<count>b</count>")
    right.step("<answer>1</answer>")
    assert counter.calls == len(tool.journal) == 2
    for one in (env, left, right):
        one.close()
    assert tool.opened == tool.closed
    with pytest.raises(ReExecuted, match="ran 2 calls, the trees record 0"):
        require_once("arpo", 2, [])


def test_an_engine_may_be_named_as_a_policy(tiny_policy, tmp_path, capsys):
    def measured(name, *words):
        assert main(["eval", *words, "--questions", "3", "--show", "3", "--json", str(tmp_path / f"{name}.json")]) == 0
        record = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        return {key: value for key, value in record.items() if key not in ("policy", "seconds")}

    by_model = measured("model", "--policy", str(tiny_policy))
    assert measured("engine", "--policy", "local", "--model-folder", str(tiny_policy)) == by_model


def test_a_run_says_with_which_versions_it_was_begun(tmp_path):
    config = TrainConfig(seed=7, output=tmp_path, resume=tmp_path)
    config.save(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert {name: version(name) for name in ("torch", "transformers", "gymnasium", "numpy")}.items() <= written[
        "versions"
    ].items()
    assert TrainConfig.load(tmp_path) == config
    del written["versions"]  # as before they were recorded
    (tmp_path / "config.json").write_text(json.dumps(written), encoding="utf-8")
    assert TrainConfig.load(tmp_path) == config
