"""`arpo bench page`: how long a run's page takes in headless Chromium, from `arpo view` and from `arpo report`.

The trees are those of a few collected ones, repeated. The ratios that have bounds say that a page loads what is looked at: a
tree of a long run opens as fast as one of a short run.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from arpo_envs import ArpoError, ConfigError

from .. import seeds
from ..cli.environments import env_maker
from ..cli.results import Value
from ..cli.view import ViewConfig, serving
from ..cli.viewer import PageServer
from ..cli.watched import Watched
from ..metrics import summarise
from ..policies.scripted import ScriptedPolicy
from ..recipes import make
from ..rendering.text import ScriptedRenderer
from ..rollout import Start, collect
from ..tracking.trees import write_trees
from ..tree import RolloutTree
from .bounds import Bound
from .check import Benchmark, NotInstalled, Say, silent

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Kind = Literal["begun", "view", "report"]
KINDS: dict[Kind, str] = {
    "begun": "arpo view, just begun",
    "view": "arpo view, all trees read",
    "report": "the file of arpo report",
}
MEASURES = {"paint": "first paint", "drawn": "a tree is drawn", "open": "a click opens another"}
BOUNDS = {"view_open_growth": Bound("≤", 2.0), "report_open_growth": Bound("≤", 2.0)}
"""From the shortest run to the longest. A page that read every tree would take many times as long."""
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_PROMPTS = 16
"""Of a step; as many trees differ."""

_SCRIPT = """(() => {
const tree = () => document.querySelector("#tree .tree"), fault = () => document.querySelector("#tree .fault");
const since = (before) => new Promise((done, refuse) => {
  const began = performance.now();
  const watch = new MutationObserver(() => {
    if (fault()) refuse(Error(fault().textContent));
    if (!tree() || tree() === before) return;
    watch.disconnect();
    const end = () => done({ at: performance.now(), took: performance.now() - began });
    requestAnimationFrame(() => requestAnimationFrame(end));
  });
  watch.observe(document, { childList: true, subtree: true });
  setTimeout(() => refuse(Error("A tree was not drawn within a minute.")), 60000);
});
const first = since(null);
const paint = new Promise((done) => new PerformanceObserver((list) => {
  for (const one of list.getEntriesByName("first-contentful-paint")) done(one.startTime);
}).observe({ type: "paint", buffered: true }));
window.bench = {
  begin: async () => [await paint, (await first).at],
  known: async (leaves) => {
    const said = () => document.querySelector("header").textContent;
    while (!said().includes(` ${leaves} leaves`)) await new Promise((done) => setTimeout(done, 20));
  },
  open: async (click) => {
    const opened = since(tree());
    click();
    return (await opened).took;
  },
  point: (share) => bench.open(() => {
    const chart = document.querySelector(".chart"), box = chart.getBoundingClientRect();
    chart.dispatchEvent(new MouseEvent("click", { clientX: box.left + share * box.width }));
  }),
  prompt: () => bench.open(() => [...document.querySelectorAll(".prompt")].at(-1).click()),
};
})();"""
"""Times within the page, each until a frame with the tree has been painted and the next one begins."""


@dataclass(frozen=True)
class PageBench:
    """Measure the page of a run in Chromium: its first paint, and how long a tree takes to open."""

    trees: tuple[int, ...] = (500, 10_000)
    """Trees of each run, the smallest number first."""
    repeats: int = 10
    """How often each page is loaded."""
    opened: int = 6
    """Trees opened each time, spread over the run: points of the curve and prompts of their steps in turn."""
    chromium: Path | None = None
    """Program to use (default: one that is installed, or else Playwright's own)."""
    seed: int = 1
    """Seed of the trees."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not self.trees or min(self.trees) < 1 or list(self.trees) != sorted(set(self.trees)):
            raise ConfigError(f"trees must be numbers from 1 on, each larger than the one before; got {self.trees}.")
        for name in ("repeats", "opened"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class _Times:
    """Milliseconds of one page."""

    paint: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    open: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    """A stored run, and where its report is."""

    folder: Path
    leaves: int

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


def measure(config: PageBench, say: Say = silent) -> dict[str, Value]:
    """Returns milliseconds, flat, and how the time to open a tree grows from the shortest run to the longest.

    For each kind of page K and N trees: `K_paint_ms_N`, until something is seen; `K_drawn_ms_N`, until the first tree is;
    `K_open_ms_N`, from a click to the tree. These are medians, and `K_paint_worst_ms_N` and so on are the worst.
    `report_trees_N`: those that the file has room for.

    Raises:
        NotInstalled: there is no Playwright, or no Chromium.
        ArpoError: the page does not show its trees.
    """
    found: dict[str, Value] = {"trees": ",".join(map(str, config.trees)), "repeats": config.repeats, "opened": config.opened}
    say("collecting trees …")
    sample = _collected(config.seed)
    with tempfile.TemporaryDirectory(prefix="arpo-bench-") as home, _chromium(config.chromium) as browser:
        found["chromium"] = browser.version
        for count in config.trees:
            say(f"writing {count:,} trees …")
            run = _written(sample, count, Path(home) / str(count))
            say(f"{count:,} trees, arpo report …")
            _report(run)
            _load(browser, run.report.as_uri(), _Times(), opened=1)  # people's browsers have long been running
            for kind in KINDS:
                say(f"{count:,} trees, {KINDS[kind]} …")
                times = _of_kind(kind, run, browser, config)
                for name, taken in vars(times).items():
                    found[f"{kind}_{name}_ms_{count}"] = round(median(taken), 1)
                    found[f"{kind}_{name}_worst_ms_{count}"] = round(max(taken), 1)
            report = run.report.read_text(encoding="utf-8")
            found |= {f"report_trees_{count}": report.count('id="tree-'), f"report_mb_{count}": round(len(report) / 1e6, 1)}
    first, last = config.trees[0], config.trees[-1]
    for name in BOUNDS:
        what = name.removesuffix("_growth")
        found[name] = round(float(found[f"{what}_ms_{last}"] or 0) / float(found[f"{what}_ms_{first}"] or 0), 3)
    return found


@contextmanager
def _chromium(program: Path | None) -> Iterator["Browser"]:
    """Gives a headless browser; what goes wrong in it is said in its own words.

    Raises:
        NotInstalled: there is no Playwright, or no Chromium.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError as error:
        raise NotInstalled("arpo bench page needs Playwright: pip install playwright") from error
    try:
        with sync_playwright() as running:
            names = [shutil.which(name) for name in _PROGRAMS] if program is None else [str(program)]
            own = running.chromium.executable_path if program is None else None
            path = next((name for name in (*names, own) if name is not None and Path(name).is_file()), None)
            if path is None:
                where = "" if program is None else f", and {program} is not a file"
                raise NotInstalled(
                    f"arpo bench page needs Chromium{where}: playwright install --with-deps chromium, or your system's package"
                )
            browser = running.chromium.launch(executable_path=path)
            yield browser
            browser.close()
    except Error as error:
        raise ArpoError(f"Chromium failed: {error.message}") from error


def _collected(seed: int) -> list[RolloutTree]:
    """Returns the trees of one step, from a script that searches up to three times and is more or less certain."""

    def script(before: str, seed: int) -> str:
        return f"<search>{seed % 1000}</search>" if before.count("</result>") < seed % 4 else "<answer>unknown</answer>"

    def entropy(before: str, seed: int) -> list[float]:
        return [seed % 7 / 2] * 8

    starts = [Start(seeds.derive("bench page", seed, number) % 2**31) for number in range(_PROMPTS)]
    policy, renderer = ScriptedPolicy(script, entropy), ScriptedRenderer()
    return asyncio.run(collect(env_maker("ARPO/SearchMini-v0", {}), starts, policy, renderer, make("arpo"), seed=seed))


def _written(sample: Sequence[RolloutTree], count: int, folder: Path) -> _Run:
    """Writes a run of so many trees."""
    folder.mkdir()
    trees = [sample[number % len(sample)] for number in range(count)]
    write_trees(
        folder / "trees.jsonl.zst",
        (replace(tree, meta={**tree.meta, "step": number // _PROMPTS}) for number, tree in enumerate(trees)),
    )
    metrics, rng = summarise(sample), seeds.generator("bench page", count)
    steps = ({**metrics, "step": step, "success": rng.random()} for step in range(-(-count // _PROMPTS)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in steps), encoding="utf-8")
    return _Run(folder, sum(len(tree.leaves()) for tree in trees))


def _report(run: _Run) -> None:
    """Writes the report of a run, as a command would."""
    command = [sys.executable, "-m", "algorithms.cli", "report", str(run.folder), "--output", str(run.report)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _of_kind(kind: Kind, run: _Run, browser: "Browser", config: PageBench) -> _Times:
    """Loads a page again and again; one that has just begun has a server of its own each time."""
    times = _Times()
    if kind == "report":
        for _ in range(config.repeats):
            _load(browser, run.report.as_uri(), times, config.opened)
    elif kind == "begun":
        for _ in range(config.repeats):
            with _answering(run.folder) as server:
                _load(browser, server.url, times, config.opened)
    else:
        with _answering(run.folder) as server:
            while server.run.look(1.0):
                pass
            for _ in range(config.repeats):
                _load(browser, server.url, times, config.opened, run.leaves)
    return times


@contextmanager
def _answering(folder: Path) -> Iterator[PageServer[Watched]]:
    with serving(ViewConfig(folder, port=0)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _load(browser: "Browser", url: str, times: _Times, opened: int, leaves: int | None = None) -> None:
    """Loads a page and opens trees in it, once it knows of so many leaves."""
    with browser.new_context() as context:
        context.add_init_script(_SCRIPT)
        page = context.new_page()
        page.goto(url)
        paint, drawn = page.evaluate("bench.begin()")
        times.paint.append(float(paint))
        times.drawn.append(float(drawn))
        if leaves is not None:
            page.evaluate(f"bench.known({leaves})")
        for number in range(opened):
            point = f"bench.point({(number + 0.5) / opened})"
            times.open.append(float(page.evaluate("bench.prompt()" if number % 2 else point)))


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    counts = [int(count) for count in str(record["trees"]).split(",")]
    shown = Table(title="The run's page, ms: median (worst)", title_justify="left", caption_justify="left")
    shown.add_column("")
    for count in counts:
        shown.add_column(f"{count:,} trees", justify="right")
    shown.add_column("growth", justify="right")
    shown.add_column("bound", justify="right")
    for kind, title in KINDS.items():
        shown.add_row(Text(title, "bold"))
        for name, label in MEASURES.items():
            cells = [f"{record[f'{kind}_{name}_ms_{n}']:.0f} ({record[f'{kind}_{name}_worst_ms_{n}']:.0f})" for n in counts]
            growth = f"{kind}_{name}_growth"
            bounded = BOUNDS[growth].cells(float(record[growth] or 0.0), "×") if growth in BOUNDS else ("", "")
            shown.add_row(f"  {label}", *cells, *bounded)
    files = [f"{record[f'report_trees_{n}']:,} of {n:,} trees ({record[f'report_mb_{n}']} MB)" for n in counts]
    shown.caption = Text(f"Chromium {record['chromium']}, headless. The files have {', '.join(files)}.")
    return shown


BENCHMARK = Benchmark(PageBench, measure, table, BOUNDS, check=PageBench(trees=(32, 256), repeats=2, opened=4))
