"""ARPO as its authors' released code runs it, so that runs can be compared with it."""

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.entropy import Bernoulli
from ..branching.reference import ReferenceBranching
from ..losses.clip import ClipLoss
from ._parts import needs_for


def arpo_reference(
    *, rollouts: int, roots: int, tokens: int, siblings: int, alpha: float, beta: float, clip: float, kl: float
) -> Algorithm:
    """Returns what the released code does where that differs from the paper and from `arpo`.

    As in the code, and not in the paper:
        - The decision after tool result t looks at the action that preceded it; the tokens after the result, whose
          entropy the paper's argument is about, are never looked at. No probe is drawn.
        - So ΔH = 0 at a path's first result, and the probability there is exactly alpha.
        - A forked path starts over with a baseline of its own: its first action after the fork.
        - Entropies of the first k tokens are added up and divided by ln V once, so short actions look certain.
        - The rule is a draw with probability clip(alpha + beta·ΔH), one for each sibling.
        - Back-fill adds one path at a time; such a path may itself fork.
        - The group's deviation is the sample deviation (n − 1); a bad token's loss is bounded by a dual clip, c = 3.
        - There is no code for hard attribution.

    In the code, but not here:
        - The first baseline of a row number is kept for the life of the process, so from the second batch on entropies
          are compared with those of another question. A decision here depends only on its own tree.
        - Entropies are those of the ten likeliest tokens; here they are those of the whole vocabulary, or of as many
          tokens as the backend reports.
        - Draws are unseeded, and differ between tensor-parallel ranks.
        - The token mean is taken per micro-batch; here it is over the whole optimizer batch.
        - A reference model is run although its coefficient is 0.
        - What the code does to tools, rewards and truncated paths belongs to environments, not to the algorithm.

    Args:
        rollouts: M, leaves per prompt.
        roots: N, `initial_rollouts`.
        tokens: k, first tokens of an action whose entropies count.
        siblings: Z, `beam_size` − 1.
        alpha: `branch_probability`.
        beta: `entropy_weight`.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: the authors' repository at commit a95cd08 (17 September 2025).
    """
    return Algorithm(
        name="arpo",
        source="ARPO as released, commit a95cd08; arXiv 2507.19849",
        branching=ReferenceBranching(roots, Bernoulli(alpha, beta), tokens, siblings),
        rollouts=rollouts,
        advantages=SoftAttribution(deviation="sample"),
        loss=ClipLoss(clip, clip, kl, dual=3.0),
        needs=needs_for(kl),
    )
