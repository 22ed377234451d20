"""What to do about a sampler whose probabilities are not the learner's: correct, and measure.

An inference engine computes the same weights in another precision, with other kernels, sometimes one update late.
Tokens then come from μ, while the gradient is wanted for π. Each advantage is multiplied by a truncated ratio
π/μ, and the distance between the two is logged at every step.
"""

from typing import Literal

import torch

from ..losses import bounded

Level = Literal["token", "sequence"]


def importance_weights(
    logp_BT: torch.Tensor, behaviour_logp_BT: torch.Tensor, counted_BT: torch.Tensor, level: Level = "token", cap: float = 2.0
) -> torch.Tensor:
    """Returns the weights min(π/μ, cap), [B, T], per token or for the whole path, without gradient; 1 where nothing counts.

    Args:
        logp_BT: [B, T] of the learner when the update begins, nats.
        behaviour_logp_BT: [B, T] of the sampler, nats.
        counted_BT: [B, T], True where the model wrote the token and trains on it.
        level: "token": each token has its own ratio, with little variance, and a bias that is small where the two are
            close; "sequence": a path has one ratio, the product of its tokens', unbiased apart from the cap, but far
            from 1 on long paths.
        cap: largest weight; below 1, tokens on which both agree would lose weight.

    Source: Yao et al., "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (2025): token level,
    cap 2. The weight multiplies the advantage, not the whole loss, so that a KL penalty stays as it is.

    >>> learner, sampler = torch.tensor([[0.5, 0.9]]).log(), torch.tensor([[0.25, 0.1]]).log()
    >>> counted = torch.tensor([[True, True]])
    >>> importance_weights(learner, sampler, counted)
    tensor([[2., 2.]])
    >>> importance_weights(learner, sampler, counted, "sequence", cap=100.0)
    tensor([[18., 18.]])
    """
    difference_BT = log_ratios(logp_BT, behaviour_logp_BT, counted_BT)
    if level == "sequence":
        difference_BT = torch.where(counted_BT, difference_BT.sum(1, keepdim=True), 0.0)
    return difference_BT.exp().clamp(max=cap)


def log_ratios(logp_BT: torch.Tensor, behaviour_logp_BT: torch.Tensor, counted_BT: torch.Tensor) -> torch.Tensor:
    """Returns log(π/μ), [B, T], nats, without gradient; 0 where a token does not count.

    Raises:
        ValueError: the shapes differ.
    """
    shapes = [tuple(tensor.shape) for tensor in (logp_BT, behaviour_logp_BT, counted_BT)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"All inputs must share one shape [B, T]; got {shapes}.")
    return torch.where(counted_BT, logp_BT.detach() - behaviour_logp_BT, 0.0)


class Mismatch:
    """Collects, micro-batch by micro-batch, how far apart sampler and learner are.

    Args:
        level: of the weights whose effective sample size is wanted.
    """

    def __init__(self, level: Level = "token") -> None:
        self.level = level
        self._tokens: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []

    def add(self, logp_BT: torch.Tensor, behaviour_logp_BT: torch.Tensor, counted_BT: torch.Tensor) -> None:
        """Adds a micro-batch; arguments as for `importance_weights`."""
        difference_BT = log_ratios(logp_BT.double(), behaviour_logp_BT.double(), counted_BT)
        self._tokens.append(difference_BT[counted_BT].cpu())
        sums_B = difference_BT.sum(1)[counted_BT.any(1)].cpu()
        self._weights.append(self._tokens[-1] if self.level == "token" else sums_B)

    def join(self, other: "Mismatch") -> None:
        """Adds the micro-batches of another, such as another rank's."""
        self._tokens += other._tokens
        self._weights += other._weights

    def metrics(self) -> dict[str, float]:
        """Returns the metrics, none if nothing was computed; a token shared by several paths counts once for each.

        mismatch_kl: mean of r − 1 − log r with r = π/μ, which estimates KL(μ ‖ π), nats per token.
        mismatch_ratio_max: largest r of a token; as in the losses, at most e^20.
        effective_sample_size: (Σ w)² / (n Σ w²) of the weights before truncation, in (0, 1]; 1 where both agree.
        """
        if not self._tokens:
            return {}
        log_F, log_weight_F = bounded(torch.cat(self._tokens)), torch.cat(self._weights)
        share = 2 * log_weight_F.logsumexp(0) - (2 * log_weight_F).logsumexp(0)  # in logarithms: a path's weight may overflow
        share = share.nan_to_num(nan=-torch.inf)  # where all weights are 0
        return {
            "mismatch_kl": float((log_F.exp() - 1.0 - log_F).mean()),
            "mismatch_ratio_max": float(log_F.max().exp()),
            "effective_sample_size": float(share.exp()) / len(log_weight_F),
        }
