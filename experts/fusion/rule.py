"""The decoding rule of FusionRoute (arXiv 2601.05106), plainly, in torch.

    I        = argmax_i <W_i, h> + b_i                   (the paper has no b: it is zero unless somebody sets it)
    log p(y) = log p_router(y) + log p_I(y) - log Z      (Z makes the probabilities add up to one)

h is the router's last hidden state after its final norm: what its `lm_head` sees.
"""

from typing import NamedTuple

import torch


class Head(NamedTuple):
    """The routing head. `weight`: (experts, d); `bias`: (experts,)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """(…, d) to (…, experts), in float32."""
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

    `logprobs`: (…, v) float32, normalised; `expert`: (…) int64, who was picked; `own`: (…) int64, the token that this
    expert alone likes best; `shift`: (…) float32, how far the router moved the expert's distribution, as the total
    variation between it and the fused one: 0 nothing, 1 everything.
    """

    logprobs: torch.Tensor
    expert: torch.Tensor
    own: torch.Tensor
    shift: torch.Tensor


def fuse(scores: torch.Tensor, router: torch.Tensor, experts: torch.Tensor) -> Fused:
    """Pick, and add.

    `scores`: (…, n), the head's; `router`: (…, v) logits; `experts`: (n, …, v) logits. Ties go to the first expert.
    """
    chosen = scores.argmax(dim=-1)
    picked = experts.gather(0, chosen[None, ..., None].expand(1, *experts.shape[1:]))[0]
    return add(chosen, router, picked)


def add(chosen: torch.Tensor, router: torch.Tensor, picked: torch.Tensor) -> Fused:
    """Add the router's log-probabilities to those of the experts that were picked.

    `chosen`: (…) int64; `router` and `picked`: (…, v) logits. All arithmetic in float32.
    """
    alone = picked.float().log_softmax(dim=-1)
    together = (router.float().log_softmax(dim=-1) + alone).log_softmax(dim=-1)
    shift = 0.5 * (together.exp() - alone.exp()).abs().sum(dim=-1)
    return Fused(together, chosen, alone.argmax(dim=-1), shift)
