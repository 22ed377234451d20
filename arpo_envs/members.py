"""What environments, wrappers, tools and sessions may have and need not have, and what holds without it.

Each is asked for in one way: `MEMBER.of(owner)`, or `MEMBER.through(env)` where any layer of a stack may have it.
`docs/optional-members.md` lists them all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import gymnasium as gym

T = TypeVar("T")


@dataclass(frozen=True)
class Member(Generic[T]):
    """A member that an object may have.

    Args:
        name: of the attribute or method.
        usual: what holds without it.
        method: whether it is one; an attribute that cannot be called does not count then.

    >>> Member("limit", 7).of(object())
    7
    """

    name: str
    usual: T
    method: bool = False

    def of(self, owner: object) -> T:
        """Returns the member of an object, or what holds without it."""
        found = getattr(owner, self.name, self.usual)
        return found if callable(found) or not self.method else self.usual

    def own(self, layer: object) -> T:
        """Returns the member of a layer itself, or what holds without it: PettingZoo's wrappers forward what they lack."""
        return self.of(layer) if hasattr(type(layer), self.name) or self.name in vars(layer) else self.usual

    def through(self, env: "gym.Env[Any, Any]") -> T:
        """Returns the member of the outermost layer of a stack that has it, or what holds without it."""
        found: T = env.get_wrapper_attr(self.name) if env.has_wrapper_attr(self.name) else self.usual
        return found if callable(found) or not self.method else self.usual


def _nothing() -> None:
    """Stands for a method that would do nothing, or return None."""


def _unknown(_: Any) -> Mapping[str, Any]:
    """Stands for a method that would know nothing."""
    return {}


# --- environments -------------------------------------------------------------------------------------------------

AGENT: Member[str] = Member("agent", "")
"""The name of the agent whose side of a game it is; the nodes of its trees say so."""
TABLE: Member[Any] = Member("table", None)
"""The game of which it is one side; its layers say why it cannot be forked."""
ANCHOR: Member[Callable[[], str | None]] = Member("anchor", _nothing, method=True)
"""Returns a name of the state, for step-level credit; None where each state is its own."""
FORFEIT: Member[Callable[[], float | None]] = Member("forfeit", _nothing, method=True)
"""Returns the reward of an episode that ends because no room is left for an answer; None for no reward."""
WITHHOLD: Member[Callable[[str, Any], None] | None] = Member("withhold", None, method=True)
"""Makes the next step return a given `ToolResult` for a call of the named tool, instead of running it."""
MEASURES: Member[Callable[[], Mapping[str, float]]] = Member("measures", dict, method=True)
"""Returns numbers that tell how an episode went so far, by name, besides reward and success; they are averaged."""
MAX_TURNS: Member[float] = Member("max_turns", math.inf)
"""Actions until an episode is truncated."""
TOOL_TIMEOUT: Member[float] = Member("tool_timeout", math.inf)
"""Seconds that one call of a tool may take."""
REPLAYED_CALLS: Member[int] = Member("replayed_calls", 0)
"""Tool calls that were run again to make this environment, or this session."""
SESSIONS: Member[Mapping[str, Any]] = Member("sessions", {})
"""The sessions of an episode, by tool; a fork clones them, and a snapshot parks them."""
RELEASE: Member[Callable[[], None]] = Member("release", _nothing, method=True)
"""Closes the sessions; the environment cannot go on afterwards."""
SHARED: Member[frozenset[str]] = Member("shared", frozenset())
"""Attributes that a clone shares with its original instead of copying them."""
IDENTITY: Member[Callable[[], str] | None] = Member("identity", None, method=True)
"""Returns what two environments must share for a snapshot of one to fit the other; without it, the arguments of its spec."""
DIALECT: Member[Any] = Member("dialect", None)
"""How calls and answers are written; None for an environment that reads actions as they are."""
TOOL_SPECS: Member[tuple[Any, ...]] = Member("tool_specs", ())
"""The tools that a prompt offers."""
INSTRUCTIONS: Member[str] = Member("instructions", "")
"""How an action must be written, for the prompt."""
EXAMPLES: Member[Sequence[Sequence[str]]] = Member("examples", ())
"""Episodes to show before the question, for the prompt: each a question, and by turns what was written and what came back."""
TASK: Member[Any] = Member("task", None)
"""The task of the episode."""
TASKS: Member[Any] = Member("tasks", None)
"""Where the tasks come from."""
MIXED: Member[Mapping[str, Any]] = Member("mixed", {})
"""The environments that this one is a mixture of, by id."""
SUB_ENVS: Member[Mapping[str, Any]] = Member("sub_envs", {})
"""The environments that it is made of, by name; `restore` restores each of them like a stack of its own."""
MEMBER: Member[str | None] = Member("member", None)
"""The id of the environment that an episode of a mixture belongs to."""

# --- layers: environments and wrappers ----------------------------------------------------------------------------

LAST: Member[Callable[[], tuple[Any, dict[str, Any]]] | None] = Member("last", None, method=True)
"""Returns what the layer last returned, (observation, info), for `restore`."""
RESEED: Member[Callable[[int], None] | None] = Member("reseed", None, method=True)
"""Makes all its randomness a function of a seed; without it, every NumPy generator among its attributes is replaced."""
COPIED_STATE: Member[Callable[[dict[int, Any]], dict[str, Any]] | None] = Member("copied_state", None, method=True)
"""Returns a copy of its attributes, given `deepcopy`'s memo; without it, they are copied deeply."""
CONFIGURATION: Member[frozenset[str]] = Member("configuration", frozenset())
"""Attributes that `restore` leaves as they are; of the class."""

PER_ROW: Member[frozenset[str]] = Member("per_row", frozenset())
"""Arrays of a vector environment's wrapper with one place for each row, which `vector.fork` copies; of the class."""

# --- tools, sessions, tasks ---------------------------------------------------------------------------------------

PARK: Member[Callable[[], Any] | None] = Member("park", None, method=True)
"""Returns a copy of a session that can only be cloned and closed; without it, a clone is kept."""
TOOL_IDENTITY: Member[str] = Member("identity", "")
"""What two tools must share for a snapshot of one to fit the other."""
PURE: Member[Mapping[str, Any] | None] = Member("pure", None)
"""What the answers of a tool depend on besides the call, by name: they can then be cached and recorded."""
ANSWERED: Member[Callable[[Any], Any] | None] = Member("answered", None, method=True)
"""Returns a tool whose own sources (pages, searches) are asked through the given `Answers`; for a tool with state."""
REQUIRE_READY: Member[Callable[[], None]] = Member("require_ready", _nothing, method=True)
"""Raises `ConfigError` if calls of a tool, or of a source of pages, cannot be made now, such as for want of a key."""
PREPARE_SEARCH: Member[Callable[[], None]] = Member("prepare_search", _nothing, method=True)
"""Prepares a source of pages for its first search where this may take longer than a call, for example by building an index."""
TOOLS: Member[tuple[Any, ...]] = Member("tools", ())
"""The tools of an environment that opens their sessions at its next reset, so that they can be replaced until then."""
SECRETS: Member[tuple[str, ...]] = Member("secrets", ())
"""Packages that produce a source's answers and that model-written code must therefore not be able to import."""
PROVENANCE: Member[Callable[[Any], Mapping[str, Any]]] = Member("provenance", _unknown, method=True)
"""Returns where a task of a source is from, as far as it is known, for the record of its tree: "tasks", the file; "source",
its name; "benchmark", a name; "gated", whether it must not be passed on."""
MAJORITY_BASELINE: Member[Callable[[], float | None]] = Member("majority_baseline", _nothing, method=True)
"""Returns the success of the best single answer to all questions of a source."""
CORPUS_KEY: Member[Callable[[], str | None]] = Member("key", _nothing, method=True)
"""Returns a name for the content of a corpus, under which its index is kept on disk; None to keep none."""
