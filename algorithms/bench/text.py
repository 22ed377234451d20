"""`arpo bench text`: how the time for parsing and checking grows with the length of what a hostile model or page writes.

Twice the length should take twice the time: 2 is linear, 4 is quadratic. It also measures what checking the usual answer to
a mathematical question costs, over an answer that is compared word by word: neither needs another process.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError, Task, ToolSpec, make_dialect
from arpo_envs.rewards import check
from arpo_envs.tools.python import strip_fences

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent

BOUNDS = {"parse_growth": Bound("≤", 3.0), "check_growth": Bound("≤", 3.0), "math_over_text": Bound("≤", 8.0)}
"""Growth half-way between linear and quadratic; 5.5 to 6 were measured for the last."""

HOSTILE = (
    *("<", "< ", " ", "<think>", "<think></think>", "</think>", "<search", "<search>", "<tool_call>"),
    *(
        "<tool_call></tool_call>",
        "<tool_call></think>",
        "<tool_call>{</think>",
        "<search></think>",
        "<search></search></think>",
        "<tool_call>{</tool_call>",
        "<tool_call>{}</tool_call>",
        '<tool_call>{"',
        "<search>{</search>",
        "<search>{}</search>",
        "<think><search></think>",
    ),
    *("<a", "<ab>", "{", '{"name":', '"\\', "</", "\n", "é"),
)
"""Pieces that long texts are made of."""
PREFIXES = ("", "<", "<search>", '<tool_call>{"name": "', "<search>a</search>")
"""What long texts begin with."""

FENCED = (
    *(" ", "`", "~", "~~~\n", "```\n```\n", "```python\nx\n", "```python\n'''\n```\n"),
    '```\n"\'""""""\n```\n',  # opens a string from anywhere, and closes none
)
"""Pieces of long texts around code."""

_PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
_SEARCH = ToolSpec("search", "Searches.", _PARAMETERS)
_ANSWERS = ("x", "x ", "1", "1,", "1 ", "-", "(", "{", "^", "$", r"\frac{1}", r"\text{", "(A) ")
_KINDS = {"text": "5", "number": "5", "math": "5", "choice": "B"}
_USUAL = {
    "math": (Task("t", "?", ("204",), {"answer_type": "math"}), r"\boxed{205}"),
    "text": (Task("t", "?", ("Paris",)), "Rome"),
}


@dataclass(frozen=True)
class TextBench:
    """Measure how the time for parsing and checking grows with the length of a text."""

    length: int = 1 << 16
    """Characters of the shorter texts; the longer ones have four times as many."""
    rounds: int = 5
    """Rounds; the quickest counts."""
    calls: int = 2000
    """Usual answers per round."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("length", "rounds", "calls"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


def measure(config: TextBench, say: Say = silent) -> dict[str, Value]:
    """Returns the largest growth of any text, which text that was, and microseconds per usual answer, flat."""
    parsing, checking = _parsers(), _checkers()
    found: dict[str, Value] = {}
    for name, work in (("parse", parsing), ("check", checking)):
        say(f"{name} …")
        growth, worst = max((_growth(function, piece, config), label) for label, (function, piece) in work.items())
        found |= {f"{name}_growth": round(growth, 3), f"{name}_worst": worst}
    say("usual answers …")
    usual = {kind: min(_usual(kind, config.calls) for _ in range(config.rounds)) for kind in _USUAL}
    found |= {f"{kind}_us": round(microseconds, 2) for kind, microseconds in usual.items()}
    return found | {"math_over_text": round(usual["math"] / usual["text"], 3), "length": config.length}


def _parsers() -> dict[str, tuple[Callable[[str], object], str]]:
    """Returns the functions that read a model's or a page's text, each with a piece that such a text is made of."""

    def reader(name: str) -> Callable[[str], object]:
        dialect = make_dialect(name, (_SEARCH,))
        return lambda text: [(dialect.parse(prefix + text), dialect.neutralise(prefix + text)) for prefix in PREFIXES]

    def strip(text: str) -> object:
        return [strip_fences(f"{prefix}{text}!") for prefix in ("", "```", "```py")]

    written = {f"{name} {piece!r}": (reader(name), piece) for name in ("tags", "json") for piece in HOSTILE}
    return written | {f"code {piece!r}": (strip, piece) for piece in FENCED}


def _checkers() -> dict[str, tuple[Callable[[str], object], str]]:
    """Returns the functions that judge an answer, each with its type and a piece."""

    def judge(kind: str) -> Callable[[str], object]:
        task = Task("t", "?", (_KINDS[kind],), {"answer_type": kind, "options": ["Rome", "Paris"]})
        return lambda text: check(task, text)

    return {f"{kind} {piece!r}": (judge(kind), piece) for kind in _KINDS for piece in _ANSWERS}


def _growth(function: Callable[[str], object], piece: str, config: TextBench) -> float:
    """Returns by how much the time grows when a text becomes twice as long, on average over two such steps.

    In a single step it may jump, such as where texts become too long for the memory that is kept at hand. Both texts have an
    even number of pieces, so that they end alike.
    """
    pieces = 2 * max(1, config.length // (2 * len(piece)))
    texts = [piece * pieces, piece * (4 * pieces)]
    # in turns, as a processor may be slow for a while
    rounds = [[max(_NOTHING, _seconds(function, text)) for text in texts] for _ in range(config.rounds)]
    short, long = map(min, zip(*rounds, strict=True))
    return math.sqrt(long / short)


_NOTHING = 1e-3
"""Seconds that count as none: anything faster is refused or skipped at once, and its growth would be noise."""


def _seconds(function: Callable[[str], object], text: str) -> float:
    began = time.process_time()
    function(text)
    return time.process_time() - began


def _usual(kind: str, calls: int) -> float:
    """Returns microseconds per usual answer."""
    task, answer = _USUAL[kind]
    began = time.process_time()
    for _ in range(calls):
        check(task, answer)
    return 1e6 * (time.process_time() - began) / calls


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Growth when a text becomes twice as long", title_justify="left", caption_justify="left")
    for heading in ("", "ratio", "bound", "worst"):
        shown.add_column(heading, justify="right" if heading in ("ratio", "bound") else "left")
    for name, label in (("parse", "parse and neutralise"), ("check", "check an answer")):
        bound = BOUNDS[f"{name}_growth"]
        shown.add_row(label, *bound.cells(float(record[f"{name}_growth"] or 0.0), "×"), Text(str(record[f"{name}_worst"])))
    shown.add_section()
    ratio = "math_over_text"
    shown.add_row("usual number over a word", *BOUNDS[ratio].cells(float(record[ratio] or 0.0), "×"))
    shown.caption = Text(
        f"{record['length']:,} and four times as many characters. A usual number takes {record['math_us']} µs, a word "
        f"{record['text_us']} µs."
    )
    return shown


BENCHMARK = Benchmark(TextBench, measure, table, BOUNDS, check=TextBench(length=1 << 15, rounds=3, calls=300))
