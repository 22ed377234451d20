"""Which past tokens are computed, and where they are: the bookkeeping of a cache that sequences share by prefix.

A slot holds one token sequence. Each of its tokens names a place in one pool of keys and values; sequences
with a common prefix name the same places, so a fork copies nothing. The pool is the memory budget: when it is
full, the least recently used sequences are dropped.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FIRST_STRETCH = 64
"""Tokens that are compared first; most sequences differ early."""
_HEADROOM = 8
"""Tokens each running sequence should be able to grow before a new one may start."""

_WORTH_WAITING = 8
"""Tokens another row must be about to compute for a request to wait for them; fewer are computed twice."""

Integers = NDArray[np.int64]


class Placement(NamedTuple):
    """The slot of a request, and how many of its tokens are already computed there."""

    slot: int
    cached: int


class Prefixes:
    """The bookkeeping of a pool of tokens.

    Args:
        slots: S, sequences remembered at the same time.
        length: T, longest sequence, in tokens.
        budget: tokens remembered at the same time, a shared one counted once.

    >>> books = Prefixes(slots=4, length=8, budget=16)
    >>> first = books.place([1, 2, 3, 4])
    >>> books.ready_S[first.slot] = 4  # a forward pass
    >>> books.free(first.slot)
    >>> books.place([1, 2, 7]).cached
    2
    """

    def __init__(self, slots: int, length: int, budget: int) -> None:
        if budget < length:
            raise ValueError(f"A pool of {budget} tokens cannot hold one sequence of {length}.")
        self.tokens_ST: Integers = np.full((slots, length), -1, dtype=np.int64)
        self.places_ST: Integers = np.zeros((slots, length), dtype=np.int64)  # place 0 belongs to no sequence
        self.known_S: Integers = np.zeros(slots, dtype=np.int64)  # tokens stored
        self.ready_S: Integers = np.zeros(slots, dtype=np.int64)  # tokens whose keys are computed
        self.busy_S: NDArray[np.bool_] = np.zeros(slots, dtype=np.bool_)
        self.budget = budget
        self.crowded = False
        """Whether `place` last refused because a slot or room was missing; others would be refused too."""
        self.placed_S: Integers = np.zeros(slots, dtype=np.int64)  # a tick that identifies the placement; 0: nothing to lose
        self._ticks = 0
        self._holders_F: NDArray[np.int32] = np.zeros(budget + 1, dtype=np.int32)
        self._spare_F: Integers = np.arange(budget, 0, -1)  # a stack: the last `_spares` entries before its end are free
        self._spares = budget

    @property
    def held(self) -> int:
        """How many places are in use."""
        return self.budget - self._spares

    def place(self, context: Sequence[int]) -> Placement | None:
        """Finds a slot for a context; None if it should wait (its prefix is being computed, or there is no room)."""
        self.crowded = bool(self.busy_S.all())
        if self.crowded:
            return None
        tokens_T = np.asarray(context, dtype=np.int64)
        length = len(tokens_T) - 1  # at least one token is fed, for its logits
        common_S = self._common(tokens_T[:length])
        cached_S = np.minimum(common_S, self.ready_S)
        source = int(np.argmax(cached_S))
        cached = int(cached_S[source])
        if common_S.max(initial=0) >= cached + _WORTH_WAITING:
            return None
        slot = self._slot_for(source, cached)
        self.busy_S[slot] = True  # from here on it cannot be chosen to be dropped
        if slot != source or cached != self.ready_S[slot]:
            shared = self.places_ST[source, :cached].copy()
            self._holders_F[shared] += 1
            self._release(slot, 0)
            self.tokens_ST[slot, :cached], self.places_ST[slot, :cached] = tokens_T[:cached], shared
            self.known_S[slot] = self.ready_S[slot] = cached
        others = int(self.busy_S.sum()) - 1
        if not self._make_room(len(tokens_T) - cached + _HEADROOM * others):
            self.busy_S[slot], self.crowded = False, True
            return None
        self._ticks += 1
        self.placed_S[slot] = self._ticks
        self._extend(slot, tokens_T[cached:])
        return Placement(slot, cached)

    def append(self, slot: int, token: int) -> bool:
        """Stores a sampled token; its keys are computed when the next one is drawn. False if there is no room."""
        if not self._make_room(1):
            return False
        self._extend(slot, np.array([token]))
        return True

    def free(self, slot: int, *, keep: bool = True) -> None:
        """Ends a sequence.

        Args:
            slot: of the sequence.
            keep: keep its tokens until its slot or its places are needed.
        """
        self.busy_S[slot] = False
        self._release(slot, int(self.ready_S[slot]) if keep else 0)

    def forget(self) -> None:
        """Forgets everything: the weights changed."""
        for books in (self.places_ST, self.known_S, self.ready_S, self.placed_S, self._holders_F):
            books[:] = 0
        self.busy_S[:] = False
        self._spare_F = np.arange(self.budget, 0, -1)
        self._spares = self.budget

    def _common(self, tokens_T: Integers) -> Integers:
        """Returns how many of these tokens each slot begins with, [S]; slots drop out where they differ."""
        length = len(tokens_T)
        common_S = np.zeros_like(self.known_S)
        alive = np.flatnonzero(self.known_S)
        start, stop = 0, _FIRST_STRETCH
        while len(alive) and start < length:
            same_AT = self.tokens_ST[alive, start:stop][:, : length - start] == tokens_T[None, start:stop]
            equal_A = np.where(same_AT.all(axis=1), same_AT.shape[1], same_AT.argmin(axis=1))
            common_S[alive] += equal_A
            alive = alive[(equal_A == stop - start) & (self.known_S[alive] > stop)]
            start, stop = stop, 2 * stop
        return np.minimum(common_S, self.known_S)

    def _slot_for(self, source: int, cached: int) -> int:
        """Returns the slot a request may have: the one it continues, or the least recently used idle one."""
        if not self.busy_S[source] and cached > 0 and cached == self.ready_S[source]:
            return source
        idle = np.flatnonzero(~self.busy_S)
        return int(idle[np.argmin(self.placed_S[idle])])

    def _make_room(self, count: int) -> bool:
        """Drops idle sequences until this many places are free; False if there are still too few."""
        while self._spares < count:
            idle = np.flatnonzero(~self.busy_S & (self.known_S > 0))
            if not len(idle):
                return False
            oldest = int(idle[np.argmin(self.placed_S[idle])])
            self._release(oldest, 0)
            self.placed_S[oldest] = 0
        return True

    def _extend(self, slot: int, tokens_F: Integers) -> None:
        start = int(self.known_S[slot])
        stop = start + len(tokens_F)
        places_F = self._spare_F[self._spares - len(tokens_F) : self._spares][::-1]
        self._spares -= len(tokens_F)
        self._holders_F[places_F] = 1
        self.tokens_ST[slot, start:stop], self.places_ST[slot, start:stop] = tokens_F, places_F
        self.known_S[slot] = stop

    def _release(self, slot: int, keep: int) -> None:
        """Releases a slot's tokens except the first `keep`."""
        known = int(self.known_S[slot])
        places_F = self.places_ST[slot, keep:known].copy()
        self._holders_F[places_F] -= 1
        gone = places_F[self._holders_F[places_F] == 0]
        self._spare_F[self._spares : self._spares + len(gone)] = gone
        self._spares += len(gone)
        self.places_ST[slot, keep:known] = 0
        self.known_S[slot] = keep
        self.ready_S[slot] = min(int(self.ready_S[slot]), keep)
