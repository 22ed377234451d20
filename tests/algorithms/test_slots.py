"""The slots of keys and values: against a plain record of what each one holds."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.policies.slots import SlotCache


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_slots_never_claim_what_they_do_not_hold(data: st.DataObject) -> None:
    """Random placing, decoding and freeing, against a plain record of each slot's tokens."""
    count = data.draw(st.integers(1, 4))
    cache, held, ready, busy = SlotCache(count, 40), [[]] * count, [0] * count, set()
    where = (torch.device("cpu"), torch.float32)
    for _ in range(data.draw(st.integers(1, 25))):
        move = data.draw(st.sampled_from(["place", "draw", "free"]))
        if move == "place":
            context = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=6))
            placement = cache.place(context)
            if placement is None:
                assert busy, "with nobody busy there is always room"
                continue
            assert placement.slot not in busy
            assert placement.cached < len(context), "one token is always fed"
            if placement.cached:
                holders = [s for s in range(count) if held[s][: placement.cached] == context[: placement.cached]]
                assert any(ready[s] >= placement.cached for s in holders)
            busy.add(placement.slot)
            held[placement.slot], ready[placement.slot] = list(context), placement.cached
        elif move == "draw" and busy:
            rows = sorted(busy)
            inputs = cache.begin(rows, *where)
            for b, slot in enumerate(rows):
                new = held[slot][ready[slot] :]
                assert inputs["input_ids"][b, : len(new)].tolist() == new
                assert int(inputs["last_B"][b]) == len(new) - 1
                ready[slot] = len(held[slot])
                held[slot].append(data.draw(st.integers(0, 1)))
                cache.append(slot, held[slot][-1])
        elif move == "free" and busy:
            slot = data.draw(st.sampled_from(sorted(busy)))
            busy.discard(slot)
            cache.free(slot)
            held[slot] = held[slot][: ready[slot]]
