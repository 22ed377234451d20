"""Randomness as a function: every draw is named by where it happens, never by when."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def derive(*parts: int | str | tuple[int, ...]) -> int:
    """Returns a 63-bit seed that depends on `parts` alone.

    >>> derive(7, "branch", (0, 1)) == derive(7, "branch", (0, 1)) != derive(7, "branch", (0, 2))
    True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: int | str | tuple[int, ...]) -> np.random.Generator:
    """Returns a fresh generator seeded by `derive(*parts)`."""
    return np.random.default_rng(derive(*parts))


def uniforms(seeds_B: NDArray[np.uint64], positions_B: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Returns one number in [0, 1) per row that depends on its (seed, position) only.

    Sampling by these makes a token independent of the batch it was decoded in, and makes k tokens
    followed by the rest equal to one call.

    Args:
        seeds_B: [B] seeds.
        positions_B: [B] positions of the token within its action.

    Source: the finaliser of splitmix64 (Steele et al., 2014), applied twice to decorrelate neighbours.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        mixed_B = _mix(_mix(seeds_B + golden) ^ ((positions_B + np.uint64(1)) * golden))
    return (mixed_B >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
