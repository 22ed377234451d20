"""What was compared, and what was found: values, and the words for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """One way of computing log-probabilities.

    Args:
        name: one word.
        does: completes "the log-probabilities are off when …".
        remedies: what a user can do about it, besides using another model.
    """

    name: str
    does: str
    remedies: tuple[str, ...] = ()


_OTHER_ENGINE = ("draw with another engine (--engine vllm)",)
ITSELF = Way("itself", "a text continues: the model changes the probabilities of its beginning")
ROWS = Way("rows", "the learner scores texts of several lengths together")
BLOCKS = Way(ROWS.name, f"{ROWS.does}, by FlexAttention", ("leave out --attention flex_attention",))
ALONE = Way("alone", "the engine draws from one text", _OTHER_ENGINE)
FORKED = Way("forked", "the engine continues a cached prefix", _OTHER_ENGINE)
NEIGHBOURS = Way("neighbours", "the engine draws from several texts together", _OTHER_ENGINE)
LOADED = Way("loaded", "the engine has been given new weights", _OTHER_ENGINE)


@dataclass(frozen=True)
class Difference:
    """How far off one way was from the model itself.

    Args:
        way: which.
        nats: how far the log-probabilities of a text are off, root mean square, in the worst text; infinite if there are none.
        allowed: what rounding explains.
        tokens: of the longest text.
        error: what was raised instead of a number.
    """

    way: Way
    nats: float
    allowed: float
    tokens: int
    error: str = ""

    @property
    def fine(self) -> bool:
        """Whether the two agree."""
        return self.nats <= self.allowed


@dataclass(frozen=True)
class Agreement:
    """What the comparison found.

    Args:
        model: its type.
        differences: one for each way that was tried; the first that is not fine ends the comparison.
        unpacked: why trees are trained as flat rows; None if they are packed.
        agrees_up_to: length in tokens up to which the failing way is fine; 0 if none was found.
        verb: what the model was to be used for: "train" or "evaluate".
    """

    model: str
    differences: tuple[Difference, ...]
    unpacked: str | None
    agrees_up_to: int = 0
    verb: str = "train"

    @property
    def refusal(self) -> str | None:
        """Why the probabilities would be wrong, and what to do; None if all agree."""
        last = self.differences[-1]
        if last.fine:
            return None
        limit = (f"limit the context (--context-length {self.agrees_up_to})",) if self.agrees_up_to else ()
        advice = "; or ".join((*limit, *last.way.remedies, f"{self.verb} another model"))
        cannot = f"{self.model} cannot be {self.verb.removesuffix('e')}ed here"
        if last.error:
            return f"{cannot}. Where {last.way.does}, it raises {last.error}. You can {advice}."
        agrees = f" They agree on texts of up to {self.agrees_up_to} tokens." if self.agrees_up_to else ""
        return (
            f"{cannot}: log-probabilities are {last.nats:.2g} nats off where {last.way.does}, on "
            f"texts of up to {last.tokens} tokens; rounding explains {last.allowed:.1g}.{agrees} You can {advice}."
        )

    def __str__(self) -> str:
        """Returns the result in one line."""
        worst = max(self.differences, key=lambda one: one.nats / one.allowed)
        return (
            f"sampler, learner and model agree within {worst.nats:.1g} nats (rounding explains {worst.allowed:.1g}) on texts "
            f"of up to {worst.tokens} tokens"
        )
