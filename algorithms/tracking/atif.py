"""One path of a rollout tree as a document of the Agent Trajectory Interchange Format, ATIF v1.8; needs the package atif.

Source: Harbor's RFC 0001, https://github.com/harbor-framework/harbor/blob/main/rfcs/0001-trajectory-format.md.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Any

from atif import Agent, FinalMetrics, Metrics, Observation, ObservationResult, Step, ToolCall, Trajectory

from arpo_envs import Answer, Call, ConfigError, Dialect, ToolSpec, make_dialect

from ..rendering.chat.calls import CallFormat, named_format
from ..tree import Node, RolloutTree

SCHEMA = "ATIF-v1.8"
_NOTES = (
    "Each document is one leaf of a rollout tree; leaves of one tree share the nodes that have the same key. Messages are what "
    "the model wrote, its calls included, and observations what it was shown. Log-probabilities and entropies are in nats."
)
_SPOKEN = ("dialect", "tools", "calls", "instructions")
_OF_A_PIECE = ("key", "origin", "agent", "seed", "policy_version", "replayed", "anchor")
_AT_THE_END = ("tool", "tool_status", "status", "fault", "success", "measures")
_USUAL = {field.name: field.default for field in dataclasses.fields(Node)}


@dataclass(frozen=True)
class Spoken:
    """How the actions of a tree are written.

    Args:
        dialect: reads them.
        specs: the tools that may be called.
        calls: the model's own format of calls; None for the dialect's.
        instructions: what the first prompt told the model about them; "" if it was told nothing, or nobody knows.
    """

    dialect: Dialect
    specs: tuple[ToolSpec, ...] = ()
    calls: CallFormat | None = None
    instructions: str = ""

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Spoken | None":
        """Returns what a tree says of itself; None if it does not, as trees of older versions.

        Args:
            meta: of the tree.

        Raises:
            ConfigError: it names a dialect or a format that does not exist.
        """
        if "dialect" not in meta:
            return None
        functions = [tool["function"] for tool in meta.get("tools", ())]
        specs = tuple(ToolSpec(one["name"], one["description"], one["parameters"]) for one in functions)
        calls = named_format(meta["calls"]) if "calls" in meta else None
        return cls(make_dialect(meta["dialect"], specs), specs, calls, meta.get("instructions", ""))

    def read(self, text: str) -> Call | Answer | None:
        """Returns what an action does; None for a mistake."""
        action = self.dialect.parse(self.calls.to_dialect(text) if self.calls is not None else text)
        return action if isinstance(action, Call | Answer) else None


def trajectory(
    tree: RolloutTree, leaf: int, *, name: str = "", session: str = "", model: str | None = None, spoken: Spoken | None = None
) -> Trajectory:
    """Returns the path to a leaf as a document.

    An action is one agent step, also where forks inside it have split it into several nodes. Its completion is the tokens
    that the policy sampled, as ids; if others were forced in between, the step's `extra` has all of them. An action that is
    not written as its dialect wants it has no tool calls: what the model wrote is in the message, and what it was told in
    the observation. What ATIF has no field for is in `extra`: reward, status, keys of nodes, decisions, policy version.

    Args:
        tree: frozen.
        leaf: index of a node.
        name: of the document; "" for none.
        session: name of the run; "" for none.
        model: name of the model; None if unknown.
        spoken: how actions are written, where the tree does not say.

    Raises:
        ValueError: the tree is not frozen.
        ConfigError: nobody says how actions are written.

    >>> from algorithms.tree import NO_PARENT, Status
    >>> tree = RolloutTree(meta={"dialect": "tags"})
    >>> nats = {"logprobs": (-0.5,), "entropies": (1.0,)}
    >>> _ = tree.add(Node((), NO_PARENT, 0, "prompt", (7,), (False,), (0.0,), (0.0,), "What is 1 + 1?"))
    >>> answer = {"text": "<answer>2</answer>", "status": Status.ANSWERED, "reward": 1.0}
    >>> _ = tree.add(Node((0,), 0, 1, "action", (8,), (True,), **nats, **answer))
    >>> found = trajectory(tree.freeze(), 1)
    >>> [(step.source, step.message) for step in found.steps]
    [('user', 'What is 1 + 1?'), ('agent', '<answer>2</answer>')]
    >>> found.steps[1].metrics.completion_token_ids, found.final_metrics.extra["reward"]
    ([8], 1.0)
    """
    if not tree.frozen:
        raise ValueError("trajectory() takes a frozen tree.")
    spoken = Spoken.of(tree.meta) or spoken
    if spoken is None:
        raise ConfigError(
            "The tree does not say in which dialect its actions are written, as trees of older versions do not. Keep it beside "
            "the config.json of its run."
        )
    steps = list(_steps(tree, leaf, spoken))
    drawn = [step.metrics for step in steps if step.metrics is not None]
    end = tree.nodes[leaf]
    earned = {"reward": tree.total_reward(leaf), **_said(end, ("status", "fault", "success", "measures"))}
    return Trajectory(
        schema_version=SCHEMA,
        session_id=session or None,
        trajectory_id=name or None,
        agent=Agent(
            name="arpo-envs",
            version=version("arpo-envs"),
            model_name=model,
            tool_definitions=[spec.function() for spec in spoken.specs] or None,
            extra={"dialect": spoken.dialect.name, **({"calls": spoken.calls.name} if spoken.calls is not None else {})},
        ),
        steps=steps,
        notes=_NOTES,
        final_metrics=FinalMetrics(
            total_prompt_tokens=sum(one.prompt_tokens or 0 for one in drawn),
            total_completion_tokens=sum(one.completion_tokens or 0 for one in drawn),
            total_steps=len(steps),
            extra=earned,
        ),
        extra={
            "task": _whole(tree.task),
            **{key: value for key, value in tree.meta.items() if key not in _SPOKEN},
            "leaf": list(end.key),
        },
    )


def _steps(tree: RolloutTree, leaf: int, spoken: Spoken) -> Iterator[Step]:
    """Yields the steps of a path: instructions, question, and each action with what followed it."""
    groups = [list(group) for _, group in groupby((segment.node for segment in tree.path(leaf)), lambda n: tree.nodes[n].kind)]
    prompt, number, before = tree.nodes[groups[0][0]], 1, [*map(int, tree.nodes[groups[0][0]].tokens)]
    if spoken.instructions:
        yield Step(step_id=number, source="system", message=_whole(spoken.instructions))
        number += 1
    yield Step(step_id=number, source="user", message=_whole(prompt.text), extra={"node": list(prompt.key)})
    for group, after in zip(groups[1:], [*groups[2:], []], strict=True):
        nodes = [tree.nodes[index] for index in group]
        if nodes[0].kind == "action":
            number += 1
            seen = [tree.nodes[index] for index in after]
            yield _step(number, nodes, seen, before, spoken)
        before += [int(token) for node in nodes for token in node.tokens]


def _step(number: int, pieces: Sequence[Node], seen: Sequence[Node], before: Sequence[int], spoken: Spoken) -> Step:
    """Returns an action with what followed it.

    Args:
        number: of the step, from 1 on.
        pieces: nodes of the action; its text is in the last one that has any.
        seen: nodes of what the model was shown after it.
        before: ids of all tokens above it.
        spoken: how it is written.
    """
    text = _whole(next((node.text for node in reversed(pieces) if node.text), ""))
    action = spoken.read(text) if text else None
    calls = None
    if isinstance(action, Call):
        calls = [ToolCall(tool_call_id=f"call_{number}", function_name=action.tool, arguments=dict(action.arguments))]
    results = [
        ObservationResult(
            source_call_id=calls[0].tool_call_id if calls else None,
            content=_whole(node.text),
            extra={"node": list(node.key), **({"decision": node.decision._asdict()} if node.decision is not None else {})},
        )
        for node in seen
    ]
    ids, own, logprobs, entropies = (
        [value for node in pieces for value in getattr(node, column)]
        for column in ("tokens", "sampled", "logprobs", "entropies")
    )
    drawn = [place for place, is_own in enumerate(own) if is_own]
    metrics = Metrics(
        prompt_tokens=len(before),
        completion_tokens=len(drawn),
        prompt_token_ids=list(before),
        completion_token_ids=[int(ids[place]) for place in drawn],
        logprobs=[float(logprobs[place]) for place in drawn],
        extra={"entropies": [float(entropies[place]) for place in drawn]},
    )
    forced = {"token_ids": [*map(int, ids)], "sampled": [*map(bool, own)]} if len(drawn) < len(ids) else {}
    answer = {"answer": action.text} if isinstance(action, Answer) else {}
    paid = [node.reward for node in pieces if node.reward is not None]
    ends = {"reward": sum(paid)} if paid else {}
    ends |= {name: value for node in pieces for name, value in _said(node, _AT_THE_END).items()}
    return Step(
        step_id=number,
        source="agent",
        message=text,
        tool_calls=calls,
        observation=Observation(results=results) if results else None,
        metrics=metrics if drawn else None,
        llm_call_count=None if drawn else 0,
        extra={
            "nodes": [{**_said(node, _OF_A_PIECE), "tokens": len(node.tokens)} for node in pieces],
            **ends,
            **answer,
            **forced,
        },
    )


def _said(node: Node, names: Sequence[str]) -> dict[str, Any]:
    """Returns some fields of a node, without those that have their default."""
    found = {name: getattr(node, name) for name in names if getattr(node, name) != _USUAL[name]}
    return {name: _whole(value) if isinstance(value, str) else value for name, value in found.items()}


def _whole(text: str) -> str:
    """Returns a text that UTF-8 can encode: half a character becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
