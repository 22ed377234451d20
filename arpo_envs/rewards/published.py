"""Exact match and token F1 as published evaluation scripts compute them, for numbers that can be set beside those of papers.

Rewards use `answers.py` instead: these scripts delete every sign and every article, after which "-3" equals "3".
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Rule = Literal["squad", "hotpotqa", "musique"]
"""Whose F1; exact match is the same in all.

squad: SQuAD 1.1's. hotpotqa: also 2WikiMultiHopQA's; yes, no and noanswer have nothing in common with any other answer.
musique: also SQuAD 2.0's; two answers that are empty once normalised are equal.
"""
VERDICTS = frozenset({"yes", "no", "noanswer"})
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@dataclass(frozen=True)
class TextScores:
    """What an answer scores.

    Args:
        exact: 1 for an exact match, otherwise 0.
        f1: in [0, 1].
    """

    exact: float
    f1: float


def published_normal(text: str) -> str:
    """Returns an answer in lower case, without ASCII's punctuation, articles and superfluous blanks, in this order.

    >>> published_normal("The U.S.  Capitol"), published_normal("-3.5"), published_normal("A.")
    ('us capitol', '35', '')
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def published_scores(answer: str, accepted: Sequence[str], rule: Rule = "squad") -> TextScores:
    """Returns the scores of an answer: each the best over all accepted answers.

    Args:
        answer: what was given, without any wrapping.
        accepted: at least one.
        rule: whose F1.

    Raises:
        ValueError: nothing is accepted.

    Source: evaluate-v1.1.py of SQuAD, hotpot_evaluate_v1.py of HotpotQA, metrics/answer.py of MuSiQue.

    >>> published_scores("in Paris, France", ["Paris", "the city of Paris"])
    TextScores(exact=0.0, f1=0.5)
    >>> [published_scores("no one", ["no"], rule).f1 for rule in ("squad", "hotpotqa")]
    [0.6666666666666666, 0.0]
    """
    if not accepted:
        raise ValueError("published_scores() needs at least one accepted answer.")
    own, targets = published_normal(answer), [published_normal(text) for text in accepted]
    return TextScores(float(own in targets), max(_f1(own, target, rule) for target in targets))


def _f1(own: str, target: str, rule: Rule) -> float:
    if rule == "hotpotqa" and own != target and (own in VERDICTS or target in VERDICTS):
        return 0.0
    given, expected = own.split(), target.split()
    if rule == "musique" and not (given and expected):
        return float(given == expected)
    common = (Counter(given) & Counter(expected)).total()
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(expected)
    return 2 * precision * recall / (precision + recall)  # in this form: equal to the scripts' to the last bit
