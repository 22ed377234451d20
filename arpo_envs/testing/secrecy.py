"""Whether a tool that runs a model's code keeps what makes the answers out of its reach."""

from collections.abc import Iterator

from ..members import MIXED, SECRETS
from .bench import Bench
from .laws import Law
from .report import Finding, SkippedLaw
from .scripts import speaking

_CODE = "code"
"""The text parameter of a tool that runs Python."""
_TRY = """
try:
    import {0}
    print("within " + "reach")
except BaseException:
    pass
"""
_HINT = "Show a session only the packages that it needs; PythonTool does, except for those that its `imports` name."


def out_of_reach(bench: Bench) -> Iterator[Finding]:
    """No tool that runs code can import the modules that the source of tasks names as its `secrets`."""
    with bench.env() as env:
        base = speaking(env)
        if base is None:
            raise SkippedLaw("it is not a ToolEnv that takes text")
        if MIXED.of(base):
            raise SkippedLaw("it is a mixture: check each of its environments by itself")
        secrets = tuple(SECRETS.of(base.tasks))
        tools = [spec.name for spec in base.tool_specs if spec.text_parameter == _CODE]
        if not tools or not secrets:
            raise SkippedLaw("no tool runs code" if not tools else "its source of tasks names no secrets")
        for name in tools:
            for module in secrets:
                env.reset(seed=bench.seeds[0])
                observation, *_ = env.step(base.dialect.call(name, {_CODE: _TRY.format(module)}))
                if "within reach" in str(observation):
                    yield Finding(Law.SECRETS, f"a cell of {name!r} imported {module!r}", "an ImportError", _HINT)
