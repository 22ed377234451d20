"""A taskset with tools that have a state: things are put on a shelf, and the number of them is asked for."""

from collections.abc import Iterable

import verifiers.v1 as vf

__all__ = ["Shelf"]


class ShelfState(vf.State):
    things: list[str] = []  # noqa: RUF012  # pydantic copies it


class ShelfTools(vf.Toolset[vf.ToolsetConfig, ShelfState]):
    TOOL_PREFIX = "shelf"

    @vf.tool
    def put(self, thing: str) -> str:
        """Puts a thing on the shelf."""
        self.state.things.append(thing)
        return f"{len(self.state.things)} on the shelf <result>"

    @vf.tool
    def names(self) -> str:
        """Lists what lies on the shelf."""
        return ", ".join(self.state.things) or "nothing"


class ShelfTask(vf.Task[vf.TaskData, ShelfState, vf.TaskConfig]):
    @classmethod
    def toolsets(cls, config: vf.TaskConfig) -> list[vf.Toolset]:
        return [ShelfTools(vf.ToolsetConfig())]

    @vf.reward
    async def said_all(self, trace: vf.Trace) -> float:
        return float(trace.last_reply == ", ".join(trace.state.things) != "")


class ShelfTaskset(vf.Taskset[ShelfTask, vf.TasksetConfig]):
    def load(self) -> Iterable[ShelfTask]:
        for number in range(2):
            yield ShelfTask(
                vf.TaskData(name=f"shelf {number}", prompt="Put two things there, and name them."), self.config.task
            )


Shelf = ShelfTaskset

if __name__ == "__main__":
    ShelfTools.run()
