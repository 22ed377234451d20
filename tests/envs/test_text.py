"""What is the same letter, word and name: one decision for the index, for queries and for token F1."""

import hashlib
import re
import string
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arpo_envs.rewards import exact_match, token_f1
from arpo_envs.tasks.text import apart, fold, plain, words
from arpo_envs.tasks.world.corpus import FORMAT, Document
from arpo_envs.tools.search import Index

SCRIPTS = (
    "Łódź, Tromsø, Đà Nẵng, Þingvellir, Ærø, İzmir, ſ ß",
    "Ελλάδα Άθήνα",
    "Київ Йошкар-Ола",
    "北京是中国的首都。",
    "東京タワーは高い",
)
MORE = (
    "서울은 대한민국의 수도",
    "हिन्दी एक भाषा है",
    "กรุงเทพมหานคร",
    "العَرَبِيَّة لغة",
    "ｱｲｳ ＡＢＣ １２ ﬁ ㎏ ½ x²",
    "Hawaiʻi Coʼte",
    "𝐁𝐨𝐥𝐝 𝒮",
)


class Few:
    """A corpus; hashable by identity."""

    name = "few"

    def __init__(self, documents: list[Document]) -> None:
        self._documents = documents

    def documents(self) -> list[Document]:
        return self._documents


@pytest.mark.parametrize(
    ("text", "plainly"),
    [
        *[("Tromsø", "Tromso"), ("Łódź", "Lodz"), ("Wrocław", "Wroclaw"), ("Đà Nẵng", "Da Nang"), ("Straße", "Strasse")],
        *[
            ("Þórshöfn", "Thorshofn"),
            ("Ærøskøbing", "Aeroskobing"),
            ("Œuvre", "oeuvre"),
            ("İzmir", "Izmir"),
            ("Iğdır", "Igdir"),
        ],
        *[
            ("Hawaiʻi", "Hawai'i"),
            ("Ｐａｒｉｓ", "paris"),
            ("Nor\u200bvège\u200f", "Norvege"),
            ("ﬁn", "fin"),
            ("Άθήνα", "Αθηνα"),
            ("１２", "12"),
            ("١٢", "12"),
            ("Ħal Għaxaq", "Hal Ghaxaq"),
            ("Ham\u00adlet\u200b", "Hamlet"),
            ("می\u200cخواهم", "میخواهم"),
            ("葛\U000e0100飾", "葛飾"),
        ],
    ],
)
def test_accents_strokes_ligatures_and_widths_do_not_matter(text, plainly):
    assert fold(text) == fold(plainly)


@pytest.mark.parametrize(
    ("one", "other"),
    [("が", "か"), ("हि", "ह"), ("กา", "กิ"), ("กุ", "กู"), ("ไม่", "ไม้"), ("北", "京"), ("a", "b"), ("й", "к"), ("1.5", "15")],
)
def test_what_is_another_letter_stays_another_word(one, other):
    assert fold(one) != fold(other)


@given(st.text(max_size=60) | st.sampled_from(SCRIPTS + MORE))
def test_folding_twice_changes_nothing(text):
    assert fold(fold(text)) == fold(text)
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))
    assert all(words(word) == [word] for word in words(text))


def test_what_a_word_is_changes_with_the_format_of_what_is_kept_on_disk():
    notion = hashlib.sha256("|".join(map(fold, SCRIPTS + MORE)).encode()).hexdigest()[:12]
    assert (FORMAT, notion) == (2, "f6e409110863"), "raise FORMAT: an index that was kept holds other words"


@given(st.text(max_size=60))
def test_one_form_and_spaces_change_no_words(text):
    assert words(plain(text)) == words(text)
    assert "".join(apart(text).split()) == "".join(text.split())


@pytest.mark.parametrize("engine", ["tantivy", "sqlite"])
@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(SCRIPTS + MORE) | st.text(min_size=1, max_size=30), min_size=1, max_size=5, unique_by=fold))
def test_any_document_is_found_by_its_title_and_by_each_of_its_words(engine, texts):
    documents = [Document(text[:12], text) for text in texts if words(text[:12])]
    assume(documents)
    index = Index(Few(documents), engine)
    for document in documents:
        title = fold(document.title)
        assert title in {fold(found.title) for found in index.search(document.title, len(documents))}
        for word in words(document.text):
            assert document in index.search(word, len(documents) + 1), word


@pytest.mark.parametrize("engine", ["tantivy", "sqlite"])
@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("中国首都", "北京"),
        ("首都", "北京"),
        ("タワー", "東京"),
        ("수도", "서울"),
        ("กรุง", "กรุงเทพ"),
        ("भाषा", "हिन्दी"),
        ("Tromso", "Tromsø"),
    ],
)
def test_a_part_of_a_longer_run_is_found(engine, query, title):
    about = {
        "北京": "北京是中国的首都。",
        "東京": "東京タワーは高い",
        "서울": "서울은 대한민국의 수도",
        "กรุงเทพ": "กรุงเทพมหานคร",
    }
    about |= {"हिन्दी": "हिन्दी एक भाषा है", "Tromsø": "a city"}
    index = Index(Few([Document(title, text) for title, text in about.items()]), engine)
    assert index.search(query, 1)[0].title == title


@pytest.mark.parametrize("engine", ["tantivy", "sqlite"])
@given(st.permutations(["C", "C++", "C#", "c*", "!!!", "?", "🙂", "Lodz", "Łódź", "Łodz", "北京", "巴 黎"]))
@settings(max_examples=20, deadline=None)
def test_of_titles_that_differ_in_signs_or_accents_the_one_spelt_so_comes_first(engine, titles):
    index = Index(Few([Document(title, "a text") for title in titles]), engine)
    assert [index.search(title, 1)[0].title for title in titles] == titles
    assert [index.search(f" {title.upper()} ", 1)[0].title for title in titles] == titles
    assert {found.title for found in index.search("lodz", 3)} == {"Lodz", "Łódź", "Łodz"}


def hotpot_normal(text: str) -> str:
    """What the official scorer (hotpot_evaluate_v1.py) compares: no punctuation, no articles, single spaces."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def hotpot_f1(prediction: str, gold: str) -> float:
    """The official scorer's `f1_score`."""
    prediction, gold, special = hotpot_normal(prediction), hotpot_normal(gold), {"yes", "no", "noanswer"}
    if (prediction in special or gold in special) and prediction != gold:
        return 0.0
    given_words, gold_words = prediction.split(), gold.split()
    common = sum(min(given_words.count(word), gold_words.count(word)) for word in set(given_words))
    return 2 * common / (len(given_words) + len(gold_words)) if common else 0.0


@given(
    *[st.lists(st.sampled_from(["yes", "no", "noanswer", "paris", "rome", "not"]), min_size=1, max_size=4).map(" ".join)] * 2
)
def test_words_are_scored_as_hotpotqa_scores_them(prediction, gold):
    assert token_f1(prediction, gold) == pytest.approx(hotpot_f1(prediction, gold))
    assert token_f1(f"The answer is: **{prediction.title()}**.", gold) == pytest.approx(hotpot_f1(prediction, gold))


PIECES = [
    "yes",
    "no",
    "noanswer",
    "no-answer",
    "Yes,",
    "No.",
    "(yes)",
    "y.es",
    "a",
    "the",
    "an",
    "&",
    "-",
    "'no'",
    "*yes*",
    "it",
    "is",
]
SENTENCES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map(" ".join)


@given(SENTENCES, SENTENCES)
@settings(max_examples=500)
def test_yes_and_no_never_earn_more_than_the_official_scorer_gives(prediction, gold):
    if {hotpot_normal(prediction), hotpot_normal(gold)} & {"yes", "no", "noanswer"}:
        assert token_f1(prediction, gold) <= hotpot_f1(prediction, gold)


ENGLISH = [
    "The",
    "the",
    "a",
    "An",
    "of",
    "King",
    "king,",
    "Lord",
    "(Lord)",
    "Hill.",
    "'Hill'",
    "A",
    "U.S.",
    "Yahoo!",
    "AT&T",
    "1,000",
    "1984",
]


@given(*[st.lists(st.sampled_from(ENGLISH), min_size=1, max_size=5).map(" ".join)] * 2)
@settings(max_examples=500)
def test_ordinary_english_earns_no_more_than_the_official_scorer_gives(prediction, gold):
    assert token_f1(prediction, gold) <= hotpot_f1(prediction, gold) + 1e-9 or exact_match(prediction, gold)


@pytest.mark.parametrize(
    ("given_text", "gold", "f1"),
    [
        ("yes no", "yes", 0),
        ("yes no", "no", 0),
        ("Yes, no.", "no", 0),
        ("yes yes", "yes", 0),
        ("no", "noanswer", 0),
        ("yes the", "yes it is", 0),
        ("King of the Hill", "Lord of the Rings", 1 / 3),
        ("Hepatitis A", "Hepatitis", 2 / 3),
        ("The answer is **Hamlet**, I think.", "Hamlet", 1 / 2),
        ("北京市", "北京", 4 / 5),
        ("東京タワー", "東京", 4 / 7),
    ],
)
def test_scores_worked_by_hand(given_text, gold, f1):
    assert token_f1(given_text, gold) == pytest.approx(f1)
