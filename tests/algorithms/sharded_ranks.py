"""What ranks compute in tests, and the one process they are compared with; run as a program, this file is what forks ranks."""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_toys import byte_tokenizer, tiny_model
from packing_toys import random_tree
from torch.distributed.tensor import DTensor

from algorithms.advantages import Credit, sampled_weights
from algorithms.checkpoint import Background, Unsaved, latest, save_together
from algorithms.learner import LearnerConfig, Schedule, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.losses.value import ValueLoss
from algorithms.models.loading import load_tokenizer
from algorithms.packing.layout import Cost
from algorithms.tree import RolloutTree

HERE = Path(__file__).parent
TREES = tuple(random_tree(seed, nodes=nodes).to_json() for seed, nodes in ((11, 26), (12, 20), (17, 8), (5, 14), (3, 1)))
Numbers = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """What is learned, from what, and how; the same on one rank and on many."""

    name: str
    dtype: str = "float64"
    model: tuple[tuple[str, Any], ...] = ()
    trees: tuple[str, ...] = TREES
    loss: str = "clip"
    optimizer: str = "sgd"
    steps: int = 3
    config: tuple[tuple[str, Any], ...] = ()
    huge_at: int | None = None
    """Step at which the first tree's advantages are so large that the gradient's norm is infinite in float32."""

    def initial(self) -> Any:
        """The model before the first step, its vocabulary that of the trees."""
        most = max(max(node.tokens, default=0) for tree in self.read() for node in tree.nodes)
        options: dict[str, Any] = {"vocabulary": max(64, most + 1)} | dict(self.model)
        return tiny_model(dtype=getattr(torch, self.dtype), **options)

    def read(self) -> list[RolloutTree]:
        return [RolloutTree.from_json(line) for line in self.trees]


def credit(trees: Sequence[RolloutTree], *, values: bool) -> Credit:
    """Another advantage, weight and return for every token of every path."""
    rng = np.random.default_rng(0)

    def drawn(scale: float) -> Any:
        return tuple(tuple(rng.normal(0.0, scale, len(tree.tokens(leaf))) for leaf in tree.leaves()) for tree in trees)

    weights = tuple(tuple(w * rng.uniform(0.5, 1.5, len(w)) for w in sampled_weights(tree)) for tree in trees)
    return Credit(drawn(1.0), weights, drawn(0.5) if values else None)


def compute(case: Case, model: Any, make: Callable[..., TorchLearner] = TorchLearner) -> Numbers:
    """Takes some steps; returns the last gradient, the weights after it, all metrics and what the model says then."""
    options = {"learning_rate": 0.05, "gradient_clip": 0.5, "importance": "none"} | dict(case.config)
    if case.optimizer == "adamw":
        options |= {"learning_rate": 1e-2, "adam_epsilon": 1e-4}  # above the noise, of which AdamW would make whole steps
    needs = frozenset({"reference"} if case.loss == "kl" else {"values"} if case.loss == "value" else ())
    learner = make(model, LearnerConfig(**options), reference="reference" in needs, values="values" in needs)
    learner._packer.cost = Cost()  # attention of a model this small costs so much that sharing would not pay
    if case.optimizer == "sgd":
        learner.optimizer = torch.optim.SGD(learner._trained, 0.05)
    loss = {"clip": ClipLoss(), "kl": ClipLoss(kl=0.1), "value": ValueLoss(ClipLoss())}[case.loss]
    trees, found = case.read(), {}
    for step in range(case.steps):
        scores = learner.score(trees, needs)
        given = credit(trees, values="values" in needs)
        if step == case.huge_at:
            first, *others = given.advantages
            given = replace(given, advantages=(tuple(a * 1e28 for a in first), *others))
        metrics = learner.update(trees, given, scores, loss, "token")
        found |= {f"{name} of step {step}": torch.tensor(value, dtype=model.dtype) for name, value in metrics.items()}
    for name, weight in learner._scorer.named_parameters():
        found[name] = whole(weight.detach())
        if weight.grad is not None:
            found[f"gradient of {name}"] = whole(weight.grad)
    source = learner.weights()
    sent = {name: weight.detach().clone() for name, weight in source.items()}
    assert {name: (it.shape, it.dtype) for name, it in sent.items()} == source.metadata()
    found |= {f"sent {name}": weight for name, weight in sent.items()}
    logps = [torch.from_numpy(path) for tree in learner.logprobs(trees) for path in tree]
    return {**found, "log-probabilities": torch.cat(logps)}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


# --- ranks ---------------------------------------------------------------------------------------------------------


class Ranks:
    """Processes that compute together, forked from one that has imported what they need: this takes longer than their work."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-W", "ignore", str(HERE / "sharded_ranks.py")]
        self._parent = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        self._parent.communicate()

    def __call__(self, ranks: int, folder: Path, work: str, given: Any, *, killed: bool = False) -> list[Any]:
        """Runs a function of this file in as many processes as there are ranks, and returns what each of them returned.

        Args:
            ranks: how many.
            folder: for what they exchange; it is empty.
            work: name of the function, from a mesh and `given`.
            given: what `torch.save` can store.
            killed: whether the last rank is, so that none of them returns anything.
        """
        folder.mkdir(parents=True, exist_ok=True)
        torch.save((work, ranks, given), folder / "given.pt")
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"{json.dumps([str(folder), ranks])}\n")
        self._parent.stdin.flush()
        ends = json.loads(self._parent.stdout.readline())
        if killed:
            assert all(ends)
            assert ends[-1] == -signal.SIGKILL
            return []
        logs = [folder / f"log-{rank}.txt" for rank in range(ranks)]
        assert ends == [0] * ranks, "\n".join(log.read_text()[-3000:] for log in logs)
        return [torch.load(folder / f"found-{rank}.pt", weights_only=False) for rank in range(ranks)]


def updates(mesh: Any, cases: Sequence[Case]) -> dict[str, Numbers]:
    """What `compute` returns for each case."""
    from algorithms.learner.sharded import ShardedLearner

    def make(*model_and_config: Any, **options: Any) -> TorchLearner:
        return ShardedLearner(*model_and_config, mesh=mesh, **options)

    return {case.name: compute(case, case.initial(), make) for case in cases}


def from_folder(mesh: Any, given: tuple[Sequence[Case], str]) -> dict[str, Numbers]:
    """What `compute` returns for the model of a folder of which no rank ever held all weights."""
    from algorithms.learner.sharded import ShardedLearner
    from algorithms.models.sharded_loading import skeleton

    cases, folder = given

    def make(*model_and_config: Any, **options: Any) -> TorchLearner:
        return ShardedLearner(*model_and_config, mesh=mesh, folder=Path(folder), **options)

    return {case.name: compute(case, skeleton(Path(folder)), make) for case in cases}


def most_gathered(mesh: Any, case: Case) -> dict[str, Any]:
    """How many blocks were whole on this rank at once, forward or backward, and what part of the weights it holds otherwise."""
    from algorithms.learner.model_changes import blocks
    from algorithms.learner.sharded import ShardedLearner

    model, seen = case.initial(), []
    total = sum(parameter.numel() for parameter in model.parameters())

    def watched(*model_and_config: Any, **options: Any) -> TorchLearner:
        learner = ShardedLearner(*model_and_config, mesh=mesh, **options)
        parts = list(blocks(learner.model))

        def look(*_: Any) -> None:
            seen.append(sum(not isinstance(next(part.parameters()), DTensor) for part in parts))

        for part in parts:
            part.mlp.register_forward_hook(look)
            part.mlp.register_full_backward_hook(look)
        return learner

    made: list[TorchLearner] = []

    def make(*model_and_config: Any, **options: Any) -> TorchLearner:
        made.append(watched(*model_and_config, **options))
        return made[0]

    compute(case, model, make)
    own = sum(parameter.to_local().numel() for parameter in made[0].model.parameters())
    return {"whole": max(seen), "seen": len(seen), "own": own / total}


def diverged(mesh: Any, case: Case) -> str:
    """What an update says that ends the run."""
    from algorithms.learner import Diverged

    try:
        updates(mesh, [case])
    except Diverged as error:
        return str(error)
    return "no error"


@dataclass(frozen=True)
class Leg:
    """Some steps of a run, from its newest checkpoint on, each of which is saved while the next one is taken.

    Args:
        run: folder of the run, with the model it starts from in `start`.
        until: steps that are done afterwards.
        killed_at: step whose checkpoint is being written when the last rank is killed.
    """

    case: Case
    run: str
    until: int
    killed_at: int | None = None


def resumed(mesh: Any, leg: Leg) -> Numbers:
    """Goes on with a run on these ranks; returns the weights at the end."""
    from algorithms.learner import ShardedLearner, state
    from algorithms.models.sharded_loading import skeleton

    run = Path(leg.run)
    done = latest(run)
    folder = run / "start" if done is None else done.policy
    options = {"learning_rate": 1e-2, "adam_epsilon": 1e-2, "schedule": Schedule(warmup=3)} | dict(leg.case.config)
    learner = ShardedLearner(skeleton(folder), LearnerConfig(**options), mesh=mesh, folder=folder, reference=True, values=True)
    if done is not None:
        learner.load(done.learner)
    tokenizer = load_tokenizer(folder)
    with Background() as background:
        for step in range(0 if done is None else done.step, leg.until):
            one_step(leg.case, learner)
            if step + 1 == leg.killed_at and mesh.get_local_rank() == mesh.size() - 1:
                state.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            write = partial(save_together, run, step + 1, tokenizer, state={"seconds": 0.0})
            background.begin(learner.snapshot, lambda copy, write=write: write(learner=copy))
    return final(learner)


def saved_beside(mesh: Any, given: tuple[Case, str]) -> list[str]:
    """Saves a state at once, and its copy while more is learned; then what the disk of some ranks has no room for.

    Returns what the latter says, and after each attempt the step of the newest checkpoint.
    """
    from algorithms.learner import ShardedLearner

    case, run = given[0], Path(given[1])
    config = LearnerConfig(learning_rate=1e-2, adam_epsilon=1e-2, **dict(case.config))
    learner = ShardedLearner(case.initial(), config, mesh=mesh, reference=True, values=True)
    tokenizer, said = byte_tokenizer(), list[str]()
    one_step(case, learner)
    save_together(run / "at once", 1, tokenizer, learner, {})
    with Background() as background:
        for step, full in (1, ()), (2, (1,)), (2, (0,)), (2, (0, 1)), (2, ()):
            go_on = threading.Event()

            def write(copy: Any, step: int = step, go_on: threading.Event = go_on) -> None:
                assert go_on.wait(100.0)
                save_together(run / "beside", step, tokenizer, copy, {})

            with full_disk(2000 if mesh.get_local_rank() in full else None):
                background.begin(learner.snapshot, write)
                one_step(case, learner)  # the copy is older than the weights
                go_on.set()
                one_step(case, learner)
                try:
                    background.wait()
                except Unsaved as error:
                    said.append(error.what)
            if learner.is_first:
                said.append(str(latest(run / "beside").step))
    return said


@contextmanager
def full_disk(limit: int | None) -> Iterator[None]:
    """Lets no file of this process grow beyond some bytes."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (usual[0] if limit is None else limit, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def one_step(case: Case, learner: TorchLearner) -> None:
    trees = case.read()
    scores = learner.score(trees, frozenset({"reference", "values"}))
    learner.update(trees, credit(trees, values=True), scores, ValueLoss(ClipLoss(kl=0.1)), "token")


def final(learner: TorchLearner) -> Numbers:
    head = {f"head {name}": whole(it.detach()) for name, it in learner.value_head.named_parameters()}
    return {name: it.detach().clone() for name, it in learner.weights().items()} | head


def _rank(folder: Path, rank: int) -> None:
    import torch.distributed as dist

    from algorithms.learner.sharded import ranks

    with (folder / f"log-{rank}.txt").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    work, size, given = torch.load(folder / "given.pt", weights_only=False)
    store = dist.FileStore(str(folder / "store"), size)
    with ranks("cpu", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=120)) as mesh:
        found = globals()[work](mesh, given)
    torch.save(found, folder / f"found-{rank}.pt")


def _ends(folder: Path, size: int) -> list[int | None]:
    """Returns the exit codes of some ranks, None for one that has not ended after four minutes."""
    forked = [get_context("fork").Process(target=_rank, args=(folder, rank)) for rank in range(size)]
    try:
        for one in forked:
            one.start()
        until = time.monotonic() + 240
        for one in forked:
            one.join(max(0.0, until - time.monotonic()))
        return [one.exitcode for one in forked]
    finally:
        for one in forked:
            one.kill()


def _main() -> None:
    """Forks ranks for each line of input, a folder and how many they are, and writes how they ended.

    Nothing may be computed here: threads would not be there in the forks.
    """
    for name in ("algorithms.learner.sharded", "algorithms.models.sharded_loading"):
        importlib.import_module(name)
    torch.set_num_threads(1)
    for line in sys.stdin:
        folder, size = json.loads(line)
        sys.stdout.write(f"{json.dumps(_ends(Path(folder), size))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
