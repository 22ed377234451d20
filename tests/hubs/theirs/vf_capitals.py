"""A taskset with one question and one answer."""

from collections.abc import Iterable

import verifiers.v1 as vf

__all__ = ["Capitals"]

_CAPITALS = {"France": "Paris", "Peru": "Lima", "Japan": "Tokyo"}


class CapitalData(vf.TaskData):
    answer: str


class CapitalTask(vf.Task[CapitalData, vf.State, vf.TaskConfig]):
    @vf.reward(weight=1.0)
    async def right(self, task: CapitalData, trace: vf.Trace) -> float:
        return float(task.answer in trace.last_reply)

    @vf.reward(weight=0.25)
    async def short(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) < 20)

    @vf.metric
    async def letters(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply))


class Capitals(vf.Taskset[CapitalTask, vf.TasksetConfig]):
    def load(self) -> Iterable[CapitalTask]:
        for land, answer in _CAPITALS.items():
            question = f"What is the capital of {land}?"
            yield CapitalTask(
                CapitalData(name=land, prompt=question, system_prompt="Answer briefly.", answer=answer), self.config.task
            )
