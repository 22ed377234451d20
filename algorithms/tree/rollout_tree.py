"""The rollout tree: flat, append-only, parents by index; a shared prefix is stored once."""

import base64
import dataclasses
import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from .spans import COLUMNS, Array, Span, span, together

NO_PARENT = -1
Origin = Literal["", "root", "branch", "backfill"]


class Status(enum.StrEnum):
    """How a trajectory ended; every leaf has one, no other node does."""

    ANSWERED = "answered"
    """The environment terminated the episode."""
    TRUNCATED = "truncated"
    """The environment ran out of turns."""
    CONTEXT_FULL = "context_full"
    """The policy's context had no room for another action."""
    STALLED = "stalled"
    """The policy wrote neither a call nor an answer, several turns in a row."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The task's text left no room in the policy's context for an action."""
    TOOL_TIMEOUT = "tool_timeout"
    """A tool did not return in time."""
    TOOL_FAULT = "tool_fault"
    """A tool or the environment raised, or returned something invalid, such as a reward of NaN."""
    POLICY_TIMEOUT = "policy_timeout"
    """The policy did not answer in time."""
    POLICY_FAULT = "policy_fault"
    """The policy raised, or returned an invalid token, log-probability or entropy."""
    RENDERER_FAULT = "renderer_fault"
    """Text could not be turned into tokens, or back."""
    BRANCHING_FAULT = "branching_fault"
    """The branching strategy raised, or asked for something impossible."""
    CLONE_FAILED = "clone_failed"
    """The environment of this path could not be made."""

    @property
    def is_model(self) -> bool:
        """Whether the ending says something about the model; failures of the machinery or of the data do not."""
        return self in (Status.ANSWERED, Status.TRUNCATED, Status.CONTEXT_FULL, Status.STALLED)


class Decision(NamedTuple):
    """Why a path forked after a tool result, or why it did not.

    Args:
        before: mean entropy in nats per token that the strategy compared with; None if it compared nothing.
        after: mean entropy in nats per token of what it looked at, such as the probe after the result; None likewise.
        probability: with which its rule asks for a sibling, 0 or 1 if nothing is drawn; None if the strategy does not say.
        asked: how many siblings the strategy asked for.
        granted: how many of them the budget allowed.
    """

    before: float | None
    after: float | None
    probability: float | None
    asked: int
    granted: int


@dataclass(frozen=True, slots=True)
class Node:
    """Some tokens, and what happened after them.

    Values per token may be given as any sequence, and are stored as a `Span`; log-probabilities and entropies are rounded to
    float32. A span equals a tuple of the same numbers, but has no `+`.

    Args:
        key: ordinals of the children from the root down; the node's identity, never its arrival order.
        parent: index of the parent, `NO_PARENT` for the prompt.
        parent_at: how many of the parent's own tokens this node continues from.
        kind: who wrote the tokens: the task ("prompt"), the policy ("action") or a tool ("observation").
        tokens: [T], ids of the tokens that the node adds.
        sampled: [T], True where the policy drew the token; the loss mask means this and nothing else.
        logprobs: [T], log-probability in nats under the policy that drew the token; 0 elsewhere.
        entropies: [T], entropy in nats of the distribution the token was drawn from; 0 elsewhere.
        text: what the model wrote or saw; the text of an observation contains the tool's result. When `freeze` splits a node,
            the text stays with the last piece.
        origin: how the path that begins here came to be: "root", "branch", "backfill"; "" inside a path.
        agent: name of the acting agent, in environments with several.
        seed: the seed that the policy drew with.
        policy_version: of the weights that wrote the tokens.
        tool: name of the tool that this action really ran, "" if none.
        tool_status: how that went, as the environment says in `info["status"]`: "ok", or the name of an error. If the action
            ran no tool, the reason, such as "mistake". "" if the environment does not say.
        replayed: tool calls that were run again to make this path's environment.
        status: how the trajectory ended; None inside one.
        fault: why, if that says nothing about the model; "" otherwise.
        reward: what the environment paid for this action; None where it paid nothing yet.
        success: whether the answer was right, in [0, 1]; None inside a trajectory.
        measures: what else the environment measured of the trajectory that ended here, by name; None for nothing.
        anchor: name of the environment's state before this action, for step-level credit.
        decision: of a tool result after which a fork was considered; None elsewhere.
    """

    key: tuple[int, ...]
    parent: int
    parent_at: int
    kind: Literal["prompt", "action", "observation"]
    tokens: Sequence[int] = ()
    sampled: Sequence[bool] = ()
    logprobs: Sequence[float] = ()
    entropies: Sequence[float] = ()
    text: str = ""
    origin: Origin = ""
    agent: str = ""
    seed: int = 0
    policy_version: int = 0
    tool: str = ""
    tool_status: str = ""
    replayed: int = 0
    status: Status | None = None
    fault: str = ""
    reward: float | None = None
    success: float | None = None
    measures: Mapping[str, float] | None = None
    anchor: str | None = None
    decision: Decision | None = None

    def __post_init__(self) -> None:
        """Stores the values per token as arrays.

        Raises:
            ValueError: they are not numbers of the right kind, or token ids need more than 32 bits.
        """
        for name in COLUMNS:
            object.__setattr__(self, name, span(getattr(self, name), name))


class Segment(NamedTuple):
    """A piece of a path: the first `stop` tokens of node number `node`."""

    node: int
    stop: int


class ToolCalls(NamedTuple):
    """Tool calls of a tree: run once, found on a shared prefix instead of being run, run again to fork."""

    executed: int
    inherited: int
    replayed: int


def _span(node: Node, name: str) -> Span[Any]:
    """Returns a node's values of one of `COLUMNS`, typed as the span they are."""
    numbers: Span[Any] = getattr(node, name)
    return numbers


def _together(nodes: Sequence[Node]) -> list[Node]:
    """Returns equal nodes whose numbers share one `bytes` object for each of `COLUMNS`."""
    columns = zip(*(together([_span(node, name) for node in nodes]) for name in COLUMNS), strict=True)
    return [_with(node, dict(zip(COLUMNS, own, strict=True))) for node, own in zip(nodes, columns, strict=True)]


def _with(node: Node, changes: Mapping[str, Any]) -> Node:
    """Returns a node with some fields changed, as `dataclasses.replace` does, but without checking its numbers again."""
    changed = object.__new__(Node)
    for name in _FIELDS:
        object.__setattr__(changed, name, changes[name] if name in changes else getattr(node, name))
    return changed


@dataclass
class RolloutTree:
    """All rollouts of one prompt.

    Args:
        task: the environment's name for the task.
        meta: anything worth keeping beside the tree (step, reset seed, …); JSON values.
        nodes: in order of arrival; in depth-first order of their keys once frozen.
    """

    task: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    frozen: bool = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the nodes of a pickled tree, each with its own numbers, and lets them share arrays again."""
        vars(self).update(state)
        self.nodes = _together(self.nodes)

    @property
    def nbytes(self) -> int:
        """Bytes that the values per token occupy."""
        held = [_span(node, name).held for node in self.nodes for name in COLUMNS]
        return sum(map(len, {id(some): some for some in held}.values()))

    def add(self, node: Node) -> int:
        """Appends a node and returns its index.

        Raises:
            ValueError: the tree is frozen, lengths differ, the parent or offset does not exist, or a number is not finite.
        """
        if self.frozen:
            raise ValueError("A frozen tree takes no more nodes.")
        lengths = {len(node.tokens), len(node.sampled), len(node.logprobs), len(node.entropies)}
        if len(lengths) != 1:
            raise ValueError(f"Node {node.key}: tokens, sampled, logprobs and entropies must be equally long, got {lengths}.")
        paid = [number for number in (node.reward, node.success, *(node.measures or {}).values()) if number is not None]
        if not (all(map(math.isfinite, paid)) and all(_span(node, name).is_finite for name in ("logprobs", "entropies"))):
            raise ValueError(f"Node {node.key}: log-probabilities, entropies, reward, success and measures must be finite.")
        if (node.parent == NO_PARENT) != (not self.nodes):
            raise ValueError("The first node, and no other, is the prompt and has no parent.")
        if self.nodes:
            if not 0 <= node.parent < len(self.nodes):
                raise ValueError(f"Node {node.key}: there is no parent {node.parent}.")
            length = len(self.nodes[node.parent].tokens)
            if not (0 < node.parent_at <= length or node.parent_at == length):
                raise ValueError(f"Node {node.key}: offset {node.parent_at} is outside its parent's {length} tokens.")
        self.nodes.append(node)
        return len(self.nodes) - 1

    def decide(self, index: int, decision: Decision) -> None:
        """Records whether a path forks after a tool result, which is known only after the result is in the tree.

        Raises:
            ValueError: the tree is frozen, or the node is not an observation.
        """
        if self.frozen or self.nodes[index].kind != "observation":
            raise ValueError(f"Node {self.nodes[index].key}: decisions belong to observations of a tree that still grows.")
        self.nodes[index] = _with(self.nodes[index], {"decision": decision})

    def roots(self) -> list[int]:
        """Returns the first nodes after the prompt."""
        return [i for i, node in enumerate(self.nodes) if node.parent == 0]

    def leaves(self) -> list[int]:
        """Returns the nodes at which a trajectory ended, in order of their keys."""
        ends = [i for i, node in enumerate(self.nodes) if node.status is not None]
        return sorted(ends, key=lambda i: self.nodes[i].key)

    def path(self, leaf: int) -> list[Segment]:
        """Returns the segments from the prompt to the end of `leaf`."""
        segments = [Segment(leaf, len(self.nodes[leaf].tokens))]
        while (node := self.nodes[segments[-1].node]).parent != NO_PARENT:
            segments.append(Segment(node.parent, node.parent_at))
        return segments[::-1]

    def along(self, leaf: int, name: Literal["tokens", "sampled", "logprobs", "entropies"]) -> Array:
        """Returns one kind of value per token along a trajectory, [T], as a new array."""
        return np.concatenate([np.asarray(getattr(self.nodes[node], name)[:stop]) for node, stop in self.path(leaf)])

    def length(self, leaf: int) -> int:
        """Returns how many tokens a trajectory has."""
        return sum(stop for _, stop in self.path(leaf))

    def tokens(self, leaf: int) -> list[int]:
        """Returns all token ids of a trajectory, [T]."""
        ids: list[int] = self.along(leaf, "tokens").tolist()
        return ids

    def tokens_before(self, node: int, at: int) -> list[int]:
        """Returns all token ids of a path up to the first `at` tokens of `node`: what a fork at this place continues."""
        ids: list[int] = self.along(node, "tokens").tolist()
        return ids[: len(ids) - len(self.nodes[node].tokens) + at]

    def sampled(self, leaf: int) -> list[bool]:
        """Returns for each token of a trajectory whether the policy drew it, [T] like `tokens`: the loss mask."""
        mask: list[bool] = self.along(leaf, "sampled").tolist()
        return mask

    def logprobs(self, leaf: int) -> list[float]:
        """Returns the log-probability of each token of a trajectory, in nats, [T] like `tokens`.

        It is the one under the policy that drew the token, and 0 where no policy drew it (`sampled` is False there).
        """
        nats: list[float] = self.along(leaf, "logprobs").tolist()
        return nats

    def total_reward(self, leaf: int) -> float:
        """Returns the sum of the rewards along a trajectory, without those of actions that it contains only in part."""
        segments = self.path(leaf)
        whole = (self.nodes[node] for node, stop in segments if stop == len(self.nodes[node].tokens))
        return float(sum(node.reward for node in whole if node.reward is not None))

    def tool_calls(self) -> ToolCalls:
        """Counts executed, inherited and replayed tool calls."""
        executed = sum(bool(node.tool) for node in self.nodes)
        on_paths = 0
        for leaf in self.leaves():
            on_paths += sum(bool(self.nodes[n].tool) and stop == len(self.nodes[n].tokens) for n, stop in self.path(leaf))
        return ToolCalls(executed, on_paths - executed, sum(node.replayed for node in self.nodes))

    def depth(self, index: int) -> int:
        """Returns how many tool calls lie on the path above a node."""
        above = self.path(index)[:-1]
        return sum(bool(self.nodes[n].tool) and stop == len(self.nodes[n].tokens) for n, stop in above)

    def freeze(self) -> "RolloutTree":
        """Returns a tree in which every fork lies at a node's end; nodes are in depth-first order of keys without gaps.

        An action that was forked inside is split there; its tool, reward and status stay with its
        last piece. Two trees with the same content freeze to the same tree, in whatever order it arrived.
        """
        children: dict[int, list[int]] = {}
        for index, node in enumerate(self.nodes):
            children.setdefault(node.parent, []).append(index)
        pieces: list[Node] = []
        stack: list[tuple[int, int, int, tuple[int, ...]]] = [(0, 0, NO_PARENT, ())] if self.nodes else []
        while stack:
            index, start, parent, key = stack.pop()
            node, below = self.nodes[index], children.get(index, [])
            stop = min((self.nodes[c].parent_at for c in below if self.nodes[c].parent_at > start), default=len(node.tokens))
            parent_at = len(pieces[parent].tokens) if parent != NO_PARENT else 0
            mine = len(pieces)
            pieces.append(_piece(node, start, stop, key, parent, parent_at))
            following = [(c, 0) for c in below if self.nodes[c].parent_at == stop]
            following.sort(key=lambda pair: self.nodes[pair[0]].key)
            if stop < len(node.tokens):
                following.insert(0, (index, stop))
            stack += [(c, at, mine, (*key, i)) for i, (c, at) in reversed(list(enumerate(following)))]
        return RolloutTree(self.task, dict(self.meta), _together(pieces), frozen=True)

    def to_json(self) -> str:
        """Returns the tree as one line of JSON; the values per token of all nodes are in "arrays", one node after another.

        Each array is in base64 and has the type that `COLUMNS` says. A node's "length" says how many of its values are the
        node's own.
        """
        arrays = {}
        for name, dtype in COLUMNS.items():
            columns = [np.asarray(getattr(node, name)) for node in self.nodes]
            arrays[name] = base64.b64encode(np.concatenate([np.empty(0, dtype), *columns]).tobytes()).decode("ascii")
        nodes = [_written(node) for node in self.nodes]
        record = {"task": self.task, "meta": self.meta, "frozen": self.frozen, "nodes": nodes, "arrays": arrays}
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "RolloutTree":
        """Reads what `to_json` wrote, in this format or the older one with numbers as text; equals the tree written."""
        record: Mapping[str, Any] = json.loads(line)
        tree, at = cls(record["task"], dict(record["meta"])), 0
        given: Mapping[str, str] = record.get("arrays", {})
        arrays = {name: np.frombuffer(base64.b64decode(text), COLUMNS[name]) for name, text in given.items()}
        for fields in record["nodes"]:
            length = fields.get("length", 0)
            own = {name: array[at : at + length] for name, array in arrays.items()}
            tree.nodes.append(_read_node({**fields, **own}))
            at += length
        tree.nodes = _together(tree.nodes)
        tree.frozen = record["frozen"]
        return tree


_FIELDS = tuple(f.name for f in dataclasses.fields(Node))
_AT_THE_END = ("text", "tool", "tool_status", "status", "fault", "reward", "success", "measures", "decision")
"""What a node says of the time after its last token."""
_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Node) if f.default is not dataclasses.MISSING}


def _piece(node: Node, start: int, stop: int, key: tuple[int, ...], parent: int, parent_at: int) -> Node:
    """Returns tokens `start:stop` of a node as a node of its own."""
    if (start, stop) == (0, len(node.tokens)) and (node.key, node.parent, node.parent_at) == (key, parent, parent_at):
        return node
    changes: dict[str, Any] = {"key": key, "parent": parent, "parent_at": parent_at}
    if start > 0 or stop < len(node.tokens):
        for name in ("tokens", "sampled", "logprobs", "entropies"):
            changes[name] = getattr(node, name)[start:stop]
    if start > 0:
        changes |= {"origin": "", "replayed": 0}
    if stop < len(node.tokens):
        changes |= {name: _DEFAULTS[name] for name in _AT_THE_END}
    return _with(node, changes)


def _written(node: Node) -> dict[str, Any]:
    """Returns a node's fields for JSON: without its arrays, and without those that have their default."""
    values = ((name, getattr(node, name)) for name in _FIELDS if name not in COLUMNS)
    return {**{name: value for name, value in values if value != _DEFAULTS.get(name)}, "length": len(node.tokens)}


def _read_node(fields: Mapping[str, Any]) -> Node:
    values = {name: value for name, value in fields.items() if name != "length"}
    values["key"] = tuple(values["key"])
    if "status" in values:
        values["status"] = Status(values["status"])
    if values.get("decision") is not None:
        values["decision"] = Decision(*values["decision"])
    return Node(**values)


def total_tool_calls(trees: Sequence[RolloutTree]) -> ToolCalls:
    """Adds up the tool calls of several trees."""
    counts = [tree.tool_calls() for tree in trees]
    return ToolCalls(sum(c.executed for c in counts), sum(c.inherited for c in counts), sum(c.replayed for c in counts))
