"""Gymnasium wrappers for multi-turn text environments; each of them is copied with the environment it wraps."""

from .action_menu import ActionMenu
from .chat_messages import ChatMessages
from .conversation import Message
from .prompted import Prompted
from .text_vector import TextVector
from .token_budget import TokenBudget
from .token_ids import TokenIds
from .tool_budget import ToolBudget
from .transcript import Transcript
from .truncate_observation import TruncateObservation
from .turn_limit import TurnLimit
from .unreliable_tools import UnreliableTools

__all__ = [
    "ActionMenu",
    "ChatMessages",
    "Message",
    "Prompted",
    "TextVector",
    "TokenBudget",
    "TokenIds",
    "ToolBudget",
    "Transcript",
    "TruncateObservation",
    "TurnLimit",
    "UnreliableTools",
]
