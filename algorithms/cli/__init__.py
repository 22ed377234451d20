"""The `arpo` command: one file per subcommand, imported when it is called."""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "Train a policy on an environment with an algorithm.",
    "sft": "Train a policy on demonstrations, before it learns by itself.",
    "eval": "Measure a policy on held-out tasks.",
    "show": "Look at a run's trees and transcripts in the terminal.",
    "view": "Look at a run in the browser, also while it is running.",
    "report": "Write a run's page: curves and trees in one HTML file.",
    "export": "Write the leaves of a run's trees as documents that other tools read.",
    "entropy": "Plot the entropy of a policy around tool results.",
    "play": "Be the policy: play an environment in the terminal.",
    "envs": "List the environments.",
    "algorithms": "List the algorithms.",
    "new": "Write a package with an environment, as the beginning of your own.",
    "compare": "Train several algorithms at equal cost, and say what is shown.",
    "plan": "Say what a run will cost, where its time will go, and how to use devices best.",
    "study": "Repeat the main run over seeds and controls, and write its table.",
    "serve-search": "Serve documents to trainers that search over HTTP.",
    "bench": "Measure the time and memory of each part, and what sharing saves.",
    "doctor": "Show what works on this machine: isolation of model-written code, optional packages, plug-ins.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit status: 0 for success, 2 for a user's mistake, 130 if interrupted."""
    from rich.console import Console
    from rich.markup import escape

    from arpo_envs import ArpoError
    from arpo_envs.errors import unknown_name
    from arpo_envs.screen import readable

    words = list(sys.argv[1:] if arguments is None else arguments)
    errors = Console(stderr=True)
    if not words or words[0] in ("-h", "--help", "help"):
        _print_help()
        return 0
    command, rest = words[0], words[1:]
    try:
        if command not in COMMANDS:
            raise unknown_name("command", command, COMMANDS)
        module = importlib.import_module(f".{command.replace('-', '_')}", __name__)
        return int(module.main(rest))
    except ArpoError as error:
        about = escape(readable(str(error), errors.encoding))
        errors.print(f"[bold red]arpo {escape(readable(command))}:[/] {about}", highlight=False)
        for note in getattr(error, "__notes__", ()):
            errors.print(escape(readable(note, errors.encoding)), highlight=False)
        return 2
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "transformers", "matplotlib"):
            raise
        errors.print(f"[bold red]arpo {command}[/] needs {error.name}: pip install 'arpo-envs\\[train]'", highlight=False)
        return 2
    except KeyboardInterrupt:
        errors.print("Interrupted.")
        return 130


def _print_help() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, line in COMMANDS.items():
        table.add_row(f"[bold cyan]arpo {name}[/]", line)
    console = Console()
    console.print("Agentic reinforcement learning on forkable tool-use environments.\n")
    console.print(table)
    console.print("\nHelp for a command: [bold]arpo train --help[/]")
