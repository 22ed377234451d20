"""What the machine is: constants of engines, learners and the controlling process, and how many of each there are."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name


@dataclass(frozen=True)
class Machine:
    """How long things take.

    An engine draws one token for each of B rows in `round_seconds` + B × `row_seconds`.

    Args:
        round_seconds: of a decoding round, whatever its rows.
        row_seconds: that each row adds to a round.
        prefill_seconds: per token of a prompt or a tool result that an engine reads.
        request_seconds: that an engine needs to admit a request, in which nothing else is drawn.
        rows: most rows that an engine decodes together.
        turn_seconds: CPU time of the controlling process per turn: parsing, environment, bookkeeping. One turn at a time.
        fork_seconds: the same per path that is begun: its clone of the environment.
        update_seconds: of an update, whatever its tokens.
        token_seconds: that a learner takes per token of a plain row, forward and backward, padding included.
        packed_seconds: the same per token of a row that holds several paths of a tree; None if it is the same.
        micro_batch_tokens: most padded tokens that a learner computes at once.
        packs_from: trees are packed if their paths have at least so many tokens for each one of the tree.
        join_seconds: that an update takes longer because several learners add up their gradients.
        load_seconds: to give engines new weights.

    Raises:
        ConfigError: a number is out of range.
    """

    round_seconds: float
    row_seconds: float
    prefill_seconds: float
    token_seconds: float
    packed_seconds: float | None = None
    micro_batch_tokens: int = 16384
    packs_from: float = 1.3
    request_seconds: float = 0.0
    rows: int = 256
    turn_seconds: float = 0.0
    fork_seconds: float = 0.0
    update_seconds: float = 0.0
    join_seconds: float = 0.0
    load_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value in asdict(self).items():
            if name == "packed_seconds" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value < math.inf):
                raise ConfigError(f"{name} must be a number that is not negative, got {value!r}.")
        for name in ("rows", "micro_batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.round_seconds + self.row_seconds <= 0:
            raise ConfigError("round_seconds and row_seconds must not both be 0: drawing a token takes time.")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Machine":
        """Returns the machine that a flat record describes, such as `arpo bench machine --json` writes.

        Args:
            record: the constants by name; "device" and what is named in `ABOUT` is not read.

        Raises:
            ConfigError: a constant is missing or unknown, or out of range.

        >>> Machine.of({"round_seconds": 1e-3, "row_seconds": 1e-5, "prefill_seconds": 1e-5, "token_seconds": 1e-4}).rows
        256
        """
        known = [field.name for field in fields(cls)]
        for name in record:
            if name not in known and name not in ABOUT:
                raise unknown_name("constant", name, [*known, *ABOUT])
        if missing := [name for name in known[:4] if name not in record]:
            raise ConfigError(f"The constants of a machine must give {', '.join(missing)}, too.")
        return cls(**{name: value for name, value in record.items() if name in known})


ABOUT = ("device", "model", "measured", "assumed", "fit_error", "torch", "threads")
"""What a record may say besides its constants: where they are from, and which of them are assumed."""


@dataclass(frozen=True)
class Layout:
    """How many of each there are, and how they work together.

    Args:
        engines: that draw.
        learners: that share an update.
        engine_devices: devices of one engine.
        learner_devices: devices of one learner.
        shared: whether engines and learners take turns on the same devices.
        ahead: 1 if a step is rolled out while the one before it is being learned, 0 if not.
        mode: "deterministic" if paths wait for each other at each turn, "free" if not; see `rollout.Limits`.
        threads: most tool calls at the same time in a process.
        elsewhere: processes beside the training process in which trees grow; 0 if they grow in that one. As many processes as
            engines have one engine each. None: that, if there are several engines.

    Raises:
        ConfigError: a number is out of range, or devices that are shared would have to do both at once.
    """

    engines: int = 1
    learners: int = 1
    engine_devices: int = 1
    learner_devices: int = 1
    shared: bool = False
    ahead: Literal[0, 1] = 0
    mode: Literal["deterministic", "free"] = "free"
    threads: int = 64
    elsewhere: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("engines", "learners", "engine_devices", "learner_devices", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.ahead not in (0, 1):
            raise ConfigError(f"ahead must be 0 or 1, got {self.ahead}.")
        if self.shared and self.ahead:
            raise ConfigError("With ahead = 1, learners need devices of their own: they work at the same time as engines.")

    @property
    def processes(self) -> int:
        """In how many processes beside the training process trees grow; 0 if in that one."""
        several = self.engines if self.engines > 1 else 0
        return several if self.elsewhere is None else self.elsewhere

    def with_engines(self, count: int) -> "Layout":
        """Returns the same with so many engines: where there is more than one, each in a process of its own."""
        return replace(self, engines=count, elsewhere=count if self.processes else None)

    @property
    def has_own_engines(self) -> bool:
        """Whether each process in which trees grow has an engine of its own."""
        return self.processes == self.engines

    @property
    def devices(self) -> int:
        """How many devices are held."""
        engines, learners = self.engines * self.engine_devices, self.learners * self.learner_devices
        return max(engines, learners) if self.shared else engines + learners


@dataclass(frozen=True)
class Tools:
    """How long a tool takes to answer, waiting only: its CPU time is in `Machine.turn_seconds`.

    Args:
        latency: median, in seconds.
        spread: standard deviation of its natural logarithm.

    Raises:
        ConfigError: a number is negative or not finite.
    """

    latency: float = 0.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not (0 <= self.latency < math.inf and 0 <= self.spread < math.inf):
            raise ConfigError(f"latency and spread must not be negative, got {self.latency} and {self.spread}.")


@dataclass(frozen=True)
class Deaths:
    """How often workers die, and what that costs.

    The trees of an engine that dies are grown again elsewhere or, if one process grows all, what it was drawing is drawn again,
    where the path so far is read again. A learner that dies costs the update.

    Args:
        per_hour: share of workers that die in an hour.
        notice_seconds: until the loss of an engine is noticed.
        restart_seconds: until a worker is back.

    Raises:
        ConfigError: a number is negative or not finite.
    """

    per_hour: float = 0.0
    notice_seconds: float = 1.0
    restart_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value in asdict(self).items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must not be negative, got {value}.")
