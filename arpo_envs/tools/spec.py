"""What a model is told about a tool."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ToolSpec:
    """What the model is told about one callable name.

    Args:
        name: the name the model calls: lower-case identifiers, with dots between several.
        description: one or two sentences for the model.
        parameters: a JSON schema of type "object", as in OpenAI function calling.
        examples: arguments of calls for `arpo_envs.testing`, never shown to a model. Give some that change the session's
            state and use its randomness, where an arbitrary word would not.
    """

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()

    @property
    def text_parameter(self) -> str | None:
        """The single required string parameter, which a tag's body fills; None if there is none."""
        required = list(self.parameters.get("required", ()))
        properties = self.parameters.get("properties", {})
        if len(required) == 1 and properties.get(required[0], {}).get("type") == "string":
            return str(required[0])
        return None

    def function(self) -> dict[str, Any]:
        """Returns the specification in the layout that chat templates expect."""
        schema = dict(self.parameters) or {"type": "object", "properties": {}}
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": schema}}
