"""A game of several turns: a number is guessed, and an environment of its own says higher or lower."""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Iterable
from typing import Any

import verifiers.v1 as vf

__all__ = ["Hunt", "HuntEnv"]


class HuntData(vf.TaskData):
    seed: int


class HuntConfig(vf.TasksetConfig):
    clock: bool = False
    """Whether hints tell the time, which never repeats."""


class HuntTask(vf.Task[HuntData, vf.State, vf.TaskConfig]):
    pass


class Hunt(vf.Taskset[HuntTask, HuntConfig]):
    INFINITE = True

    def load(self) -> Iterable[HuntTask]:
        for seed in itertools.count():
            prompt = "Guess my number, from 1 to 20."
            yield HuntTask(HuntData(name=f"hunt#{seed}", prompt=prompt, seed=seed), self.config.task)


class HuntEnvConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()
    guesses: int = 4


class HuntEnv(vf.Env[HuntEnvConfig]):
    async def run(self, task: HuntTask, agents: Any) -> None:
        secret, won = random.Random(task.data.seed).randint(1, 20), False
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn()
            for left in range(self.config.guesses - 1, -1, -1):
                if segment.terminated:
                    break
                said = segment.last_reply
                won = said == str(secret)
                if won or not left:
                    break
                if said == "crash":
                    raise RuntimeError("the game fell off the table")
                if said == "exit":
                    sys.exit("the game went home")
                if said == "cancelled":
                    raise asyncio.CancelledError("a tool of the game was shut down")
                if said == "exit beside":
                    await asyncio.create_task(_leave())
                hint = "That is no number." if not said.isdigit() else "Higher." if int(said) < secret else "Lower."
                more = f" It is {time.time_ns()}." if self.taskset.config.clock else ""
                segment = await interaction.turn(f"{hint} {left} left.{more}")
        interaction.trace.record_reward("won", float(won))


async def _leave() -> None:
    sys.exit("the game went home")
