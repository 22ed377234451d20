r"""ARPO's prompt, as its authors evaluate with it.

The wording for `search`, for `python`, for both and for no tool is theirs, to the letter. Another tool takes its place in the
same sentences under its own name, and is explained below them. Our checkers read answers in `\boxed{}`.
"""

from collections.abc import Sequence

from ..arguments import example
from ..dialects import Dialect
from ..tools.spec import ToolSpec
from .prompt import Prompt, more_tools, require_tags

_TITLES = {"search": "wikipedia search tool", "python": "python interpreter tool"}
_PURPOSES = {"search": "wikipedia search tool to search", "python": "python interpreter tool to calculate the math problem"}
_SHOWN = {
    "search": "<search> search query here </search> <result> search result here </result>",
    "python": "<python> python code here </python> <result> python interpreter result here </result>",
}
_THOUGHT = "<think> This is the reasoning process. </think>"


def _write(own: str, dialect: Dialect, specs: Sequence[ToolSpec]) -> str:
    tags, names = require_tags(PAPER.name, dialect), [spec.name for spec in specs]
    titles = " and ".join(_TITLES.get(name, f"{name} tool") for name in names)
    purposes = " and ".join(_PURPOSES.get(name, f"{name} tool") for name in names)
    wanted = "the reasoning process in the mind and then provide the answer."
    told = [
        "You are a helpful assistant that can solve the given question step by step"
        + (f" with the help of the {titles}." if specs else "."),
        f"Given a question, you need to first think about {wanted}",
    ]
    if specs:
        told.append(f"During thinking, you can invoke the {purposes} for fact information about specific topics if needed.")
    enclosed = "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags respectively"
    pairs = ", and the search query and result are enclosed within <search> </search> and <result> </result> tags respectively"
    shown = [f"{_THOUGHT} {_SHOWN.get(spec.name) or _call(spec)}" for spec in specs]
    told += [
        enclosed + (pairs if "search" in names else "") + ".",
        " ".join(["For example,", *shown, _THOUGHT, r"<answer> The final answer is \[ \boxed{answer here} \] </answer>."]),
        r"In the last part of the answer, the final exact answer is enclosed within \boxed{} with latex format.",
    ]
    return " ".join(told) + more_tools(tags, specs, tuple(_TITLES))


def _call(spec: ToolSpec) -> str:
    """Returns how a tool that the paper does not have stands in its example."""
    body = f"{spec.text_parameter} here" if spec.text_parameter is not None else example(spec)
    return f"<{spec.name}> {body} </{spec.name}> <result> {spec.name} result here </result>"


PAPER = Prompt("paper", "github.com/RUC-NLPIR/ARPO, evaluation/src/prompt_manager.py; arXiv 2507.19849", _write)
