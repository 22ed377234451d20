"""Dense retrieval: documents and queries become vectors, by a model of the user's, and inner products rank."""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import ConfigError, ToolFault
from ...plugins import imported
from ...tasks.world import Document, cache_directory
from .products import best, require_backend
from .vectors import Embed, Vectors, embedded, vectors_of

PREFIX = "dense:"
"""What the name of an embedder begins with, where an engine is named."""
NAMED = f"{PREFIX}package.module:embed"
_FORMAT = 1
"""Of kept vectors."""


@dataclass(frozen=True)
class DenseEngine:
    """Ranks documents by the inner products of their vectors with a query's.

    Args:
        embed: returns the vectors of texts as an array [N, H], such as `model.encode` of sentence-transformers.
        queries: does so for queries, where a model distinguishes them; default `embed`.
        name: identifies the model with its version. Under it vectors are kept on disk and searches are recorded; without a name
            neither happens.
        normalise: divide vectors by their lengths, so that the cosine ranks.
        batch: texts that are embedded at once.
        backend: "numpy" or "faiss"; both find the same documents.

    Raises:
        ConfigError: an argument is unknown, out of range, or needs what is not installed.

    >>> import numpy as np
    >>> vowels = DenseEngine(lambda texts: np.array([[text.count(vowel) + 1 for vowel in "aeiou"] for text in texts]))
    >>> vowels.encode(["banana"])
    array([[4., 1., 1., 1., 1.]], dtype=float32)
    """

    embed: Embed
    queries: Embed | None = None
    name: str = ""
    normalise: bool = False
    batch: int = 256
    backend: str = "numpy"
    _turn: Any = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if not callable(self.embed) or not (self.queries is None or callable(self.queries)):
            raise ConfigError("embed and queries of a DenseEngine are functions from a list of texts to an array [N, H].")
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1, got {self.batch}.")
        require_backend(self.backend)

    @property
    def identity(self) -> str:
        """What distinguishes its results from those of another engine; "" if nothing does."""
        return self.name and f"dense({self.name}{', normalised' * self.normalise})"

    @property
    def stamp(self) -> str:
        """The part of kept files' names that says whose vectors they are; "" if they are not to be kept."""
        return self.name and hashlib.blake2b(f"{_FORMAT} {self.identity}".encode(), digest_size=8).hexdigest()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns the vectors of documents, [N, H]; calls from several threads take turns.

        Raises:
            ConfigError: `embed` fails, or what it returns cannot be used.
        """
        with self._turn:
            return embedded(self.embed, texts, self._called, normalise=self.normalise)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Returns the vectors of queries, [N, H]; a model may write what has a zero vector.

        Raises:
            ToolFault: the function fails, or what it returns cannot be used.
        """
        with self._turn:
            try:
                return embedded(self.queries or self.embed, texts, self._called, normalise=self.normalise, zero=True)
            except ConfigError as error:
                raise ToolFault(str(error)) from error

    @property
    def _called(self) -> str:
        return f"The embedder {self.name or self.embed!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "DenseEngine":
        """Returns itself: a model is shared, as its vectors are."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles its arguments."""
        return type(self), (self.embed, self.queries, self.name, self.normalise, self.batch, self.backend)


def is_dense(engine: object) -> bool:
    """Whether an engine is an embedder, or the name of one."""
    return isinstance(engine, DenseEngine) or (isinstance(engine, str) and engine.startswith(PREFIX))


def dense_engine(engine: DenseEngine | str) -> DenseEngine:
    """Returns an engine, or the one that a name stands for: "dense:package.module:object", a function or a `DenseEngine`.

    Raises:
        ConfigError: there is no such object, or it is neither.
    """
    if isinstance(engine, DenseEngine):
        return engine
    reference = engine.removeprefix(PREFIX)
    found = imported(reference, f"The embedder {reference}")
    if isinstance(found, DenseEngine):
        return found if found.name else replace(found, name=reference)
    if hasattr(found, "encode"):
        raise ConfigError(f"The embedder {reference} is a {type(found).__name__}. Name its function: {engine}.encode")
    if not callable(found):
        raise ConfigError(f"The embedder {reference} is a {type(found).__name__}. Expected a function or a DenseEngine.")
    return DenseEngine(found, name=reference)


class VectorRanking:
    """Ranks documents by the inner products of vectors alone, and by their order where these are equal.

    Args:
        documents: what can be found.
        key: a name for their content, under which vectors are kept on disk if the engine has a name too; None to keep none.
        engine: makes the vectors.

    Raises:
        ConfigError: there are no documents, or the engine has no usable vector for one of them.

    Attributes:
        identity: what ranks, by the name that the user gave it.
    """

    def __init__(self, documents: Sequence[Document], key: str | None, engine: DenseEngine) -> None:
        if not len(documents):
            raise ConfigError("There are no documents. Dense retrieval needs at least one.")
        self.identity = engine.identity
        self._engine = engine
        path = cache_directory() / f"vectors-{key}-{engine.stamp}.npy" if key and engine.stamp else None
        self._vectors, self._longest = vectors_of(documents, engine.encode, engine.batch, path)

    def rank(self, queries: Sequence[str], count: int) -> list[list[int]]:
        """Returns the numbers of the best documents for each query; one that is blank or has the zero vector finds nothing.

        Raises:
            ToolFault: the engine fails.
        """
        texts = [query.encode("utf-8", "replace").decode() for query in queries]
        asked = [place for place, text in enumerate(texts) if text.strip()]
        found: list[list[int]] = [[] for _ in texts]
        if not asked:
            return found
        vectors = self._engine.encode_queries([texts[place] for place in asked])
        if vectors.shape[1] != self._vectors.shape[1]:
            raise ToolFault(
                f"A query's vector has {vectors.shape[1]} numbers, a document's {self._vectors.shape[1]}. "
                "The two functions of a DenseEngine must be of one model."
            )
        some = np.flatnonzero(vectors.any(axis=1))
        ranked = best(self._vectors, vectors[some], count, length=self._longest, backend=self._engine.backend)
        for one, numbers in zip(some, ranked, strict=True):
            found[asked[one]] = numbers
        return found
