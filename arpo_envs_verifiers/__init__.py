"""The name under which `verifiers` finds `arpo_envs.hubs.verifiers`: it asks for a top-level package with one class of each kind."""

from arpo_envs.hubs.verifiers import ArpoEnv, ArpoHarness, ArpoTaskset

__all__ = ["ArpoEnv", "ArpoHarness", "ArpoTaskset"]
