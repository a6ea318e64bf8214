"""What the router is trained for, as functions of tensors.

Stage 1 of FusionRoute (arXiv 2601.05106): the next-token loss of the router plus lambda times a routing loss over the
positions S where the experts' likeliest tokens differ. With w = softmax(W h):

    L_route = - sum_{t in S} log sum_i w_i p_i(y_t)

The sum inside is taken over probabilities: over log-probabilities, which are negative, its logarithm has no value. At
decoding the log-probabilities of router and picked expert are added, which stage 1 does not see, as its two losses
stand side by side; stage 2 is what the paper mends that with:

    L_cdpo = - log sigmoid(log p_r(y_w) - log p_r(y_l) + beta (log p_I(y_w) - log p_I(y_l)))

with y_w preferred to y_l, I the picked expert at each token; its part is a fixed offset, and W is not touched.

The objective `fused` is ours: the likelihood of the answer under the distribution that is decoded from, expected over
the router's choice, so that both W and the router's logits learn what the other does:

    L_fused = - sum_t log sum_i w_i p_r(y_t) p_i(y_t) / Z_i

Where the data name the expert that speaks, both objectives learn from that in place of the router's next-token loss:

    L_told = sum_t [ - log w_e + KL(u_t || p_r) - log p_r(c | C_t) ]

e the expert that is named: it is to be picked, and the router to add nothing, as a distribution u does that is
uniform but for what ends a part (the tokens C together are as likely as one other, or `LIKELY` at the last token).
For an expert does not know who goes on, and so ends its part as it would alone, while the router does not know what
the expert knows, and so not where its part ends. So the router learns which of the tokens C that end parts is to
come, c, outright (at the last token among all of them, before it among c and those that never stand within a part),
and to expect it at the last token only as much as `LIKELY` others: enough to hand over, too little to cut an expert
short.

Where the data name the router, it learns its words, and to pick nobody: a head with a row more than experts has that
choice.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

LIKELY = 50
"""How many other tokens the one that ends an expert's part is as likely as, by the router, at its last token."""


class Heard(NamedTuple):
    """A batch at its answer positions, padded: all first axes (batch, length).

    `logits`: (…, v) of the router; `scores`: (…, n or n + 1) of the routing head; `labels`: int64, the tokens to say;
    `mask`: whether there is one; `spoken`: (…, n), the experts' log-probabilities of them; `top`, `liked`: (…, n, k),
    the experts' likeliest tokens and their log-probabilities; `named`: int64, the expert that speaks the token, n the
    router, -1 where the data do not say; `closes`: int64, the token that ends that stretch, -1 where none is named;
    `closing`: int8 (v,), 1 for tokens that end an expert's stretch somewhere, 2 for those that never stand inside one.
    """

    logits: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    spoken: torch.Tensor
    top: torch.Tensor
    liked: torch.Tensor
    named: torch.Tensor
    closes: torch.Tensor
    closing: torch.Tensor

    def own(self) -> torch.Tensor:
        """(…): the router's log-probabilities of the labels."""
        return self.logits.float().log_softmax(dim=-1).gather(-1, self.labels[..., None])[..., 0]

    @property
    def led(self) -> torch.Tensor:
        """bool (batch, length): an expert is named, so the words are not the router's."""
        return (self.named >= 0) & (self.named < self.spoken.shape[-1])

    @property
    def last(self) -> torch.Tensor:
        """bool (batch, length): who speaks here does not speak the next token."""
        return self.named != torch.nn.functional.pad(self.named[:, 1:], (0, 1), value=-1)

    def or_nobody(self, experts: torch.Tensor, nobody: Callable[[], torch.Tensor]) -> torch.Tensor:
        """(…, n) of the experts, and (…) for the row of nobody, made only where the head has one."""
        if self.scores.shape[-1] == experts.shape[-1]:
            return experts
        return torch.cat([experts, nobody()[..., None]], dim=-1)


def disputed(heard: Heard) -> torch.Tensor:
    """bool (batch, length): the experts' likeliest tokens are not all the same."""
    best = heard.top[..., 0]
    return (best != best[..., :1]).any(dim=-1) & heard.mask


def next_token(heard: Heard) -> torch.Tensor:
    """The router's own -log p(y) of the answer tokens that no expert is named for, divided by the number of all."""
    return -(heard.own() * (heard.mask & ~heard.led)).sum() / heard.mask.sum()


def told(heard: Heard) -> torch.Tensor:
    """L_told, divided by the number of answer tokens; also of tokens that are read and not learned."""
    picked = heard.scores.float().log_softmax(dim=-1).gather(-1, heard.named.clamp_min(0)[..., None])[..., 0]
    return (yielding(heard).sum() - (picked * (heard.named >= 0)).sum()) / heard.mask.sum()


def yielding(heard: Heard) -> torch.Tensor:
    """(positions that an expert is named for,): KL(u || p_r) - log p_r(c | C), see the top of this module."""
    rows = heard.logits[heard.led].float().log_softmax(dim=-1)
    last, comes = heard.last[heard.led], heard.closes[heard.led][:, None]
    known = heard.closing.nonzero()[:, 0]  # few, so only their columns are copied
    columns, ends = rows[:, known], last[:, None] | (heard.closing[known] > 1) | (known == comes)
    ending = columns.masked_fill(~ends, float("-inf")).logsumexp(dim=-1)
    others = (rows.shape[-1] - ends.sum(dim=-1)).clamp_min(1)
    weight = torch.where(last, LIKELY, 1)
    share = weight / (weight + others)
    rest = (rows.sum(dim=-1) - (columns * ends).sum(dim=-1)) / others
    away = share * (share.log() - ending) + (1 - share) * (((1 - share) / others).log() - rest)
    return away + ending - rows.gather(1, comes)[:, 0]


def routing(heard: Heard) -> torch.Tensor:
    """L_route, divided by the number of answer tokens, as `next_token` is; nobody's words are the router's, as they
    stand."""
    said = heard.or_nobody(heard.spoken.float(), lambda: heard.own().detach())
    mixed = (heard.scores.float().log_softmax(dim=-1) + said).logsumexp(dim=-1)
    return -(mixed * disputed(heard)).sum() / heard.mask.sum()


def together(heard: Heard) -> torch.Tensor:
    """(…, n): the log-probability of the label under router and expert i added and normalised.

    Z is summed over the expert's likeliest tokens and the label; for what is beyond them, the two remainders of
    probability are taken to be independent.
    """
    router = heard.logits.float().log_softmax(dim=-1)
    own = router.gather(-1, heard.labels[..., None])
    said = own + heard.spoken.float()
    count = heard.top.shape[-1]
    flat = heard.top.flatten(-2)
    theirs: torch.Tensor = router.gather(-1, flat).reshape(heard.top.shape)
    listed = (heard.top == heard.labels[..., None, None]).any(dim=-1)
    known = (theirs + heard.liked.float()).logsumexp(dim=-1)
    label = said.masked_fill(listed, float("-inf"))
    beyond = (~listed).float()
    left = 1 - heard.liked.float().exp().sum(dim=-1) - beyond * heard.spoken.float().exp()
    rest = 1 - theirs.exp().sum(dim=-1) - beyond * own.exp()
    spread = max(1, heard.logits.shape[-1] - count)
    tail = left.clamp_min(1e-6).log() + rest.clamp_min(1e-6).log() - torch.log(torch.tensor(float(spread)))
    return said - torch.stack([known, label, tail]).logsumexp(dim=0)


def fused(heard: Heard) -> torch.Tensor:
    """L_fused, a mean over the answer tokens."""
    said = heard.or_nobody(together(heard), heard.own)
    expected = (heard.scores.float().log_softmax(dim=-1) + said).logsumexp(dim=-1)
    return -(expected * heard.mask).sum() / heard.mask.sum()


def answers(heard: Heard) -> tuple[torch.Tensor, torch.Tensor]:
    """(batch,) twice: the summed log-probabilities of each answer, the router's, and those of the picked experts."""
    picked = heard.scores.detach().argmax(dim=-1, keepdim=True)
    said = heard.or_nobody(heard.spoken.float(), lambda: torch.zeros_like(heard.spoken[..., 0], dtype=torch.float32))
    theirs = said.gather(-1, picked)[..., 0]
    return (heard.own() * heard.mask).sum(dim=-1), (theirs * heard.mask).sum(dim=-1)


def preference(heard: Heard, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """L_cdpo, and the share of pairs whose preferred answer is ahead; rows are chosen, rejected, chosen, …"""
    own, theirs = answers(heard)
    ahead = own[0::2] - own[1::2] + beta * (theirs[0::2] - theirs[1::2]).detach()
    return -torch.nn.functional.logsigmoid(ahead).mean(), (ahead > 0).float().mean()


class Routing(NamedTuple):
    """What a batch says about the routing; all sums, to be added over batches.

    `decided`: positions with a speaker that is named, and disputed ones without where some expert's likeliest token is
    right; `right`: those of them where it is the picked one's; `picked`: (rows of the head,) answer tokens of each.
    """

    decided: torch.Tensor
    right: torch.Tensor
    picked: torch.Tensor


@torch.no_grad()
def watch(heard: Heard) -> Routing:
    hits = heard.top[..., 0] == heard.labels[..., None]
    chosen = heard.scores.argmax(dim=-1)
    named = heard.named >= 0
    counted = named | (disputed(heard) & hits.any(dim=-1))
    hits = heard.or_nobody(hits, lambda: heard.logits.argmax(dim=-1) == heard.labels)
    right = torch.where(named, chosen == heard.named, hits.gather(-1, chosen[..., None])[..., 0]) & counted
    picked = torch.nn.functional.one_hot(chosen, heard.scores.shape[-1]) * heard.mask[..., None]
    return Routing(counted.sum(), right.sum(), picked.sum(dim=(0, 1)))
