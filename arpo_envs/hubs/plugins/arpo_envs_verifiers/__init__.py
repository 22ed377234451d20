"""The name under which `verifiers` finds `arpo_envs.hubs.verifiers`: it looks for top-level packages only."""

from arpo_envs.hubs.verifiers import ArpoEnv, ArpoHarness, ArpoTaskset

__all__ = ["ArpoEnv", "ArpoHarness", "ArpoTaskset"]
