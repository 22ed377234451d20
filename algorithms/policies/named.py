"""Policies of other packages, by name or reference: backends that draw a model's actions in their own way."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError, Registry

from ..options import checked
from . import Policy

POLICIES = Registry("policy", "arpo.policies", {})
"""What installed packages offer under the entry points `arpo.policies`; those of this package are not chosen by name."""


GIVEN = ("folder", "tokenizer", "context_length", "device")
"""What the run gives a policy, as far as its arguments ask for it."""


def policy_maker(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns a function that makes a policy, its options filled in; mistakes in them are found before the long work.

    Args:
        name: of an entry point, or "package.module:object".
        options: what to call it with besides what every policy is given, see `make_policy`.

    Raises:
        ConfigError: the name is unknown, what it names cannot be called, or does not take these options.
    """
    factory = POLICIES.find(name)
    if not callable(factory):
        raise ConfigError(f"The policy {name} is {factory!r}; expected a function that returns a policy.")
    known = inspect.signature(factory).parameters
    given = {name for name in GIVEN if name in known}
    mine = checked(name, factory, options, given)
    return lambda **told: factory(**{name: told[name] for name in given}, **mine)


def make_policy(
    name: str, folder: Path, tokenizer: Any, *, context_length: int, device: str, options: Mapping[str, Any]
) -> Policy:
    """Returns a policy of another package.

    It is made by a function that takes whatever it needs of `folder`, `tokenizer`, `context_length` and `device`, and its
    own options, all by keyword.

    Args:
        name: of an entry point, or "package.module:object".
        folder: of the model whose actions it draws; its weights come later, through `Policy.load`.
        tokenizer: of that model.
        context_length: longest sequence in tokens.
        device: cpu or cuda.
        options: its own.

    Raises:
        ConfigError: the name or an option is unknown, or the result is not a policy.
    """
    maker = policy_maker(name, options)
    policy = maker(folder=folder, tokenizer=tokenizer, context_length=context_length, device=device)
    if not isinstance(policy, Policy):
        members = "version, context_length, vocabulary_size, generate, load and close"
        raise ConfigError(f"{name} returned {policy!r}, which is not a policy: it needs {members}.")
    return policy
