"""Policies by name or reference: those of this package and those of others."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from arpo_envs import ConfigError, Registry

from ..options import REQUIRE, checked, required
from . import Policy

POLICIES = Registry("policy", "arpo.policies", {name: f"{__package__}.built_in:{name}" for name in ("local", "server", "vllm")})
"""Those of this package, and what installed packages offer under the entry points `arpo.policies`."""

TOLD = ("folder", "tokenizer", "context_length", "device", "model", "urls", "weights_folder", "training")
"""What a run tells the maker of a policy, as far as it asks for it: the folder of the model, its tokenizer, the maximum tokens
per sequence, "cpu" or "cuda", the model itself where it is loaded, URLs where it was named by them, a folder for weights on
their way, and whether the policy is for training."""


def policy_maker(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns a function that makes a policy, its options filled in; mistakes in them are found before the long work.

    Args:
        name: one of `POLICIES`, or "package.module:object".
        options: its own, beside what every policy is told, see `TOLD`.

    Raises:
        ConfigError: the name is unknown, what it names cannot be called, or does not take these options.
    """
    factory = POLICIES.find(name)
    if not callable(factory):
        raise ConfigError(f"The policy {name} is {factory!r}; expected a function that returns a policy.")
    mine = checked(name, factory, options, TOLD)
    return lambda **told: factory(**_wanted(name, factory, told), **mine)


def make_policy(name: str, options: Mapping[str, Any], **told: Any) -> Policy:
    """Returns a policy by name.

    It is made by a function that takes whatever it needs of `TOLD`, and its own options, all by keyword.

    Args:
        name: one of `POLICIES`, or "package.module:object".
        options: its own.
        told: by the run, see `TOLD`.

    Raises:
        ConfigError: the name or an option is unknown, or the result is not a policy.
    """
    policy = policy_maker(name, options)(**told)
    if not isinstance(policy, Policy):
        members = "version, context_length, vocabulary_size, generate, load and close"
        raise ConfigError(f"{name} returned {policy!r}, which is not a policy: it needs {members}.")
    return policy


def require_policy(name: str, **told: Any) -> None:
    """Has the maker of a policy find out, before the long work, what would stop a run, if it can.

    Args:
        name: one of `POLICIES`, or "package.module:object".
        told: by the run, see `TOLD`.

    Raises:
        ConfigError: something would.
    """
    require = REQUIRE.of(POLICIES.find(name))
    if require is not None:
        require(**_wanted(name, require, told))


def _wanted(name: str, function: Callable[..., Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a function asks for of what a run tells.

    Raises:
        ConfigError: it cannot do without something that this run does not know.
    """
    asked = {one: parameter for one, parameter in inspect.signature(function).parameters.items() if one in TOLD}
    if unknown := [one for one, parameter in asked.items() if required(parameter) and one not in told]:
        raise ConfigError(f"The policy {name} needs {', '.join(unknown)}: name it by its URLs, --policy http://…")
    return {one: told[one] for one in asked if one in told}
