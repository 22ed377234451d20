"""A model that needs no download: how often a text has each three letters, hashed into a vector."""

import os
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from arpo_envs.tasks.text import fold
from arpo_envs.tools.search import DenseEngine

WIDTH = 512


def embed(texts: Sequence[str]) -> NDArray[np.float64]:
    """Returns [N, 512]; "!" has the zero vector."""
    found = np.zeros((len(texts), WIDTH))
    for row, text in enumerate(texts):
        for word in fold(text).split():
            padded = f"<{word}>"
            for start in range(len(padded) - 2):
                found[row, crc32(padded[start : start + 3].encode()) % WIDTH] += 1
    return np.sqrt(found)


def logged(texts: Sequence[str]) -> NDArray[np.float64]:
    """Does the same, and writes down how many texts it was given."""
    with Path(os.environ["EMBEDDED"]).open("a") as log:
        log.write(f"{len(texts)}\n")
    return embed(texts)


class Model:
    """A model as sentence-transformers has them."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Returns [N, 512]."""
        return embed(texts)

    def __call__(self, texts: Sequence[str]) -> None:
        """Stands for what a torch module does when it is called: something else."""
        raise AssertionError("it is not for texts")


model = Model()
cosine = DenseEngine(embed, normalise=True)
number = 7
