"""Every law of `check_policy` bites, and healthy policies pass."""

from typing import Any

import numpy as np
import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from policy_faults import POLICY_FAULTS, Healthy, decode, encode, model, weights
from rounding import slack, toy_nats
from sampling_faults import SAMPLING_FAULTS

from algorithms.policies.local import LocalPolicy
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.testing import ConformanceError, Law, Promises, Report, check_policy
from algorithms.testing.sampling import Draws

TOKENIZER = byte_tokenizer()


HANGING = {Law.CANCEL, Law.CLOSE}
ENOUGH = 3500
"""Draws after which samplers of another distribution are seen."""


def check(policy: type[Healthy], timeout: float = 30.0, **options: Any) -> Report:
    return check_policy(
        policy,
        encode=encode,
        decode=decode,
        reference=model(weights(0)),
        other={"table": weights(1)},
        other_reference=model(weights(1)),
        promises=policy.promises,
        timeout=timeout,
        **{"draws": 600, **options},
    )


def others(*laws: Law) -> dict[Law, str]:
    return {other: "not now" for other in Law if other not in laws}


ALONE_OR_NOT = pytest.mark.parametrize("alone", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["alone", "among all"])
BITES = [
    pytest.param(law, policy, marks=pytest.mark.slow if policy.__name__ == "KeepsPlaces" else ())
    for law, policy in POLICY_FAULTS
]


@ALONE_OR_NOT
@pytest.mark.parametrize(("law", "policy"), BITES, ids=lambda value: getattr(value, "__name__", ""))
def test_policy_law_bites(law: Law, policy: type[Healthy], alone: bool) -> None:
    report = check(policy, timeout=1.0 if law in HANGING else 30.0, skip=others(law) if alone else {}, raise_on_fail=False)
    assert law in report.failed, str(report)


def test_every_law_has_a_planted_fault() -> None:
    assert {law for law, _ in POLICY_FAULTS} | {Law.DRAWS} == set(Law)


def test_a_healthy_policy_passes_every_law() -> None:
    report = check(Healthy)
    assert report.passed == tuple(Law), str(report)


def test_a_broken_policy_raises_and_says_what_is_broken() -> None:
    broken = dict(POLICY_FAULTS)[Law.SEEDS]
    with pytest.raises(ConformanceError, match="the same seed draws the same tokens") as caught:
        check(broken)
    assert Law.SEEDS in caught.value.report.failed


@pytest.mark.parametrize(("policy", "words"), SAMPLING_FAULTS)
def test_a_sampler_of_another_distribution_is_named(policy: type[Healthy], words: str) -> None:
    draws = 6000 if words.startswith("none was") else ENOUGH  # what never comes must have been due
    report = check(policy, draws=draws, skip=others(Law.SHAPES, Law.LOGPROBS, Law.DRAWS), raise_on_fail=False)
    assert report.failed == (Law.DRAWS,), str(report)
    assert words in str(report), str(report)


def test_false_alarms_are_as_rare_as_said() -> None:
    """With one in five allowed instead of one in a million, far fewer than that are seen."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(150):
        tally = Draws()
        for _ in range(30):
            logits = rng.normal(size=(8, 40)) * rng.choice([0.0, 0.5, 3.0])
            logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            tally.add(logp, tuple((logp + rng.gumbel(size=logp.shape)).argmax(axis=1).tolist()))
        alarms += bool(tally.complaints(0.2, slack=0.0))
    assert alarms <= 30


def test_a_policy_that_is_certain_is_not_judged_by_its_draws() -> None:
    class Certain(Healthy):
        def __init__(self) -> None:
            super().__init__()
            self.table = self.table * 1000.0

    skip = others(Law.SHAPES, Law.DRAWS)
    report = check_policy(Certain, encode=encode, decode=decode, reference=model(weights(0) * 1000.0), skip=skip, draws=300)
    assert "so certain" in report.skipped[Law.DRAWS]


def text_of(ids: Any) -> str:
    return str(TOKENIZER.decode(list(ids), clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("family", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_the_local_policy_conforms(family: str) -> None:
    mine, other = (tiny_model(family, seed=seed, dtype=torch.float64) for seed in (0, 5))
    report = check_policy(
        lambda: LocalPolicy(mine, TOKENIZER, context_length=128, slots=8, cache_tokens=400),
        encode=lambda text: TOKENIZER.encode(text, add_special_tokens=False),
        decode=text_of,
        reference=mine,
        other=other.state_dict(),
        other_reference=other,
        promises=Promises(**slack(toy_nats(family))),
        draws=ENOUGH,
    )
    assert set(report.passed) | {Law.SIBLINGS, Law.BITS} == set(Law), str(report)


def test_the_scripted_policy_conforms_as_far_as_a_script_can() -> None:
    renderer = ScriptedRenderer()

    def script(before: str, seed: int) -> str:
        return f"<search>{seed * 7919 % 1009:04d} {len(before)} {before[:5]} Köln 東京</search>"

    report = check_policy(
        lambda: ScriptedPolicy(script, context_length=500),
        encode=lambda text: [ord(c) for c in text],
        decode=renderer.text,
        other={},
        most=0xD000,
        skip={
            Law.GREEDY: "a script has no distribution",
            Law.STOP_TOKENS: "a script ends its own actions",
            Law.STOP_STRINGS: "a script ends its own actions",
            Law.STOP_SEAM: "a script ends its own actions",
        },
    )
    numbers = {Law.EXACT_IDS, Law.LOGPROBS, Law.ENTROPIES, Law.DRAWS, Law.WEIGHTS, Law.STALE}
    stops = {Law.GREEDY, Law.STOP_TOKENS, Law.STOP_STRINGS, Law.STOP_SEAM}
    assert set(report.skipped) == numbers | stops | {Law.BITS}, str(report)
    assert report.ok
