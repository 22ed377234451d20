"""TRL: the schemas it makes of the methods, and two steps of its own trainer with a tiny model."""

import inspect
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from episodes import IDS, SEED, recorded
from gymnasium.envs.registration import EnvSpec
from toys import TownEnv

from arpo_envs.errors import ConfigError
from arpo_envs.hubs.trl import dataset, environment_factory
from arpo_envs.tools.spec import ToolSpec

ARPO = ["ARPO/SearchMini-v0", "ARPO/Browser-v0", "ARPO/DeepSearchSolver-v0"]


def without_defaults(schema: Any) -> Any:
    """Returns what TRL can say of a schema: a default is in the signature only, and several types are a list."""
    if isinstance(schema, Mapping):
        if "anyOf" in schema:
            types = [part["type"] for part in schema["anyOf"]]
            return without_defaults({"type": types, **{name: part for name, part in schema.items() if name != "anyOf"}})
        return {name: without_defaults(part) for name, part in schema.items() if name != "default"}
    return schema


@pytest.mark.parametrize("env_id", ARPO)
def test_a_tool_is_a_method_whose_schema_is_the_tools(env_id):
    from transformers.utils import get_json_schema

    env = environment_factory(env_id)()
    public = {name for name, _ in inspect.getmembers(type(env), inspect.isfunction) if not name.startswith("_")}
    specs: dict[str, ToolSpec] = {spec.name: spec for spec in env._episode.tools}
    assert public == {"reset", "get_reward", *specs}
    for name, spec in specs.items():
        method = getattr(env, name)
        assert get_json_schema(method) == without_defaults(spec.function())
        for parameter in inspect.signature(method).parameters.values():
            schema = spec.parameters["properties"][parameter.name]
            required = parameter.name in spec.parameters["required"] if "required" in spec.parameters else False
            assert (parameter.default is parameter.empty) == required
            assert required or parameter.default == schema.get("default")


def test_types_of_a_schema_are_those_of_python():
    from arpo_envs.hubs.trl import _annotation

    schemas = {
        "integer": int,
        "number": float,
        "string": str,
        "boolean": bool,
        "object": dict,
        "array": list,
    }
    for kind, annotation in schemas.items():
        assert _annotation({"type": kind}) is annotation
    assert _annotation({"type": "array", "items": {"type": "string"}}) == list[str]
    assert _annotation({"anyOf": [{"type": "string"}, {"type": "integer"}]}) == str | int
    assert _annotation({}) is Any


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_the_same_as_without_it(env_id):
    expert = recorded(env_id, "json")
    env = environment_factory(env_id, **expert.arguments)()
    observations = [env.reset(seed=SEED, prompt=[], other="column")]
    observations += [getattr(env, name)(**given) for name, given in expert.calls]
    assert tuple(observations) == expert.observations
    assert env.get_reward() == sum(expert.rewards)


def test_mistakes_are_told_and_an_episode_without_an_answer_is_paid_as_such():
    expert = recorded("ARPO/SearchMini-v0")
    env = environment_factory(expert.env_id)()
    env.reset(task=expert.task)
    for given, said in (({}, "needs the argument 'query'"), ({"q": "x"}, "needs"), ({"query": 1}, "must be of type string")):
        with pytest.raises(ConfigError, match=said):
            env.search(**given)
    with pytest.raises(ConfigError, match="at most 1,048,576 characters"):
        env.search(query="x" * 10_000_000)
    assert env.get_reward() == -1
    env.answer(text="wrong")
    assert env.get_reward() == 0
    with pytest.raises(Exception, match="The episode is over"):
        env.search(query="x")
    with pytest.raises(ConfigError, match="has no entity 'nowhere'"):
        env.reset(task="nowhere")
    with pytest.raises(ConfigError, match="offers no tools"):
        environment_factory("CartPole-v1")()


def test_an_environment_that_its_trainer_forgets_is_closed(monkeypatch):
    closed = []

    class Closing(TownEnv):
        def close(self):
            closed.append(self)
            super().close()

    monkeypatch.setitem(gym.registry, "Hubs/Closing-v0", EnvSpec("Hubs/Closing-v0", Closing))
    env = environment_factory("Hubs/Closing-v0")()
    env.reset(seed=SEED)
    inside = env._episode.env.unwrapped
    assert inside not in closed
    del env
    assert inside in closed


def test_an_environment_whose_tools_cannot_be_called_is_refused_at_once(monkeypatch):
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="The search engine serper needs a key"):
        environment_factory("ARPO/Search-v0", split="train", engine="serper")()


def test_a_factory_pickles_and_makes_one_class():
    factory = pickle.loads(pickle.dumps(environment_factory("ARPO/SearchMini-v0")))
    first, second = factory(), factory()
    assert type(first) is type(second)
    assert type(first).__name__ == "SearchMini_v0"
    question = first.reset(seed=SEED)
    assert second.reset(seed=SEED + 1) != question
    assert pickle.loads(pickle.dumps(factory))().reset(seed=SEED) == question


@pytest.mark.parametrize("says", [{}, {"task": "one"}, {"task": 1}])
def test_rows_of_an_environment_that_begins_no_task_by_its_id_have_seeds_alone(says, monkeypatch):
    class Told(TownEnv):
        def reset(self, **given):
            if given.get("options"):
                raise ConfigError("Unknown reset options: task.")
            observation, info = super().reset(**given)
            return observation, {name: value for name, value in info.items() if name != "task"} | says

    monkeypatch.setitem(gym.registry, "Hubs/Told-v0", EnvSpec("Hubs/Told-v0", Told))
    rows = dataset("Hubs/Told-v0", 2, seed=SEED)
    assert rows["task"][:] == [None, None]
    factory = environment_factory("Hubs/Told-v0")
    assert [bool(factory().reset(**row)) for row in rows] == [True, True]


def test_rows_are_the_tasks_that_their_seeds_draw():
    rows = dataset("ARPO/SearchMini-v0", 3, seed=SEED)
    assert rows[0]["task"] == recorded("ARPO/SearchMini-v0").task
    assert rows["seed"][:] == [SEED, SEED + 1, SEED + 2]
    assert [message["role"] for message in rows[0]["prompt"]] == ["system", "user"]
    assert "<search>" not in rows[0]["prompt"][0]["content"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # TRL asks a model for it
def test_two_steps_of_its_trainer_on_search(monkeypatch, tmp_path):
    """Every other completion is drawn by the model, and the others are the expert's: TRL runs their calls and learns."""
    tests = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(tests / "algorithms")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tests)])  # TRL would take tests/vllm for vLLM
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    import torch
    import trl
    from model_toys import byte_tokenizer, tiny_model

    tokenizer = byte_tokenizer()
    marks = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": ["<|im_start|>"]}
    tokenizer.add_special_tokens(marks)
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    model = tiny_model("qwen3", vocabulary=len(tokenizer), max_position_embeddings=4096)
    expert = recorded("ARPO/Search-v0", "json")
    calls = [json.dumps({"name": name, "arguments": given}) for name, given in expert.calls]
    said = [*(f"<tool_call>\n{call}\n</tool_call>" for call in calls), "Done."]
    draw, seen = model.generate, []

    def generate(input_ids: Any, attention_mask: Any, **options: Any) -> Any:
        """As the real one, but even rows get what the expert says next."""
        drawn = draw(input_ids=input_ids, attention_mask=attention_mask, max_new_tokens=8)[:, input_ids.shape[1] :]
        rows = drawn.tolist()
        for i, text in enumerate(tokenizer.batch_decode(input_ids)):
            turn = text.count("<|im_start|>user\n<tool_response>")
            seen.append((turn, text))
            if i % 2 == 0:
                rows[i] = tokenizer.encode(f"{said[turn]}<|im_end|>")
        width = max(map(len, rows))
        padded = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer = trl.GRPOTrainer(
        model=model,
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=1024,
            learning_rate=1e-2,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            disable_tqdm=True,
            report_to=[],
            save_strategy="no",
        ),
        train_dataset=dataset("ARPO/Search-v0", 1, seed=SEED, **expert.arguments),
        processing_class=tokenizer,
        environment_factory=environment_factory("ARPO/Search-v0", **expert.arguments),
    )
    trainer.train()
    first, second = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert first["rewards/Search_v0/mean"] == second["rewards/Search_v0/mean"] == 0  # the expert's 1, and -1
    assert first["tools/failure_frequency"] == 0
    assert first["grad_norm"] > 0
    assert any(bool((old != new).any()) for old, new in zip(before, model.parameters(), strict=True))
    marked = [expert.observations[0], *(f"{result}\n</tool_response>" for result in expert.observations[1:-1])]
    assert all(any(at == turn and part in text for at, text in seen) for turn, part in enumerate(marked))
