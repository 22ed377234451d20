"""The tool `search` on the live web: any engine that answers with JSON, described by data.

An engine is a file like those in `live_engines/`: what to send, and where the results are in what comes back. In every string
of `url`, `headers`, `query` and `body`, `{query}` stands for the query, `{query_in_url}` for the query as part of an address,
`{count}` for the number of results, and `{key}` for a secret, which is read from an environment variable at each call and is
in no file, record or message of this package.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np

from ...errors import ConfigError, ToolFault, unknown_name
from ...tasks import Task
from .. import Session, Stateless, ToolResult
from ..domains import ascii_names, is_within
from ..spec import ToolSpec
from .results import SPEC, asked_for, require_results, written
from .service import JsonService, TooSlow

_FOLDER = resources.files(__package__) / "live_engines"
LIVE_ENGINES = sorted(each.name.removesuffix(".json") for each in _FOLDER.iterdir() if each.name.endswith(".json"))
"""The engines that are described here."""
_MISSING = object()


@dataclass(frozen=True)
class LiveEngine:
    """How a search engine is asked, and what it answers.

    Args:
        name: what it is called in messages and identities.
        url: where the request goes.
        results: where the list of results is: names of fields, separated by dots.
        title: the field of a result with its title.
        link: the field with its address.
        text: the field with what it says.
        method: "GET" or "POST".
        headers: of the request.
        query: added to the URL.
        body: sent as JSON; None sends nothing.
        key: the environment variable with the secret; "" if there is none.

    Raises:
        ConfigError: the method is neither, or the key would be in an address, and so in logs.
    """

    name: str
    url: str
    results: str
    title: str = "title"
    link: str = "link"
    text: str = "snippet"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    key: str = ""

    def __post_init__(self) -> None:
        """Checks the method and where the key is."""
        if self.method not in ("GET", "POST"):
            raise ConfigError(f"{self.name}: method must be 'GET' or 'POST', got {self.method!r}.")
        if "{key}" in f"{self.url} {self.query}":
            raise ConfigError(f"{self.name}: put {{key}} into headers or body. Addresses end up in logs, and keys with them.")

    @classmethod
    def read(cls, name: str | Path) -> "LiveEngine":
        """Returns the engine of a name in `LIVE_ENGINES`, or of a JSON file.

        Raises:
            ConfigError: there is none, or the file is not such a description.
        """
        file = Path(name)
        if file.suffix.lower() != ".json":
            if str(name) not in LIVE_ENGINES:
                raise unknown_name("search engine", str(name), LIVE_ENGINES)
            return cls(name=str(name), **json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8")))
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"Cannot read {file}: {error.strerror or error}. Check the path.") from error
        except ValueError as error:
            raise ConfigError(f"{file} is not JSON ({error}).") from error
        known = {each.name for each in fields(cls)} - {"name"}
        if not isinstance(found, dict) or not {"url", "results"} <= found.keys() <= known:
            raise ConfigError(
                f"{file} does not describe a search engine. Needed: url, results. Possible: {', '.join(sorted(known))}."
            )
        return cls(name=file.stem, **found)


@dataclass(frozen=True)
class Found:
    """One result of a search on the web."""

    title: str
    text: str
    link: str

    @property
    def line(self) -> str:
        """What the model reads of it."""
        return f"{self.title}: {self.text} ({self.link})" if self.link else f"{self.title}: {self.text}"


class LiveSearchTool(Stateless):
    """The tool `search`: a search engine on the web, or any other behind HTTP.

    Args:
        engine: a `LiveEngine`, a name in `LIVE_ENGINES`, or the path of a JSON file.
        results: how many results a call returns, 1 to 50.
        blocked: domains whose pages are left out, those below them too; in an evaluation, those that publish the answers.

    Raises:
        ConfigError: the engine is unknown, a blocked domain is not a name, or httpx is not installed; when it is opened, also
            that its key is not in the environment: to replay a recording, there need be none.
    """

    def __init__(self, engine: LiveEngine | str | Path, *, results: int = 3, blocked: Sequence[str] = ()) -> None:
        require_results(results)
        self.engine = engine if isinstance(engine, LiveEngine) else LiveEngine.read(engine)
        self.results, self.blocked = results, ascii_names(blocked)
        self._service = JsonService(self.engine.url.partition("{")[0])

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another `search`: see `ToolEnv.identity`."""
        digest = hashlib.blake2b(json.dumps([asdict(self.engine), self.blocked], sort_keys=True).encode(), digest_size=6)
        return f"{self.engine.name}/{digest.hexdigest()}/{self.results}"

    @property
    def pure(self) -> Mapping[str, Any]:
        """What the results of a query depend on, as far as can be seen from here."""
        return {"engine": self.identity, "url": self.engine.url}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The one name `search`."""
        return (SPEC,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles without its connections, and without the key."""
        return _rebuilt, (type(self), self.engine, self.results, self.blocked)

    def __deepcopy__(self, memo: dict[int, Any]) -> "LiveSearchTool":
        """Returns itself: nothing in it ever changes."""
        return self

    def require_ready(self) -> None:
        """Raises `ConfigError` if the engine's key is not in the environment."""
        self._key()

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        """Returns the tool itself, if it has its key.

        Raises:
            ConfigError: it has none.
        """
        self.require_ready()
        return super().open(task, rng)

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Searches once; an engine that is still answering when the time is up is a result.

        Raises:
            ToolLost: the engine is gone, or gives no sign of life.
            ToolFault: it refuses, or answers something else.
        """
        query = asked_for(arguments)
        found = self.find(query, self.results, timeout=timeout)
        if found is None:
            return ToolResult(f"timed out after {timeout:g} s", "timeout")
        return written([each.line for each in found], query)

    def find(self, query: str, count: int, *, timeout: float) -> list[Found] | None:
        """Returns at most `count` results, those on blocked domains left out; None if it takes too long.

        Raises:
            ToolLost: the engine is gone, or gives no sign of life.
            ToolFault: it refuses, or answers something else.
        """
        query, engine = query.encode("utf-8", "replace").decode(), self.engine
        fill = partial(
            _filled,
            values={"{query}": query, "{query_in_url}": quote_plus(query), "{count}": str(count), "{key}": self._key()},
        )
        try:
            answer = self._service.ask(
                engine.method,
                timeout=timeout,
                url=fill(engine.url),
                headers=fill(engine.headers),
                query=fill(engine.query) or None,
                body=fill(engine.body),
            )
        except TooSlow:
            return None
        return [self._read(found) for found in self._found(answer) if not self._is_blocked(found)][:count]

    def _key(self) -> str:
        name = self.engine.key
        if name and not os.environ.get(name):
            raise ConfigError(f"The search engine {self.engine.name} needs a key. Put it into the environment variable {name}.")
        return os.environ[name] if name else ""

    def _found(self, answer: Any) -> list[Any]:
        found = _at(answer, self.engine.results)
        if found in (_MISSING, None) and isinstance(answer, dict):  # what engines write when there is nothing in the list
            return []
        if not isinstance(found, list):
            raise ToolFault(f"The search engine {self.engine.name} has no list at {self.engine.results!r} of its answer.")
        return found

    def _is_blocked(self, found: Any) -> bool:
        return is_within(_field(found, self.engine.link), self.blocked)

    def _read(self, found: Any) -> Found:
        return Found(*(_field(found, name) for name in (self.engine.title, self.engine.text, self.engine.link)))


def _field(found: Any, path: str) -> str:
    value = _at(found, path)
    return " ".join(value.split()) if isinstance(value, str) else ""


def _at(value: Any, path: str) -> Any:
    """Returns what is at names separated by dots."""
    for name in path.split("."):
        value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
    return value


def _filled(template: Any, *, values: Mapping[str, str]) -> Any:
    """Returns a template in which placeholders have become values; a string that is only "{count}" becomes a number.

    >>> _filled({"q": "{query} now", "num": "{count}"}, values={"{query}": "a {key}", "{count}": "3", "{key}": "secret"})
    {'q': 'a {key} now', 'num': 3}
    """
    if isinstance(template, Mapping):
        return {name: _filled(value, values=values) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [_filled(value, values=values) for value in template]
    if template == "{count}":
        return int(values["{count}"])
    if not isinstance(template, str):
        return template
    pieces, rest = [], template
    while rest:  # in one pass: what a query says is never taken for a placeholder
        at, name = min(((rest.find(name), name) for name in values if name in rest), default=(len(rest), ""))
        pieces += [rest[:at], values.get(name, "")]
        rest = rest[at + len(name) :]
    return "".join(pieces)


def _rebuilt(kind: type[LiveSearchTool], engine: LiveEngine, results: int, blocked: Sequence[str]) -> LiveSearchTool:
    return kind(engine, results=results, blocked=blocked)
