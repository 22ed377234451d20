"""`arpo play`: a person is the policy; the episode can be forked and taken back."""

import contextlib
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated

import tyro
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from arpo_envs import ArpoError, ForkLevel, fork_level, members
from arpo_envs.arguments import described, example
from arpo_envs.screen import question_panel, readable, result_panel

from .docstrings import with_help
from .environments import env_maker
from .game import Branch, Game, Move
from .mixtures import env_arguments
from .prompting import Prompting

_COMMANDS = {
    "fork": "Clones the episode as it stands, and goes on in the clone.",
    "branches": "Shows all branches.",
    "switch 2": "Goes on in branch 2.",
    "undo": "Takes the last action back, by restoring the snapshot before it.",
    "question": "Shows the question again.",
    "instructions": "Shows what a policy is told before the question.",
    "help": "Shows this list.",
    "quit": "Ends the game and shows the answer; so does Ctrl-D.",
}


@with_help
@dataclass(frozen=True)
class PlayConfig:
    """Play an environment in the terminal."""

    env: Annotated[str, tyro.conf.Positional] = "ARPO/Search-v0"
    """Environment id, as for gym.make, or a mixture ID=WEIGHT,ID=WEIGHT."""
    args: tuple[str, ...] = ()
    """Environment arguments, each NAME=VALUE, e.g. hops=3; ID:NAME=VALUE is for one environment of a mixture."""
    prompt: str = "ours"
    """What a policy would be told before the question: ours, paper or search-r1. The command instructions shows it."""
    examples: int = 0
    """Worked examples that it would be shown, too."""
    seed: int | None = None
    """Seed that draws the question (default: at random)."""
    task: str | None = None
    """Id of a particular question (default: one drawn with the seed)."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo play`."""
    config = tyro.cli(
        PlayConfig, args=list(arguments), prog="arpo play", description="Be the policy: play an environment in the terminal."
    )
    prompting = Prompting(config.prompt, config.examples)
    make_env = env_maker(config.env, env_arguments(config.env, config.args), prompting)
    seed = random.SystemRandom().randrange(10_000) if config.seed is None else config.seed
    game = Game(make_env, seed=seed, task=config.task)
    console = Console(highlight=False)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # where it exists, it gives input() history and line editing
            import readline  # noqa: F401
    try:
        drawn = readable(f"  seed {seed} · task {game.current.info.get('task', '')}", console.encoding)
        console.print(Text.assemble((config.env, "bold cyan"), (drawn, "dim")))
        _Table(game, console).play()
    finally:
        game.close()
    return 0


class _Table:
    """Where a game is played: reads lines and shows their results."""

    def __init__(self, game: Game, console: Console) -> None:
        self.game, self.console = game, console
        self._commands: dict[str, Callable[[str], None]] = {
            "fork": self._fork,
            "branches": self._branches,
            "switch": self._switch,
            "undo": self._undo,
            "question": self._question,
            "instructions": self._instructions,
            "help": self._help,
        }

    def play(self) -> None:
        """Reads lines until the player has enough."""
        self._question("")
        self._help("")
        while (line := self._read()) is not None:
            word, _, rest = line.removeprefix("/").partition(" ")
            if word in ("quit", "exit") or (not line and self.game.current.ended is not None):
                break
            try:
                if word in self._commands and (line.startswith("/") or word not in self.game.tools):
                    self._commands[word](rest.strip())
                elif line:
                    self._act(line)
            except ArpoError as error:
                self._say(str(error), "yellow")
        self._farewell()

    # --- the player's words -------------------------------------------------------------------------

    def _act(self, line: str) -> None:
        action = self.game.action(line)
        if action is None:
            word = line.partition(" ")[0]
            known = [*self.game.tools, "answer", *self._commands, "quit"]
            close = get_close_matches(word, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "type help to see what can be done."
            self._say(f"{word!r} is neither a tool nor a command: {hint}", "yellow")
            return
        move = self.game.act(action)
        if action != line:
            self._say(f"  {action}", "dim")
        self._show(move)

    def _fork(self, rest: str) -> None:
        branch = self.game.fork()
        exact = fork_level(branch.env) is ForkLevel.EXACT
        rerun = "nothing was run again" if exact else "what cannot be copied is run again"
        self._say(f"Branch {branch.number} is a clone of {branch.origin}: {rerun}. You are in it now.", "green")

    def _switch(self, rest: str) -> None:
        branch = self.game.switch(rest)
        self._say(f"You are in branch {branch.number} (from {branch.origin}).", "green")
        if branch.moves:
            self._show(branch.moves[-1])

    def _undo(self, rest: str) -> None:
        move = self.game.undo()
        self._say(f"Taken back: {move.action}", "green")

    def _branches(self, rest: str) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("", "", "from", "actions", "state", "last action"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        for branch in self.game.branches:
            mark = "[bold cyan]▶[/]" if branch is self.game.current else ""
            own = f"{branch.inherited} + {len(branch.moves) - branch.inherited}" if branch.inherited else str(len(branch.moves))
            last = self._text(branch.moves[-1].action if branch.moves else "–")
            table.add_row(mark, str(branch.number), branch.origin, own, self._text(_state(branch)), last)
        self.console.print(table)

    def _question(self, rest: str) -> None:
        self.console.print(question_panel(self.game.question, self.console.encoding))

    def _instructions(self, rest: str) -> None:
        env = self.game.current.env
        examples = ("\n".join(["Example:", *worked]) for worked in members.EXAMPLES.through(env))
        self._say("\n\n".join([members.INSTRUCTIONS.through(env), *examples]) or "Nothing.", "dim")

    def _help(self, rest: str) -> None:
        table = Table(box=None, show_header=False, padding=(0, 2))
        for spec in self.game.tools.values():
            arguments = described(spec)
            body = "…" if spec.text_parameter else example(spec) if arguments else ""
            about = self._text(spec.description)
            if spec.text_parameter is None or len(arguments) > 1:
                about.append(self._text("".join(f"\n{argument}" for argument in arguments), "dim"))
            table.add_row(self._text(f"{spec.name} {body}".rstrip(), "bold green"), about)
        dialect = self.game.dialect
        if dialect is None:
            table.add_row(Text("…", style="bold green"), "You write the action itself.")
        else:
            table.add_row(Text("answer …", style="bold green"), "Answers the question and ends the episode.")
        for name, meaning in _COMMANDS.items():
            table.add_row(Text(name, style="cyan"), Text(meaning, style="dim"))
        self.console.print(table)
        if dialect is not None:
            self._say(f"  A full action works too, as a model would write it: {dialect.answer('…')}", "dim")

    # --- what is shown ------------------------------------------------------------------------------

    def _show(self, move: Move) -> None:
        if move.observation:
            self.console.print(result_panel(move.observation, self.console.encoding))
        if move.ended is not None:
            self._verdict()

    def _verdict(self) -> None:
        branch = self.game.current
        success = branch.info.get("success")
        style = "green" if success == 1.0 else "red" if success is not None else "cyan"
        text = Text.assemble(self._text(f"{branch.ended} · reward "), (f"{branch.reward:g}", f"bold {style}"))
        if answers := self.game.answers():
            text.append("\nAnswer: ")
            text.append(self._text(answers[0], "bold"))
            text.append(self._text(f"   (also {', '.join(answers[1:])})" if answers[1:] else "", "dim"))
        self.console.print(Panel(text, title="The end", title_align="left", border_style=style))
        self._say("Enter ends the game, undo takes the last action back, switch goes to another branch.", "dim")

    def _farewell(self) -> None:
        branch = self.game.current
        if branch.ended is not None:
            return
        answers = self.game.answers()
        known = f" The answer was: {answers[0]}" if answers else ""
        self._say(f"You left before the end; reward so far {branch.reward:g}.{known}", "cyan")

    def _say(self, text: str, style: str) -> None:
        self.console.print(self._text(text, style))

    def _text(self, text: str, style: str = "") -> Text:
        """Returns what others may have written, without what could steer the terminal or turn text around in it."""
        return Text(readable(text, self.console.encoding), style=style)

    def _read(self) -> str | None:
        """Returns the next line, None at the end of the input."""
        branch, game = self.game.current, self.game
        parts = [f"branch {branch.number}"] if len(game.branches) > 1 else []
        turn, turns = branch.info.get("turn", len(branch.moves)), game.limit("max_turns")
        parts.append(f"turn {turn + (branch.ended is None)}" + (f" of {turns}" if turns is not None else ""))
        if game.tools and (calls := game.limit("max_tool_calls")) is not None:
            parts.append(f"{calls - int(branch.info.get('tool_calls', 0))} tool calls left")
        self._say(f"\n[{' · '.join(parts)}]" if branch.ended is None else f"\n[{' · '.join([*parts[:-1], 'over'])}]", "dim")
        try:
            line = input("> ").strip()
        except EOFError:
            self.console.print()
            return None
        if not sys.stdin.isatty():
            self._say(line, "bold")
        return line


def _state(branch: Branch) -> str:
    return "running" if branch.ended is None else f"{branch.ended}, {branch.reward:g}"
