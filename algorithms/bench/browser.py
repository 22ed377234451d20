"""`arpo bench browser`: what a page costs when it is opened for the first time and again, a whole site's index, and a clone.

Each part runs in a process of its own, with an empty cache: the browser and the index keep what they have once read. The ratios
that have bounds say that what is kept is worth keeping, and that a fork is cheaper than the page it saves.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError, Task
from arpo_envs.tasks.world import load_world
from arpo_envs.tools.browser import BrowserSession, BrowserTool, FolderSite, WorldSite

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent

DOCUMENTATION = ("/usr/share/doc/postgresql-doc-15/html", "/usr/share/doc/python3.11/html")
"""Where Debian's packages postgresql-doc-15 and python3.11-doc have their pages."""
BOUNDS = {"again_over_first": Bound("≤", 0.5), "clone_over_first": Bound("≤", 0.1)}

_PROGRAM = "import json, sys; from {module} import {part}; print(json.dumps({part}(*json.loads(sys.argv[1]))))"
_SHOWN = 20
"""Pages that a session has opened when it is cloned."""


@dataclass(frozen=True)
class BrowserBench:
    """Measure the browser: on documentation that Debian ships if it is installed, otherwise on the built-in world."""

    folder: Path | None = None
    """Folder of HTML to measure on. By default that of the package postgresql-doc-15 or python3.11-doc if one is installed."""
    world: bool = False
    """Measure on the built-in world, whatever is installed."""
    pages: int = 500
    """Pages to open, spread over the whole site."""
    clones: int = 2000
    """Clones of a session."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the options."""
        for name in ("pages", "clones"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.world and self.folder is not None:
            raise ConfigError("--world and --folder exclude each other: leave one of them out.")

    @property
    def site(self) -> str:
        """The folder to measure on; "" for the built-in world."""
        if self.world or self.folder is not None:
            return "" if self.world else str(self.folder)
        return next((place for place in DOCUMENTATION if Path(place).is_dir()), "")


def measure(config: BrowserBench, say: Say = silent) -> dict[str, Value]:
    """Returns times, megabytes and ratios between times, flat.

    `start_ms`: the very first page, with all that it starts. `first_…` and `again_…`: other pages, each opened twice in a row.
    `index_s`: until a search of the whole site returns, for the first time and from what was kept then. The memory is that by
    which the process grew; a process that reads pages of strangers is not counted.
    """
    site = config.site
    if site:
        FolderSite(site, show_progress=False)  # a mistake is to be said here, and in its own words
    found: dict[str, Any] = {"site": _title(site)}
    with tempfile.TemporaryDirectory() as cache:
        say("pages …")
        found |= _in_a_process("open_pages", cache, site, config.pages, config.clones)
        if not found["pages"]:
            raise ConfigError(f"Fewer than two pages of {site} can be read, so nothing can be compared. Name another folder.")
        say("index …")
        for name in ("index", "index_again"):
            found |= {f"{name}_{unit}": value for unit, value in _in_a_process("search", cache, site).items()}
    found["again_over_first"] = found["again_p50_ms"] / found["first_p50_ms"]
    found["clone_over_first"] = found["clone_us"] / 1e3 / found["first_p50_ms"]
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def _title(site: str) -> str:
    place = Path(site)
    return (place.parent.name if place.name == "html" else place.name) if site else "the built-in world"


def _in_a_process(part: str, cache: str, *arguments: Any) -> dict[str, Any]:
    """Returns what a function of this file returns in a fresh interpreter with a cache of its own."""
    program = _PROGRAM.format(module=__name__, part=part)
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    done = subprocess.run(command, env=os.environ | {"ARPO_ENVS_CACHE": cache}, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def open_pages(site: str, pages: int, clones: int) -> dict[str, float]:
    """Returns what it costs to open pages of a site, and to clone a session that did.

    Args:
        site: the folder; "" for the built-in world.
        pages: how many, at most.
        clones: how many.
    """
    source, urls = _site_and_urls(site)
    urls = [urls[int(at)] for at in np.linspace(0, len(urls) - 1, min(pages + 1, len(urls)))]
    tool = BrowserTool(source, search=False)
    start, _ = _opened(_session(tool), urls[0])
    before, first, again, unreadable = _resident(), [], [], 0
    for url in urls[1:]:
        session = _session(tool)
        seconds, is_page = _opened(session, url)
        if is_page:
            first.append(1e3 * seconds)
            again.append(1e3 * _opened(session, url)[0])
        else:
            unreadable += 1
    if not first:
        return {"pages": 0}
    found = {"pages": len(first), "unreadable": unreadable, "start_ms": 1e3 * start, "pages_mb": _resident() - before}
    for name, times in (("first", first), ("again", again)):
        found |= {f"{name}_p{part}_ms": float(np.percentile(times, part)) for part in (50, 99)}
    return found | {"clone_us": 1e6 * _seconds_per_clone(tool, urls, clones)}


def search(site: str) -> dict[str, float]:
    """Returns the seconds until a first search of a site returns, and the memory that it takes."""
    source, _ = _site_and_urls(site)
    before, began = _resident(), time.perf_counter()
    source.search("index", 5, timeout=3600.0)
    return {"s": time.perf_counter() - began, "mb": _resident() - before}


def _site_and_urls(site: str) -> tuple[FolderSite | WorldSite, Sequence[str]]:
    if not site:
        world = WorldSite(load_world())
        return world, [world.url(entity) for entity in range(len(world.world.ids))]
    folder = FolderSite(site, show_progress=False)
    return folder, [folder.url(path) for path in folder.paths]


def _session(tool: BrowserTool) -> BrowserSession:
    return tool.open(Task("page", "Which page?", ("",)), np.random.default_rng(0))


def _opened(session: BrowserSession, url: str) -> tuple[float, bool]:
    """Returns the seconds that opening a page took, and whether there was one."""
    began = time.perf_counter()
    result = session.call("browser.open", {"id": url}, timeout=60.0)
    return time.perf_counter() - began, result.error is None


def _seconds_per_clone(tool: BrowserTool, urls: Sequence[str], count: int) -> float:
    session = _session(tool)
    for url in urls[:_SHOWN]:
        _opened(session, url)
    began = time.perf_counter()
    for _ in range(count):
        session.clone(1)
    return (time.perf_counter() - began) / count


def _resident() -> float:
    """Returns the megabytes that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    title = f"{record['pages']} pages of {record['site']}, {record['unreadable']} others unreadable"
    shown = Table(title=Text(title), title_justify="left")
    for heading in ("", "p50", "p99", "ratio", "bound"):
        shown.add_column(heading, justify="right" if heading else "left")
    rows = {"a page for the first time, ms": ("first", None), "  and again": ("again", "again_over_first")}
    for label, (name, ratio) in rows.items():
        times = [f"{record[f'{name}_p{part}_ms']:.2f}" for part in (50, 99)]
        shown.add_row(label, *times, *_ratio(record, ratio))
    shown.add_row("a clone of a session, µs", f"{record['clone_us']:.1f}", "", *_ratio(record, "clone_over_first"))
    shown.add_section()
    shown.add_row("the very first page, ms", f"{record['start_ms']:.0f}")
    shown.add_row("memory of the pages, MB", f"{record['pages_mb']:.1f}")
    for label, name in (("the index", "index"), ("  and again, from the cache", "index_again")):
        shown.add_row(f"{label}, s", f"{record[f'{name}_s']:.2f}")
        shown.add_row("  its memory, MB", f"{record[f'{name}_mb']:.0f}")
    return shown


def _ratio(record: Mapping[str, Value], name: str | None) -> tuple[Text, Text]:
    return (Text(), Text()) if name is None else BOUNDS[name].cells(float(record[name] or 0.0), "×")


BENCHMARK = Benchmark(BrowserBench, measure, table, BOUNDS, check=BrowserBench(world=True, pages=100, clones=500))
