"""Why there is no page, in words for the model."""


class Unavailable(Exception):
    """What was asked for cannot be had; the message says why."""


class Passing(Unavailable):
    """It may be had a moment later.

    Args:
        text: why it cannot be had now.
        wait: seconds that the server asks to wait.
    """

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class TooLate(Unavailable):
    """The time for the whole page is up."""

    def __init__(self) -> None:
        super().__init__("it took too long")
