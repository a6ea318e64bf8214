"""Greedy texts of a fused model with transformers, in batches, each member with its own KV cache.

For measuring without a server; `rule.py` says what is decoded.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers leave parts of their signatures untyped)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch

from experts.fusion import rule
from experts.fusion.members import HEAD

Mode = Literal["fusionroute", "head-only"]


class Text(NamedTuple):
    """Token ids without the end mark, and for each the index of the expert that was picked."""

    ids: list[int]
    voices: list[int]


@torch.inference_mode()
def texts(
    router: Any,
    experts: Sequence[Any],
    prompts: Sequence[Sequence[int]],
    *,
    end: int,
    pad: int,
    longest: int,
    mode: Mode = "fusionroute",
    batch: int = 128,
) -> list[Text]:
    """A text for each prompt (token ids), of at most `longest` tokens. `head-only`: without the router's logits.

    The members are on one device. Prompts are padded on the left, so members must take position ids.
    """
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    said: dict[int, Text] = {}
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        found = _batch(router, experts, [prompts[index] for index in chosen], end, pad, longest, mode)
        said.update(zip(chosen, found, strict=True))
    return [said[index] for index in range(len(prompts))]


def _batch(
    router: Any, experts: Sequence[Any], prompts: Sequence[Sequence[int]], end: int, pad: int, longest: int, mode: Mode
) -> list[Text]:
    device = next(router.parameters()).device
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    members = [router, *experts]
    caches: list[Any] = [None] * len(members)
    texts = [Text([], []) for _ in prompts]
    open_rows = set(range(len(prompts)))
    places = (mask.cumsum(-1) - 1).clamp_min(0)
    for _ in range(longest):
        logits: list[torch.Tensor] = []
        hidden = ids
        for index, member in enumerate(members):
            out = member(
                input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=caches[index], use_cache=True,
                output_hidden_states=index == 0, logits_to_keep=1,
            )  # fmt: skip
            caches[index] = out.past_key_values
            logits.append(out.logits[:, -1].float())
            if index == 0:
                hidden = out.hidden_states[-1][:, -1]
        scores = getattr(router, HEAD)(hidden.float())
        fused = rule.fuse(scores, logits[0], torch.stack(logits[1:]))
        token = fused.logprobs.argmax(-1) if mode == "fusionroute" else fused.own
        for row, (spoken, voice) in enumerate(zip(token.tolist(), fused.expert.tolist(), strict=True)):
            if row not in open_rows:
                continue
            if spoken == end:
                open_rows.discard(row)
                continue
            texts[row].ids.append(spoken)
            texts[row].voices.append(voice)
        if not open_rows:
            break
        ids, places = token[:, None], places[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=-1)
    return texts
