"""Randomness as a function of where it happens."""

import numpy as np

from algorithms.seeds import derive, generator, uniforms


def test_seeds_name_a_place_and_nothing_else() -> None:
    places = [(1, 2, (0,), "env"), (1, 2, (0,), "action"), (1, 2, (0, 0), "env"), (2, 1, (0,), "env"), (12, (0,), "env")]
    assert len({derive(*place) for place in places}) == len(places)
    assert derive(*places[0]) == derive(*places[0])
    assert all(0 <= derive(i) < 2**63 for i in range(200))
    assert generator(1, "a").random() == generator(1, "a").random() != generator(1, "b").random()


def test_uniforms_are_uniform_and_depend_on_seed_and_position_only() -> None:
    seeds, positions = np.arange(4000, dtype=np.uint64), np.zeros(4000, dtype=np.uint64)
    first = uniforms(seeds, positions)
    assert ((first >= 0) & (first < 1)).all()
    assert np.abs(np.histogram(first, 10, (0, 1))[0] - 400).max() < 100
    assert (uniforms(seeds[::-1].copy(), positions) == first[::-1]).all()
    line = uniforms(np.full(4000, 7, dtype=np.uint64), np.arange(4000, dtype=np.uint64))
    assert abs(np.corrcoef(line[:-1], line[1:])[0, 1]) < 0.06
    assert abs(np.corrcoef(first, uniforms(seeds, positions + np.uint64(1)))[0, 1]) < 0.06
