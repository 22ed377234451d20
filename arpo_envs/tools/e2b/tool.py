"""Python in E2B's cloud sandboxes: the tool `python` on the real `e2b-code-interpreter` SDK.

A sandbox is a small virtual machine with a notebook kernel; cloning it copies its memory and its
files. If the server cannot do that, the executed cells are run again in a new sandbox.
"""

import importlib.util
import os
import uuid
from typing import Any

import numpy as np

from ...errors import ArpoError, ConfigError, ToolFault, unknown_name
from ...forking import ForkLevel
from ...tasks import Task
from .. import Session
from ..python import SPEC
from .calls import Deadline, Secret, load_sdk, patiently, seconds_for, status_of, was_interrupted
from .session import E2BSession, State

FORKS = {"native": ForkLevel.EXACT, "replay": ForkLevel.REPLAY, "auto": ForkLevel.REPLAY}


class E2BTool:
    """The tool `python`, each session in a sandbox of its own in E2B's cloud.

    The model is never told of a failure of the cloud: the request is retried where that is safe, and then
    `ToolFault` is raised, which ends the path of a rollout with the status "tool_fault".

    Args:
        template: name or id of the sandbox's template; None for E2B's code interpreter.
        api_key: None takes it from the variable E2B_API_KEY. It is shown nowhere and does not pickle: another
            process takes it from the variable.
        timeout: seconds that starting, parking or cloning may take, including all retries. If nothing listens at
            the address, the SDK's own attempts to connect (`E2B_CONNECTION_RETRIES`) may add up to 4.
        lifetime: seconds after which E2B ends a sandbox that is not heard from; calls prolong it.
        fork: "native" copies the machine (level EXACT); "replay" runs the cells again in a new one
            (level REPLAY); "auto" is native, and replays if the server cannot fork (so level REPLAY).
        retries: how often a request that failed without any effect is repeated.
        internet: whether code may reach the internet.

    Raises:
        ConfigError: an argument makes no sense, the package is not installed, or there is no key.

    >>> E2BTool(fork="reply")
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: Unknown fork 'reply'. Known: auto, native, replay. Did you mean 'replay'?
    """

    specs = (SPEC,)

    def __init__(
        self,
        *,
        template: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        lifetime: int = 600,
        fork: str = "native",
        retries: int = 4,
        internet: bool = False,
    ) -> None:
        if fork not in FORKS:
            raise unknown_name("fork", fork, FORKS)
        if timeout <= 0 or lifetime < 1 or retries < 0:
            given = f"timeout={timeout}, lifetime={lifetime}, retries={retries}"
            raise ConfigError(f"timeout and lifetime must be positive and retries not negative, got {given}.")
        if importlib.util.find_spec("e2b_code_interpreter") is None:
            raise ConfigError('E2B\'s SDK is not installed. Install it: pip install "arpo-envs[e2b]"')
        self.template, self.timeout, self.lifetime = template, timeout, int(lifetime)
        self.fork, self.retries, self.internet = fork, retries, internet
        self.secret = Secret(api_key or "")
        self.key()

    @property
    def fork_level(self) -> ForkLevel:
        """The lowest level that sessions may fall to."""
        return FORKS[self.fork]

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another `python`: see `ToolEnv.identity`."""
        return f"e2b/{self.template}/{self.internet}"

    def __repr__(self) -> str:
        return f"E2BTool(template={self.template!r}, fork={self.fork!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "E2BTool":
        """Returns itself: nothing in it ever changes."""
        return self

    def key(self) -> str:
        """Returns the key of the account.

        Raises:
            ConfigError: there is none.
        """
        key = self.secret.value or os.environ.get("E2B_API_KEY", "")
        if not key:
            raise ConfigError("E2B needs an API key. Set the variable E2B_API_KEY, or pass api_key=….")
        return key

    def told(self, error: BaseException) -> str:
        """Returns what an error says, without the key."""
        text = f"{type(error).__name__}: {error}"
        return Secret(self.key()).hidden_in(self.secret.hidden_in(text))[:500]

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        """Starts a sandbox.

        Raises:
            ConfigError: the server refuses the key or the template.
            ToolFault: no sandbox could be started.
        """
        seed = int(rng.integers(2**32))
        try:
            sandbox = self.start(self.template, seed, Deadline.within(self.timeout))
        except ArpoError:
            raise
        except Exception as error:  # noqa: BLE001  # the SDK's errors have no common base
            told = f"E2B started no sandbox of template {self.template or 'code-interpreter-v1'}: {self.told(error)}"
            if status_of(error) in (400, 401, 403, 404):
                raise ConfigError(told) from None  # nothing of the error itself: it may contain the key
            raise ToolFault(told) from None
        return E2BSession(self, sandbox, State(seed, forks=self.fork != "replay"))

    def start(self, template: str | None, seed: int, deadline: Deadline) -> Any:
        """Returns a new sandbox; safe to repeat, because a unique key marks the request."""
        request = str(uuid.uuid4())  # not from a seed: an equal key would give another run's sandbox

        def create() -> Any:
            return load_sdk().create(
                template=template,
                timeout=self.lifetime,
                allow_internet_access=self.internet,
                api_key=self.key(),
                idempotency_key=request,
                request_timeout=seconds_for(deadline),
                retries=self.retries,  # the SDK's own: they obey Retry-After, which its errors do not reveal
            )

        return patiently(create, was_interrupted, deadline=deadline, retries=self.retries, seed=seed)
