"""What cannot begin leaves no half-begun episode behind: not in a tool environment, a mixture, or a row of several."""

from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode
from toys import Note, TownEnv
from vector_toys import ANSWER, NOTE_A, towns

from arpo_envs import ConfigError, RowError, ToolFault
from arpo_envs.tasks.files import FileTasks


class Fickle(Note):
    """Cannot be opened while it is told not to be."""

    broken = False

    def open(self, *given: Any) -> Any:
        if self.broken:
            raise ToolFault("no interpreter can be started")
        return super().open(*given)


def test_an_episode_whose_tool_cannot_be_opened_has_not_begun() -> None:
    env = TownEnv(note=(note := Fickle()))
    env.reset(seed=0)
    note.broken = True
    with pytest.raises(ToolFault):
        env.reset(seed=1)
    for action in (NOTE_A, ANSWER):
        with pytest.raises(gym.error.ResetNeeded):
            env.step(action)
    note.broken = False
    env.reset(seed=1)
    assert env.step(NOTE_A)[4]["status"] == "ok"


def test_a_mixture_that_refuses_a_task_goes_on_with_its_episode() -> None:
    env = gym.make("ARPO/Mixture-v0", envs={"ARPO/SearchMini-v0": 1, "ARPO/Python-v0": 1}, disable_env_checker=True)
    inside = env.unwrapped
    first, _ = env.reset(options={"task": f"ARPO/SearchMini-v0/{_task('ARPO/SearchMini-v0')}"})
    other = "ARPO/SearchMini-v0" if inside.member == "ARPO/Python-v0" else "ARPO/Python-v0"
    with pytest.raises(ConfigError, match="nowhere"):
        env.reset(options={"task": f"{other}/nowhere"})
    assert inside.member == "ARPO/SearchMini-v0"
    _, _, terminated, _, info = env.step("<answer>x</answer>")
    assert terminated
    assert info["env"] == "ARPO/SearchMini-v0"
    env.close()
    assert first


def _task(name: str) -> str:
    env = gym.make(name)
    task: str = env.reset(seed=0)[1]["task"]
    env.close()
    return task


def test_a_last_step_is_kept_where_the_next_episode_cannot_begin() -> None:
    note = Fickle()
    envs = towns(1, AutoresetMode.SAME_STEP, note=note)
    envs.reset(seed=0)
    note.broken = True
    with pytest.raises(RowError, match="no interpreter"):
        envs.step([ANSWER])
    row = envs.unwrapped._rows[0]
    assert row.ended
    assert row.last.terminated
    note.broken = False
    _, _, terminated, _, infos = envs.step([NOTE_A])  # begins the next episode
    assert not terminated[0]
    assert not row.ended
    envs.close()
    assert infos


@pytest.mark.parametrize("name", ["ARPO/Browser-v0", "ARPO/DeepSearch-v0"])
def test_cells_that_are_missing_in_a_file_of_tasks_are_as_if_they_were_not_there(name: str, tmp_path: Any) -> None:
    (file := tmp_path / "tasks.jsonl").write_text(
        '{"question": "?", "answer": "x", "start": null, "optimal_clicks": null, "optimal_calls": null}\n'
    )
    env = gym.make(name, tasks=FileTasks(file), cities_per_country=2)
    env.reset(seed=0)
    seen, *_ = env.step("<browser.open></browser.open>")
    assert "None" not in seen
    env.close()
