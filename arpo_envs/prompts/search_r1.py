"""Search-R1's prompt, without its last word "Question:": the question is a message of its own here.

One tag differs: our results come between `<result>` and `</result>`, theirs between `<information>` and `</information>`.
"""

from collections.abc import Sequence

from ..dialects import Dialect
from ..errors import ConfigError
from ..tools.spec import ToolSpec
from .prompt import Prompt, more_tools, require_tags

_TEXT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <result> and </result>. You can search as many times as "
    "your want. If you find no further external knowledge needed, you can directly provide the answer inside <answer> and "
    "</answer>, without detailed illustrations. For example, <answer> Beijing </answer>."
)


def _write(own: str, dialect: Dialect, specs: Sequence[ToolSpec]) -> str:
    tags, names = require_tags(SEARCH_R1.name, dialect), [spec.name for spec in specs]
    if "search" not in names:
        has = f"has only {', '.join(names)}" if names else "has no tool"
        raise ConfigError(
            f"The prompt {SEARCH_R1.name!r} is about a tool called search, but this environment {has}. Choose the prompt "
            "'paper' or 'ours'."
        )
    return _TEXT + more_tools(tags, specs, ("search",))


SEARCH_R1 = Prompt(
    "search-r1", "github.com/PeterGriffinJin/Search-R1, scripts/data_process/nq_search.py; arXiv 2503.09516", _write
)
