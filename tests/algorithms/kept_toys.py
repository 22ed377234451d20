"""A writer of checkpoints that keeps their numbers."""

from dataclasses import dataclass, field


@dataclass
class Shelf:
    """Stands for `cli.checkpoints.Checkpoints`.

    Args:
        saved: gets the number of each checkpoint.
        fails: by number, what goes wrong with it.
        is_writing: whether what was begun is still being written, for who asks.
        interrupts: how often Ctrl-C interrupts who waits.
    """

    saved: list[int]
    fails: dict[int, Exception] = field(default_factory=dict)
    is_writing: bool = False
    begun: list[int] = field(default_factory=list)
    interrupts: int = 0

    def write(self, step: int) -> None:
        assert not self.begun, "one at a time"
        if step in self.fails:
            raise self.fails[step]
        self.saved.append(step)

    def begin(self, step: int) -> None:
        assert not self.begun, "one at a time"
        self.begun.append(step)

    def wait(self) -> None:
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        self.write(self.begun.pop())
