"""What was grown and learned once is grown and learned again, byte for byte or up to a measured rounding."""

import json

import pytest
import torch
from golden import FOLDER, GROWN, UPDATES, model, readable, trees_of, update
from rounding import check_equal, rounding
from small_recipes import SMALL, small

from algorithms.tracking.trees import read_trees


@pytest.mark.parametrize("name", GROWN)
def test_the_same_trees_are_grown(name):
    lines = [readable(tree) + "\n" for tree in trees_of(small(name))]
    assert "".join(lines).encode() == (FOLDER / f"{name}.jsonl").read_bytes()


def test_the_trees_are_worth_keeping():
    grown = {name: list(read_trees(FOLDER / f"{name}.jsonl")) for name in GROWN}
    origins = {name: {node.origin for tree in trees for node in tree.nodes} for name, trees in grown.items()}
    assert "branch" in origins["arpo"] & origins["tree_grpo"] & origins["tree_rl"]
    assert "branch" not in origins["grpo"]
    assert all(len({tree.total_reward(leaf) for tree in trees for leaf in tree.leaves()}) > 1 for trees in grown.values())


@pytest.mark.numeric
@pytest.mark.parametrize("case", SMALL)
def test_the_same_update_is_made(case):
    recorded = json.loads(UPDATES.read_text(encoding="utf-8"))[case]
    golden = {name: torch.tensor(value, dtype=torch.float64) for name, value in recorded.items()}
    algorithm = small(case)
    check_equal(update(algorithm, model()), golden, rounding(lambda moved: update(algorithm, moved), model()))
    assert golden["gradient_norm"] > 0.0


def test_every_recipe_has_its_update_and_each_has_something_to_clip():
    recorded = json.loads(UPDATES.read_text(encoding="utf-8"))
    assert recorded.keys() == SMALL.keys()
    clipped = {case: numbers["clipped"] for case, numbers in recorded.items() if "clipped" in numbers}
    assert [case for case, share in clipped.items() if share == 0.0] == ["cispo"], "its upper bound is 5"
