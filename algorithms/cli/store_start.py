"""`make start`: stores the cold start of a run as the start that comes with the package."""

import sys
from pathlib import Path

from ..models.embedded.cold_start import ColdStartConfig
from ..models.embedded.stored import FOLDER, store
from ..models.loading import load_policy
from .config import TrainConfig


def main(run: Path, folder: Path = FOLDER) -> None:
    """Stores the start of a run.

    Args:
        run: the folder of a run of `arpo train --cold-start fresh`.
        folder: where to write it.
    """
    config = TrainConfig.load(run)
    model, tokenizer = load_policy(run / "cold_start")
    store(config.make_env(*config.train_args), ColdStartConfig(), model, tokenizer, seed=config.seed, folder=folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
