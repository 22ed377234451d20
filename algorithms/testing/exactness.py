"""Laws about numbers: what a policy reports is what its model computes."""

from collections.abc import AsyncIterator, Sequence

import numpy as np

from arpo_envs.testing import Finding

from ..policies import Generation
from .bench import Array, Bench, Logits
from .laws import Law

_TEXTS = ("Zürich → 東京 🇨🇭👩‍👩‍👧", "e\u0301 \u202eabc\u202c \x00\ufeff", "नमस्ते <search>Köln</search>\r\n")


async def shapes(bench: Bench) -> AsyncIterator[Finding]:
    """Ids, lengths, ranges, finish and version."""
    for temperature in (1.0, 0.0):
        context = bench.text_context()
        drawn = await bench.ask(context, 12, temperature=temperature)
        for complaint in _complaints(bench, drawn):
            yield Finding(Law.SHAPES, complaint, "what `Generation` describes", "See algorithms.policies.Generation.")


def _complaints(bench: Bench, drawn: Generation) -> list[str]:
    size, tokens = bench.policy.vocabulary_size, drawn.tokens
    found = []
    if not isinstance(drawn, Generation):
        return [f"generate returned a {type(drawn).__name__}"]
    if not len(tokens) == len(drawn.logprobs) == len(drawn.entropies):
        found.append(f"{len(tokens)} tokens, {len(drawn.logprobs)} logprobs, {len(drawn.entropies)} entropies")
    if not tokens or not all(isinstance(token, int) and 0 <= token < size for token in tokens):
        found.append(f"tokens are {tokens}, the vocabulary has {size}")
    if not all(np.isfinite(value) and value <= 1e-4 for value in drawn.logprobs):
        found.append(f"logprobs are {drawn.logprobs}")
    if not all(-1e-4 <= value <= np.log(size) + 1e-4 for value in drawn.entropies):
        found.append(f"entropies are {drawn.entropies}, at most {np.log(size):.3f} nats are possible")
    if drawn.finish not in ("stop", "length"):
        found.append(f"finish is {drawn.finish!r}")
    if drawn.version != bench.policy.version:
        found.append(f"version is {drawn.version!r}, the policy's is {bench.policy.version!r}")
    return found


async def exact_ids(bench: Bench) -> AsyncIterator[Finding]:
    """Ids to which no text encodes reach the model unchanged."""
    hint = "Pass ids to the model, never text; add no BOS; store the sampled ids, not an encoding of their text."
    for number in range(4):
        context = bench.random_context(number)
        drawn = await bench.ask(context, 6, seed=number)
        for finding in logprob_findings(bench, Law.EXACT_IDS, context, drawn, 1.0, hint):
            yield finding


async def logprobs(bench: Bench) -> AsyncIterator[Finding]:
    """Reported log-probabilities against the reference's."""
    hint = "Report log-softmax of logits / temperature over the whole vocabulary (vLLM: processed_logprobs)."
    for number, temperature in enumerate((1.0, 0.7, 1.3, 0.0)):
        context = bench.text_context(number)
        drawn = await bench.ask(context, 12, seed=number, temperature=temperature)
        for finding in logprob_findings(bench, Law.LOGPROBS, context, drawn, temperature, hint):
            yield finding


def logprob_findings(
    bench: Bench,
    law: Law,
    context: Sequence[int],
    drawn: Generation,
    temperature: float,
    hint: str,
    reference: Logits | None = None,
) -> list[Finding]:
    """Returns a finding if the log-probabilities of a generation are not the reference's."""
    wanted_T = bench.chosen(context, drawn, temperature, reference)
    worst = float(np.abs(wanted_T - np.asarray(drawn.logprobs)).max(initial=0.0))
    if worst <= bench.promises.logprob_slack:
        return []
    happened = (
        f"log-probabilities differ by up to {worst:.2g} nats at temperature {temperature}, {len(context)} tokens of context"
    )
    return [Finding(law, happened, f"at most {bench.promises.logprob_slack:.0e}", hint)]


async def entropies(bench: Bench) -> AsyncIterator[Finding]:
    """Reported entropies against the reference's."""
    slack = bench.promises.entropy_slack
    for number, temperature in enumerate((1.0, 0.7)):
        context = bench.text_context(number)
        drawn = await bench.ask(context, 12, seed=number, temperature=temperature)
        logp_TV = bench.expected(context, drawn, temperature)
        worst = float(np.abs(_entropy(logp_TV) - np.asarray(drawn.entropies)).max())
        if worst > slack:
            happened = f"entropies differ by up to {worst:.2g} nats at temperature {temperature}"
            hint = "Sum over the whole vocabulary, in nats, at the temperature; or declare Promises(entropy_slack=…)."
            yield Finding(Law.ENTROPIES, happened, f"at most {slack:.0e}", hint)


def _entropy(logp_TV: Array) -> Array:
    finite_TV = np.maximum(logp_TV, -1e9)
    entropy_T: Array = -(np.exp(finite_TV) * finite_TV).sum(axis=-1)
    return entropy_T


async def greedy(bench: Bench) -> AsyncIterator[Finding]:
    """Temperature 0 takes the likeliest token, whatever the seed."""
    hint = "At temperature 0 take the argmax; logprobs are then those of the undivided logits."
    for number in range(3):
        context = bench.text_context(number)
        one, other = [await bench.ask(context, 10, seed=seed, temperature=0.0) for seed in (1, 2)]
        if bench.reference is None:
            if one.tokens != other.tokens:
                yield Finding(Law.GREEDY, f"two seeds gave {one.tokens} and {other.tokens}", "the same tokens", hint)
            continue
        for drawn in (one, other):
            logp_TV = bench.expected(context, drawn, 0.0)
            gap = float((logp_TV.max(axis=-1) - bench.chosen(context, drawn, 0.0)).max())
            if gap > bench.promises.greedy_ties:
                yield Finding(Law.GREEDY, f"a token is {gap:.2g} nats less likely than the likeliest", "the likeliest", hint)


async def unicode(bench: Bench) -> AsyncIterator[Finding]:
    """Scripts, marks and emoji in the context, and an action that begins in the middle of a character."""
    hint = "Decode incompletely sampled characters with replacement, and never re-encode them."
    for number, text in enumerate(_TEXTS):
        ids = list(bench.encode(text))
        context = [*bench.text_context(), *ids]
        for offset in sorted({0, 1, min(3, len(ids))}):
            tail = bench.decode(ids[len(ids) - offset :]) if offset else ""
            drawn = await bench.ask(context, 6, seed=number, offset=offset, tail=tail, stop=("→→→🇨🇭",))
            for complaint in _complaints(bench, drawn):
                yield Finding(Law.UNICODE, f"after {text!r}: {complaint}", "a well-formed generation", hint)
            if bench.reference is not None:
                for finding in logprob_findings(bench, Law.UNICODE, context, drawn, 1.0, hint):
                    yield finding
