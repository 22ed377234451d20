"""What an update takes: the padded tokens of its micro-batches, dealt to learners in whole trees."""

from collections.abc import Sequence

from ...packing import batches
from .machine import Machine
from .work import Shape


def padded(shapes: Sequence[Shape], machine: Machine) -> tuple[int, int]:
    """Returns the tokens that a learner computes in plain rows and in packed ones, padding included.

    Args:
        shapes: trees; those whose paths all earned the same have no gradient and are not computed.
        machine: says which trees are packed, and how large a micro-batch is.
    """
    useful = [shape for shape in shapes if shape.teaches]
    packed = [shape.path_tokens >= machine.packs_from * shape.tokens for shape in useful]
    plain_I = [shape.length(path) for shape, it in zip(useful, packed, strict=True) if not it for path in shape.paths]
    packed_I = [shape.tokens for shape, it in zip(useful, packed, strict=True) if it]
    return _padded(plain_I, machine.micro_batch_tokens), _padded(packed_I, machine.micro_batch_tokens)


def _padded(length_I: Sequence[int], budget: int) -> int:
    """Returns the tokens of the micro-batches of rows, each row as long as the longest beside it."""
    return sum(max(length_I[row] for row in batch) * len(batch) for batch in batches(length_I, budget))


def dealt(shapes: Sequence[Shape], learners: int) -> list[list[Shape]]:
    """Returns the trees of each learner: the largest goes to the one with the fewest tokens so far.

    >>> [[tree.prompt for tree in own] for own in dealt([Shape(size, ()) for size in (5, 3, 3, 2)], 2)]
    [[5, 2], [3, 3]]
    """
    shares: list[list[Shape]] = [[] for _ in range(learners)]
    loads = [0] * learners
    for shape in sorted(shapes, key=lambda shape: -shape.tokens):
        least = loads.index(min(loads))
        shares[least].append(shape)
        loads[least] += shape.tokens
    return shares


def update_seconds(shapes: Sequence[Shape], machine: Machine, learners: int) -> float:
    """Returns what an update takes: as long as the learner with the most to do, and what all of them take together.

    Args:
        shapes: P trees.
        machine: the constants.
        learners: that share the update, whole trees each.
    """
    each = machine.token_seconds if machine.packed_seconds is None else machine.packed_seconds
    shares = [padded(own, machine) for own in dealt([shape for shape in shapes if shape.teaches], learners)]
    longest = max(machine.token_seconds * plain + each * packed for plain, packed in shares)
    return machine.update_seconds + longest + (machine.join_seconds if learners > 1 else 0.0)
