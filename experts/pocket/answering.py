"""Greedy answers of the pocket models with transformers, in float32, in batches."""

# pyright: reportUnknownMemberType=false
# (torch, transformers and peft leave parts of their signatures untyped)

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from experts.pocket.vocabulary import END, IDS, PAD, decode, dialogue, encode

LONGEST = 160
"""Most characters of an answer; the longest worked answer has about 140."""


class Reply(NamedTuple):
    """What a model said, and in how many tokens (the end mark counted, where it came)."""

    text: str
    tokens: int


def load(weights: Path, name: str, *, merged: bool = True) -> Any:
    """The base (`base`) or an expert (its skill), ready to answer; merged, an adapter costs no extra time."""
    base = LlamaForCausalLM.from_pretrained(weights / "base", dtype=torch.float32, attn_implementation="sdpa")
    model: Any = base
    if name != "base":
        model = PeftModel.from_pretrained(base, weights / name)
        model = model.merge_and_unload() if merged else model
    return model.eval()


@torch.inference_mode()
def replies(
    model: Any, prompts: Sequence[str], batch: int = 160, longest: int = LONGEST, begun: Sequence[str] = ()
) -> list[Reply]:
    """The greedy answer to each prompt, as the chat template poses it. Prompts are plain ASCII text. `begun`: what
    somebody has written of each answer already; the reply is what follows."""
    starts = begun or [""] * len(prompts)
    asked = [[*dialogue(prompt.strip())[0], *encode(start)] for prompt, start in zip(prompts, starts, strict=True)]
    order = sorted(range(len(prompts)), key=lambda index: len(asked[index]))
    said: dict[int, Reply] = {}
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        width = max(len(asked[index]) for index in chosen)
        padded = [[IDS[PAD]] * (width - len(asked[index])) + asked[index] for index in chosen]
        ids = torch.tensor(padded, device=model.device)
        mask = torch.tensor(
            [[0] * (width - len(asked[index])) + [1] * len(asked[index]) for index in chosen], device=model.device
        )
        output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=longest, do_sample=False)
        for index, row in zip(chosen, output[:, width:].tolist(), strict=True):
            ended = row.index(IDS[END]) if IDS[END] in row else None
            said[index] = Reply(decode(row[:ended]), len(row) if ended is None else ended + 1)
    return [said[index] for index in range(len(prompts))]


@torch.inference_mode()
def margin(model: Any, prompt: str, said: str, one: str, other: str) -> float:
    """By how many logits the model prefers the character that `one` has after `said` to the one that `other` has.

    Where a text ends, the end mark counts.
    """
    ids = [*dialogue(prompt.strip())[0], *encode(said)]
    after = [encode(text[len(said) : len(said) + 1]) or [IDS[END]] for text in (one, other)]
    logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    return float(logits[after[0][0]] - logits[after[1][0]])
