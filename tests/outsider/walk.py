"""What an outsider does with the five parts: checks each with its kit, and sees what the kits say of planted faults.

Only what the pages name is imported. Each planted fault must be found by its law, and said in its own words.
"""

import math
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from outsider.algorithm import careful
from outsider.environment import LedgerEnv
from outsider.policy import TablePolicy, decode, encode, logits_of, table
from outsider.tool import FOR_EVER, Book, Ledger
from outsider.wrapper import CountsFailures, counted

from algorithms.testing import Law as PolicyLaw
from algorithms.testing import check_algorithm, check_policy
from arpo_envs import Score
from arpo_envs.testing import Law, check_forkable_env, check_tool

SLOW = ("ledger", {"sql": FOR_EVER})


class OneThread(Book):
    def connected(self) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", isolation_level=None)


class NeverLate(Book):
    def is_late(self, end: float) -> bool:
        return time.monotonic() > end + 2.0


class ForgetsTheLastId(Book):
    def remember(self, source: Book) -> None:
        pass


class OneBook(Book):
    def clone(self, n: int = 1) -> list[Any]:
        return [self] * n


class OneCounter(CountsFailures):
    total: list[int] = []  # noqa: RUF012  # the fault

    def count(self, info: dict[str, Any]) -> None:
        self.total.append(1)
        self.failed = len(self.total)

    def reset(self, **options: Any) -> tuple[str, dict[str, Any]]:
        self.total.clear()
        return super().reset(**options)


class TopFifty(TablePolicy):
    def kept(self, logp: np.ndarray) -> np.ndarray:
        return np.where(logp >= np.sort(logp)[-50], logp, -1e9)


def tool(book: type[Book]) -> Any:
    return check_tool(Ledger(book), slow=SLOW, seeds=(0,), raise_on_fail=False)


def env(make: Callable[[], gym.Env]) -> Any:
    return check_forkable_env(make, seeds=(0,), raise_on_fail=False)


def paying(reward: float, success: float) -> LedgerEnv:
    return LedgerEnv(reward=lambda task, outcome: Score(reward if outcome.answer else 0.0, success if outcome.answer else 0.0))


def policy(make: type[TablePolicy]) -> Any:
    return check_policy(
        make,
        encode=encode,
        decode=decode,
        reference=lambda ids: logits_of(table(0), ids),
        other={"table": table(1)},
        other_reference=lambda ids: logits_of(table(1), ids),
        raise_on_fail=False,
    )


def honest() -> Iterator[tuple[str, Any]]:
    """Yields the five parts, each with its report."""
    yield "tool", tool(Book)
    yield "environment", env(lambda: gym.make("Outsider/Ledger-v0"))
    yield "wrapper", env(counted)
    yield "algorithm", check_algorithm(careful(), raise_on_fail=False)
    yield "policy", policy(TablePolicy)


def planted() -> Iterator[tuple[str, Any, Any, str]]:
    """Yields faults, each with its report, the law it breaks and words that explain it."""
    yield "a session of one thread", tool(OneThread), Law.THREADS, "called from several threads, it raised ProgrammingError"
    yield "no timeout", tool(NeverLate), Law.TIMEOUT, "with timeout=1 had not returned"
    yield "the last id is lost", tool(ForgetsTheLastId), Law.FAITHFUL, "The clone lost something"
    yield "one book for all", tool(OneBook), Law.INDEPENDENT, "The clone shares state"
    in_env = env(lambda: LedgerEnv(tool=Ledger(OneThread)))
    yield "the same in an environment", in_env, Law.THREADS, "called from several threads, it raised ProgrammingError"
    yield "rewards of NaN", env(lambda: paying(math.nan, 0.0)), Law.NUMBERS, "the reward is nan"
    yield "infinite rewards", env(lambda: paying(math.inf, 0.0)), Law.NUMBERS, "the reward is inf"
    yield "success of 7", env(lambda: paying(1.0, 7)), Law.NUMBERS, "info['success'] is 7"
    yield "a counter for all", env(lambda: OneCounter(LedgerEnv())), Law.INDEPENDENT, "Something mutable is shared"
    yield "top 50 of 256", policy(TopFifty), PolicyLaw.DRAWS, "a sampler like top_k=50"


def main() -> int:
    """Walks, and returns how many steps went wrong."""
    wrong = 0
    for name, report in honest():
        print(f"{name}: {report}\n")
        wrong += not report.ok
    for name, report, law, words in planted():
        found = law in report.failed and words in str(report)
        print(f"{'FOUND' if found else 'MISSED'} {name}" + ("" if found else f"\n{report}"))
        wrong += not found
    never = check_algorithm(careful(failures=True), raise_on_fail=False)  # in the playground no call fails
    said = never.ok and "never forked here" in str(never)
    print(f"{'FOUND' if said else 'MISSED'} a strategy that never forks")
    return wrong + (not said)


if __name__ == "__main__":
    sys.exit(main())
