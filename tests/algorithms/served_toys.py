"""What the tests of engines in front of servers start in other processes."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from model_toys import byte_tokenizer
from rollout_toys import CountTool, History
from test_trainer import Lenient

from algorithms.cluster import Equipment
from algorithms.policies.following import Following
from algorithms.rendering import TextRenderer
from arpo_envs.tools import ToolResult


def renderer() -> TextRenderer:
    return TextRenderer(byte_tokenizer(), with_instructions=False)


@dataclass(frozen=True)
class Clients:
    """Makes an engine's equipment: a client of the servers."""

    client: Following

    def __call__(self) -> Equipment:
        return Equipment(self.client.make(byte_tokenizer()), renderer())


@dataclass(frozen=True)
class Counting:
    """Makes environments in which the tool kills its process, as often as there are tokens in a folder."""

    tokens: Path | None = None

    def __call__(self) -> Lenient:
        return Lenient(CountTool(hook=self._hook))

    def _hook(self, history: History) -> ToolResult | None:
        for token in sorted(self.tokens.iterdir()) if self.tokens is not None else ():
            token.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return None
