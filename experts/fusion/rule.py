"""The decoding rule of FusionRoute (arXiv 2601.05106), plainly, in torch.

    I        = argmax_i <W_i, h> + b_i                   (the paper has no b: it is zero unless somebody sets it)
    log p(y) = log p_router(y) + log p_I(y) - log Z      (Z makes the probabilities add up to one)

h is the router's last hidden state after its final norm: what its `lm_head` sees.

Ours, not the paper's: W may have a row more than there are experts. Where it wins, the router speaks by itself, and no
expert is added to it.
"""

from typing import NamedTuple

import torch


class Head(NamedTuple):
    """The routing head. `weight`: (rows, d); `bias`: (rows,); a row for each expert, and maybe one for nobody."""

    weight: torch.Tensor
    bias: torch.Tensor

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """(…, d) to (…, rows), in float32."""
        return hidden.float() @ self.weight.float().T + self.bias.float()

    @classmethod
    def zeros(cls, experts: int, width: int, *, always: int | None = None) -> "Head":
        """A head that has learned nothing; with `always`, one that picks that expert at every token."""
        bias = torch.zeros(experts)
        if always is not None:
            bias[always] = 1.0
        return cls(torch.zeros(experts, width), bias)


class Fused(NamedTuple):
    """What the members say together.

    `logprobs`: (…, v) float32, normalised; `expert`: (…) int64, who was picked, the number of experts where the router
    speaks by itself; `own`: (…) int64, the token that this one alone likes best; `shift`: (…) float32, how far the
    router moved the expert's distribution, as the total variation between it and the fused one: 0 no bit, 1 wholly.
    """

    logprobs: torch.Tensor
    expert: torch.Tensor
    own: torch.Tensor
    shift: torch.Tensor


def fuse(scores: torch.Tensor, router: torch.Tensor, experts: torch.Tensor) -> Fused:
    """Pick, and add.

    `scores`: (…, n or n + 1), the head's; `router`: (…, v) logits; `experts`: (n, …, v) logits. Ties go to the first.
    """
    chosen, count = scores.argmax(dim=-1), experts.shape[0]
    picked = experts.gather(0, chosen.clamp_max(count - 1)[None, ..., None].expand(1, *experts.shape[1:]))[0]
    return add(chosen, count, router, picked)


def add(chosen: torch.Tensor, experts: int, router: torch.Tensor, picked: torch.Tensor) -> Fused:
    """Add the router's log-probabilities to those of the experts that were picked.

    `chosen`: (…) int64, below `experts`, or equal to it where nobody is; `router` and `picked`: (…, v) logits, those of
    nobody being ignored. All arithmetic in float32.
    """
    ours = router.float().log_softmax(dim=-1)
    alone = torch.where((chosen < experts)[..., None], picked.float().log_softmax(dim=-1), ours)
    together = torch.where((chosen < experts)[..., None], (ours + alone).log_softmax(dim=-1), ours)
    shift = 0.5 * (together.exp() - alone.exp()).abs().sum(dim=-1)
    return Fused(together, chosen, alone.argmax(dim=-1), shift)
