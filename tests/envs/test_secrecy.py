"""The kit's law on what a cell could look answers up in, on honest environments and on one that gives them away."""

from typing import Any

import gymnasium as gym
import pytest
from exec_tool import ExecTool

import arpo_envs  # noqa: F401  # registers the environments
from arpo_envs.envs.python import PythonEnv
from arpo_envs.tasks.computations.source import ComputationSource
from arpo_envs.testing import Law, SkippedLaw
from arpo_envs.testing.bench import Bench
from arpo_envs.testing.secrecy import out_of_reach


class OfReasoning(ComputationSource):
    secrets = ("reasoning_gym", "arpo_envs")


def findings(make: Any) -> list[Any]:
    return list(out_of_reach(Bench(make, (0,), None)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: gym.make("ARPO/Python-v0"),
        lambda: gym.make("ARPO/Search-v0", python=True),
        lambda: gym.make("ARPO/DeepSearch-v0", cities_per_country=3),
        lambda: PythonEnv(tasks=OfReasoning(), dialect="json", interpreter={"layers": "no-namespaces"}),
    ],
)
def test_the_interpreter_gives_nothing_away(make):
    assert findings(make) == []


def test_what_imports_names_is_given_away_and_found():
    source = ComputationSource()
    source.secrets = ("six", "arpo_envs")
    [finding] = findings(lambda: PythonEnv(tasks=source, interpreter={"imports": ("six",)}))
    assert finding.law is Law.SECRETS
    assert "imported 'six'" in finding.happened
    assert "imports" in finding.hint


def test_an_interpreter_in_the_environments_own_process_is_found():
    class Open(PythonEnv):
        def __init__(self) -> None:
            super().__init__()
            self.tools = (ExecTool(),)

    assert [finding.happened for finding in findings(Open)] == ["a cell of 'python' imported 'arpo_envs'"]


def test_where_no_code_runs_or_nothing_is_secret_the_law_does_not_apply():
    with pytest.raises(SkippedLaw, match="no tool runs code"):
        findings(lambda: gym.make("ARPO/SearchMini-v0"))
    with pytest.raises(SkippedLaw, match="not a ToolEnv"):
        findings(lambda: gym.make("CartPole-v1"))
