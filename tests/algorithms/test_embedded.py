"""The embedded policy: its tokenizer, its lessons, and that the cold start teaches skills and not the decision."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.cli import parts
from algorithms.cli.config import TrainConfig
from algorithms.learner import SupervisedLearner
from algorithms.models import devices
from algorithms.models.demonstrations.expert import demonstrations
from algorithms.models.demonstrations.lesson import Lesson, lesson
from algorithms.models.embedded import cold_start as lessons_of
from algorithms.models.embedded.cold_start import ColdStartConfig, build, cold_start
from algorithms.models.embedded.lessons import but_decisions, echoes, pad_lessons, reading_only, renamed, repeated_in_results
from algorithms.models.embedded.tokenizer import LINK_MARKS, build_tokenizer, layout, name_ids, phrases_between
from algorithms.rendering import TextRenderer
from arpo_envs import ConfigError

MARKS = [f"<{slash}{name}>" for name in ("search", "answer", "think", "result") for slash in ("", "/")]


def make_env():
    return gym.make("ARPO/SearchMini-v0", cities_per_country=3, disable_env_checker=True)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(
        ["Paris", "New York", "Europe/Paris", ".fr"], ["What is the capital of the country of Paris?"], MARKS
    )


@pytest.fixture(scope="module")
def built():
    return build(make_env, ColdStartConfig(hidden=32, heads=2), seed=3)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("<search>New York</search>", ["<search>", "▁New▁York", "</search>"]),
        ("<search> New York</search>", ["<search>", "▁New▁York", "</search>"]),
        ("New York", ["▁New▁York"]),
        ("capital of Paris?", ["▁capital", "▁of", "▁Paris", "?"]),
        ("<result>Paris", ["<result>", "▁Paris"]),
        (" 12", ["▁1", "2"]),
    ],
)
def test_a_name_is_one_token_wherever_it_stands(tokenizer, text, pieces):
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode(text, add_special_tokens=False)) == pieces


@settings(max_examples=200)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="▁\x00"), max_size=40))
def test_any_text_survives_up_to_added_spaces(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert 0 not in ids, "nothing is unknown: bytes cover the rest"
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False).replace(" ", "") == text.replace(" ", "")


def test_every_name_of_the_world_is_one_token(built):
    _, tokenizer = built
    env = make_env()
    lexicon = env.get_wrapper_attr("tasks").lexicon()
    assert len(name_ids(tokenizer, lexicon)) == len(set(lexicon))
    assert tokenizer.encode(f"<answer>{lexicon[0]}</answer>", add_special_tokens=False)[1] in name_ids(tokenizer, lexicon)


CALLS = [f"<python>x = {i} + {i + 1}; x</python>" for i in range(10, 20)]
PYTHON_MARKS = [f"<{slash}{name}>" for name in ("python", "answer", "think", "result") for slash in ("", "/")]


def test_code_between_numbers_is_one_token():
    numbers = [str(i) for i in range(10, 100)]
    plain = build_tokenizer(numbers, ["What is x?"], PYTHON_MARKS)
    known = {*name_ids(plain, numbers), *plain.convert_tokens_to_ids(PYTHON_MARKS)}
    phrases = phrases_between(plain, known, [*CALLS, "<python>once(10)</python>", "<python>line\n12</python>"])
    assert phrases == [" x =", " +", "; x"], "what is rare is no phrase"
    tokenizer = build_tokenizer(numbers, ["What is x?"], PYTHON_MARKS, phrases)
    ids = tokenizer.encode(CALLS[0], add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["<python>", "▁x▁=", "▁10", "▁+", "▁11", ";▁x", "</python>"]
    assert tokenizer.decode(ids) == "<python> x = 10 + 11; x</python>"
    assert phrases_between(plain, known, [f"<python>line\n{i}</python>" for i in (12, 13, 14)]) == [], "no bytes in it"


def test_pages_are_laid_out_in_few_tokens_and_the_names_in_links_are_one_token():
    def page(city, country, number):
        top = f"[{number}] {city} (https://a.example/city-{number})\nL0: # {city}\n\n"
        return f"<result>{top}L4:   * country: 【{number}†{country}】</result>"

    names = ["Köln", "Germany", "Lyon", "France", "Oslo", "Norway", "New York", "United States"]
    pages = [page(names[i], names[i + 1], i) for i in range(0, 8, 2)]
    marks = [*PYTHON_MARKS, *LINK_MARKS]
    plain = build_tokenizer(names, pages, marks)
    phrases = layout(plain, name_ids(plain, names), pages)
    tokenizer = build_tokenizer(names, pages, marks, phrases)
    ids = tokenizer.encode(page("New York", "United States", 6), add_special_tokens=False)
    shown = tokenizer.convert_ids_to_tokens(ids)
    assert shown[shown.index(":▁▁▁*") :] == [":▁▁▁*", "▁country", ":▁", "【", "6", "†", "▁United▁States", "】", "</result>"]
    assert shown[:8] == ["<result>", "▁[", "6", "]", "▁New▁York", "▁(https://a.example/city", "-", "6"]
    assert len(tokenizer.encode(pages[0])) < 0.6 * len(build_tokenizer(names, pages, PYTHON_MARKS).encode(pages[0]))
    assert layout(plain, name_ids(plain, names), []) == []


def test_searches_have_no_phrases(built):
    _, tokenizer = built
    env = make_env()
    known = {*name_ids(tokenizer, env.get_wrapper_attr("tasks").lexicon()), *tokenizer.convert_tokens_to_ids(MARKS)}
    calls = [action for one in demonstrations(make_env, 50, seed=1, perfect=True) for action, _ in one.turns[:-1]]
    assert phrases_between(tokenizer, known, calls) == []


def test_a_lesson_marks_exactly_what_the_demonstrator_wrote(built):
    _, tokenizer = built
    shown = demonstrations(make_env, 5, seed=1, perfect=True)
    for one in shown:
        taught = lesson(one, TextRenderer(tokenizer, with_instructions=False))
        text = tokenizer.decode(taught.tokens[taught.action]).replace(" ", "")
        assert text == "".join(action for action, _ in one.turns).replace(" ", "")
        assert one.turns[-1][0].startswith("<answer>")
        assert len(one.turns) == 3, "two hops: two searches and an answer"


def test_demonstrations_have_a_dominant_bad_habit():
    shown = demonstrations(make_env, 400, seed=2)
    searches = np.array([sum(action.startswith("<search>") for action, _ in one.turns) for one in shown])
    assert 0.6 < np.mean(searches == 1) < 0.8, "most of them stop after one search"


def test_demonstrations_are_a_function_of_the_seed():
    assert demonstrations(make_env, 3, seed=5) == demonstrations(make_env, 3, seed=5) != demonstrations(make_env, 3, seed=6)


def test_renaming_keeps_the_pattern_and_exchanges_the_names():
    taught = Lesson(np.array([9, 1, 9, 2, 1, 9]), np.array([False, True, True, False, True, True]))
    names = np.array([1, 2, 3, 4, 5])
    changed = renamed(taught, names, np.random.default_rng(0), 10)
    assert changed.tokens[1] == changed.tokens[4] in names
    assert changed.tokens[3] in names
    assert changed.tokens[3] != changed.tokens[1]
    assert (changed.tokens[[0, 2, 5]] == 9).all(), "words that are no names stay"
    assert {int(renamed(taught, names, np.random.default_rng(i), 10).tokens[1]) for i in range(40)} == {1, 2, 3, 4, 5}


def test_drills_score_reading_and_never_the_decision_to_go_on():
    taught = Lesson(np.array([7, 8, 1, 9, 7, 8, 2, 9]), np.array([False, True, True, True, False, True, True, True]))
    assert reading_only(taught, np.array([1, 2])).nonzero()[0].tolist() == [2, 6]
    assert but_decisions(taught).nonzero()[0].tolist() == [2, 3, 5, 6, 7], "not position 1, the tag that opens the search"


def test_drills_in_a_browser_also_score_names_that_pages_repeat():
    taught = Lesson(np.array([1, 7, 2, 1, 9, 2, 9, 2, 7, 1]), np.arange(10) // 3 == 1)
    scored = repeated_in_results(taught, np.array([1, 2])).nonzero()[0].tolist()
    assert scored == [7, 9], "names in pages that came before, neither words nor actions"


def test_echoes_repeat_with_periods_that_differ_and_use_every_name():
    tokens_BT, mask_BT = echoes(np.arange(100, 120), 200, 24, np.random.default_rng(1))
    periods = set()
    for tokens, mask in zip(tokens_BT, mask_BT, strict=True):
        period = int(mask.argmax())
        periods.add(period)
        assert (tokens[period:] == tokens[:-period]).all()
        assert mask[period:].all()
    assert len(periods) > 5
    assert set(tokens_BT.flat) == set(range(100, 120))


def test_padding_is_never_scored():
    lessons = [Lesson(np.array([1, 2, 3]), np.array([False, True, True])), Lesson(np.array([4]), np.array([True]))]
    tokens_BT, mask_BT = pad_lessons(lessons, [one.action for one in lessons])
    assert tokens_BT.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert mask_BT.tolist() == [[False, True, True], [True, False, False]]


def test_building_is_a_function_of_the_seed_and_touches_no_global_generator(built):
    import torch

    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    model, tokenizer = build(make_env, ColdStartConfig(hidden=32, heads=2), seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert tokenizer.get_vocab() == built[1].get_vocab()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), built[0].parameters(), strict=True))
    assert model.lm_head.weight is not model.model.embed_tokens.weight, "untied"


def test_the_cold_start_runs_its_phases_and_learns_something(monkeypatch):
    steps, teach = [], SupervisedLearner.teach
    monkeypatch.setattr(SupervisedLearner, "teach", lambda *given: steps.append(given[1]) or teach(*given))
    config = ColdStartConfig(hidden=32, heads=2, echo_steps=2, drill_steps=2, imitation_steps=60, batch=16, lessons=60)
    model, tokenizer = build(make_env, config, seed=1)
    told = []
    renderer = TextRenderer(tokenizer, with_instructions=False)
    cold_start(make_env, model, tokenizer, renderer, config, seed=1, report=lambda *line: told.append(line))
    assert [(name, total) for name, done, total, _ in told if done == total] == [
        ("episodes for drills", 60),
        ("episodes for habits", 60),
        ("echoes", 2),
        ("drills", 2),
        ("imitation", 60),
    ]
    assert told[-1][3] > 0.3, "closing tags and opening tags at least"
    assert len(steps) == 2 + 2 + 60, "it has no optimizer of its own"


def test_an_environment_without_demonstrator_is_refused(tmp_path):
    (tmp_path / "tasks.jsonl").write_text('{"question": "Which city?", "answer": "Paris"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="--policy"):
        demonstrations(lambda: gym.make("ARPO/Search-v0", tasks=tmp_path / "tasks.jsonl", cities_per_country=2), 1, seed=0)


def test_a_run_teaches_its_policy_on_its_own_device(tmp_path, monkeypatch):
    taught = []

    def learn(make_env, model, tokenizer, renderer, config, *, device, **others):
        taught.append(device)

    monkeypatch.setattr(lessons_of, "cold_start", learn)
    monkeypatch.setattr(devices, "find_device", lambda name: torch.device(name))
    config = TrainConfig(env_args=("cities_per_country=3",), device="cuda", output=tmp_path)
    parts.starting_policy(config, tmp_path, report=lambda *line: None)
    assert taught == [torch.device("cuda")]
