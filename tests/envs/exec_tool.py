"""A tool `python` that runs cells in this very process: a double of the sandboxed one, for trusted code alone."""

import ast
import contextlib
import copy
import io
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from arpo_envs.errors import CloneError
from arpo_envs.forking import ForkLevel
from arpo_envs.tasks import Task
from arpo_envs.tools import Session, ToolResult, ToolSpec
from arpo_envs.tools.python import EXAMPLES

SPEC = ToolSpec(
    "python",
    "Runs Python code.",
    {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    examples=tuple(example for example in EXAMPLES if "random" not in example["code"]),  # this process's is not ours to use
)


class ExecSession:
    """A namespace in which cells are run; the value of a last expression is shown."""

    def __init__(self, names: dict[str, Any] | None = None) -> None:
        self.names = {"__name__": "__main__"} if names is None else names

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        output = io.StringIO()
        try:
            tree = ast.parse(str(arguments["code"]))
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            with contextlib.redirect_stdout(output):
                exec(compile(tree, "<cell>", "exec"), self.names)  # noqa: S102
                if last is not None:
                    assert isinstance(last, ast.Expr)
                    value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), self.names)
                    if value is not None:
                        output.write(repr(value))
        except Exception as error:
            return ToolResult(f"{type(error).__name__}: {error}", "error")
        return ToolResult(output.getvalue().strip())

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        def copied(value: Any) -> Any:
            kept = isinstance(value, types.ModuleType | types.FunctionType | type)
            return value if kept else copy.deepcopy(value)

        shared = {"__builtins__"}
        return [
            ExecSession({name: value if name in shared else copied(value) for name, value in self.names.items()})
            for _ in range(n)
        ]

    def reseed(self, seed: int) -> None:
        """There is no randomness."""

    def close(self) -> None:
        """There is nothing to free."""


class ExecTool:
    """Opens namespaces."""

    specs = (SPEC,)
    fork_level = ForkLevel.EXACT

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        return ExecSession()
