"""Laws about where an action ends: limits, stop tokens, stop strings, and the seam of a probe."""

from collections.abc import AsyncIterator, Sequence

from arpo_envs.testing import Finding, SkippedLaw

from ..policies import Generation
from .bench import Bench
from .laws import Law

_LONG = 40
_TRIES = 12


async def limits(bench: Bench) -> AsyncIterator[Finding]:
    """`max_tokens` is kept, and "length" means that it was reached."""
    hint = "Draw until the action is complete or has max_tokens tokens; say which of the two it was."
    for limit in (1, 2, 7):
        drawn = await bench.ask(bench.text_context(), limit, seed=limit)
        count = len(drawn.tokens)
        if count > limit or (drawn.finish == "length" and count != limit):
            happened = f"max_tokens={limit} gave {count} tokens and finish={drawn.finish!r}"
            yield Finding(Law.LIMITS, happened, f"at most {limit}, and 'length' only at {limit}", hint)
    rows = [{"context": bench.text_context(i), "tokens": limit, "seed": i} for i, limit in enumerate((3, 11, 6))]
    for row, drawn in zip(rows, await bench.ask_all(rows), strict=True):
        if len(drawn.tokens) > int(str(row["tokens"])):
            happened = f"in a batch, max_tokens={row['tokens']} gave {len(drawn.tokens)} tokens"
            yield Finding(Law.LIMITS, happened, "each request's own limit", hint)


async def stop_tokens(bench: Bench) -> AsyncIterator[Finding]:
    """The first stop token is the last one of the action."""
    context = bench.text_context()
    free = await bench.ask(context, 16, seed=5)
    if len(free.tokens) < 3:
        raise SkippedLaw("actions are too short to stop within")
    stop = free.tokens[len(free.tokens) // 2]
    wanted = free.tokens[: free.tokens.index(stop) + 1]
    drawn = await bench.ask(context, 16, seed=5, stop_tokens=(stop,))
    if drawn.tokens != wanted or drawn.finish != "stop":
        happened = f"with the stop token {stop}: {drawn.tokens}, finish={drawn.finish!r}"
        yield Finding(Law.STOP_TOKENS, happened, f"{wanted}, finish='stop'", "Keep the stop token, with its log-probability.")


async def stop_strings(bench: Bench) -> AsyncIterator[Finding]:
    """A string that spans two tokens ends the action with the second one; the context's text does not count."""
    found = False
    for seed in range(_TRIES):
        context = bench.text_context(seed)
        free = await bench.ask(context, _LONG, seed=seed)
        stop = _spanning(bench, free.tokens, len(free.tokens) // 3)
        if stop is None:
            continue
        found = True
        drawn = await bench.ask([*context, *bench.encode(stop)], _LONG, seed=seed, stop=("no such string", stop))
        for finding in _ended(bench, Law.STOP_STRINGS, drawn, stop, ""):
            yield finding
        drawn = await bench.ask(context, _LONG, seed=seed, stop=("no such string", stop))
        wanted = _until(bench, free.tokens, stop)
        if drawn.tokens != wanted or drawn.finish != "stop":
            happened = f"stop={stop!r} gave {bench.decode(drawn.tokens)!r}, finish={drawn.finish!r}"
            hint = "Match stop strings in the text of all tokens of the action, and keep the token that completes one."
            yield Finding(Law.STOP_STRINGS, happened, f"{bench.decode(wanted)!r}, finish='stop'", hint)
    if not found:
        raise SkippedLaw("no drawn text could serve as a stop string")


async def stop_seam(bench: Bench) -> AsyncIterator[Finding]:
    """A stop string that begins in the probe is found by the continuation."""
    found = False
    for seed in range(_TRIES):
        context = bench.text_context(seed)
        probe = await bench.ask(context, 4, seed=seed)
        if probe.finish == "stop":
            continue
        longer, tail = [*context, *probe.tokens], bench.decode(probe.tokens)
        free = await bench.ask(longer, _LONG, seed=seed, offset=4, tail=tail)
        whole = (*probe.tokens, *free.tokens)
        stop = _between(bench, whole, 3)
        if stop is None or stop in tail:
            continue
        found = True
        drawn = await bench.ask(longer, _LONG, seed=seed, offset=4, tail=tail, stop=(stop,))
        wanted = _until(bench, whole, stop)[4:]
        if drawn.tokens != wanted or drawn.finish != "stop":
            happened = f"after a probe {tail!r}, stop={stop!r} gave {bench.decode(drawn.tokens)!r}, finish={drawn.finish!r}"
            hint = (
                "A backend matches within one request only: search in `tail` + new text, and cut at the token that completes."
            )
            yield Finding(Law.STOP_SEAM, happened, f"{bench.decode(wanted)!r}, finish='stop'", hint)
    if not found:
        raise SkippedLaw("no drawn text could serve as a stop string across a seam")


def _ended(bench: Bench, law: Law, drawn: Generation, stop: str, tail: str) -> list[Finding]:
    """Returns a finding if an action and its finish disagree about a stop string."""
    text = tail + bench.decode(drawn.tokens)
    before = tail + bench.decode(drawn.tokens[:-1])
    if (stop in text) == (drawn.finish == "stop") and stop not in before:
        return []
    happened = f"stop={stop!r}, which the context ends with, gave {text!r}, finish={drawn.finish!r}"
    return [
        Finding(law, happened, "an action that ends with its own first stop string", "Match in the action, not in the context.")
    ]


def _spanning(bench: Bench, tokens: Sequence[int], first: int) -> str | None:
    """Returns a string that begins in one of the tokens and ends in the next one."""
    for at in range(first, len(tokens) - 1):
        stop = _between(bench, tokens, at)
        if stop is not None and stop not in bench.decode(tokens[: at + 1]):
            return stop
    return None


def _between(bench: Bench, tokens: Sequence[int], at: int) -> str | None:
    """Returns the end of token `at` and the beginning of the next one, if that is valid text."""
    if at + 1 >= len(tokens):
        return None
    left, both = bench.decode(tokens[at : at + 1]), bench.decode(tokens[at : at + 2])
    stop = both[max(0, len(left) - 2) : len(left) + 1]
    clean = left and both.startswith(left) and len(both) > len(left) and "\ufffd" not in both
    if not clean or stop.strip() != stop or stop not in bench.decode(tokens[: at + 2]):
        return None
    return stop


def _until(bench: Bench, tokens: Sequence[int], stop: str) -> tuple[int, ...]:
    """Returns the shortest beginning whose text holds the stop string."""
    count = next(n for n in range(1, len(tokens) + 1) if stop in bench.decode(tokens[:n]))
    return tuple(tokens[:count])
