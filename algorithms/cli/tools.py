"""Who answers the calls of a run's tools: the tools themselves, a recorder before them, or a recording alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from arpo_envs import ConfigError, Tool, members
from arpo_envs.tools import ready
from arpo_envs.tools.cache import Recorder, Replayer, Store, answer_tools, require_split

from ..rollout import Limits, MakeEnv, TextEnv

Mode = Literal["live", "record", "replay"]
FILE = "tools.sqlite"
"""The recording in the folder of a run."""


@dataclass(frozen=True)
class ToolAnswers:
    """Puts the same answers before the tools of every environment of a run; a context manager.

    Args:
        answers: None if the tools answer themselves.
    """

    answers: Recorder | Replayer | None = None

    @classmethod
    def of(cls, mode: Mode, recording: Path | None) -> "ToolAnswers":
        """Opens a recording.

        Args:
            mode: what to do with it.
            recording: its file, or the folder of a run; None for live.

        Raises:
            ConfigError: it cannot be opened.
        """
        if mode == "live" or recording is None:
            return cls()
        file = recording / FILE if recording.is_dir() else recording
        return cls(Recorder(Store(file)) if mode == "record" else Replayer(Store(file, reading=True)))

    def before(self, make_env: MakeEnv, part: str) -> MakeEnv:
        """Returns a maker of environments whose tools are answered.

        Args:
            make_env: makes them.
            part: of the run; a failure counts for the part in which it happened.
        """
        return make_env if self.answers is None else _Answered(make_env, self.answers.within(part))

    def told(self) -> str:
        """Returns in a line what came of the calls; "" if the tools answered themselves."""
        if self.answers is None:
            return ""
        tally, file = self.answers.tally, self.answers.store.file.name
        failed = f"{tally['failed']:,} of them failed"
        if isinstance(self.answers, Recorder):
            return f"tools: {tally['answered']:,} calls recorded in {file}, {tally['live']:,} of them made, {failed}"
        return f"tools: {tally['answered']:,} calls replayed from {file}, {failed}; {tally['missing']:,} not recorded"

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the recording."""
        if self.answers is not None:
            self.answers.store.close()


@dataclass(frozen=True)
class _Answered:
    make_env: MakeEnv
    answers: Recorder | Replayer

    def __call__(self) -> TextEnv:
        env = self.make_env()
        answer_tools(env, self.answers)
        return env


def require_ready(make_env: MakeEnv) -> None:
    """Checks, before the long work, that the tools' calls can be made; a replay makes none.

    Raises:
        ConfigError: they cannot, such as for want of a key.
    """
    env = make_env()
    try:
        ready.require_ready(env)
    finally:
        env.close()


def require_answerable(make_env: MakeEnv, limits: Limits) -> str:
    """Returns in a line which tools' calls are recorded or replayed, and which are made whatever the mode.

    Raises:
        ConfigError: there is nothing to record or to replay, or a call may take so long that the run would not wait to see
            what it returns.
    """
    env = make_env()
    try:
        answered, others = require_split(env)
        timeout = members.TOOL_TIMEOUT.through(env)
        if limits.tool_timeout - 1.0 < timeout < math.inf:
            raise ConfigError(
                f"tool_timeout={timeout:g} of the environment is too long: the run waits {limits.tool_timeout:g} s "
                "for a step, and must see how a call ends to record it. Make it shorter."
            )
    finally:
        env.close()
    made = f"; always called: {_names(others)}" if others else ""
    return f"answered from the recording: {_names(answered)}{made}"


def _names(tools: Sequence[Tool]) -> str:
    return ", ".join(spec.name for tool in tools for spec in tool.specs)
