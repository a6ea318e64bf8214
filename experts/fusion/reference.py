"""The slow and plain form of a fused model: transformers, one sequence at a time, no cache. Tests compare with it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers leave parts of their signatures untyped)

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from experts.fusion.checkpoint import read_config, stored
from experts.fusion.config import Member, place
from experts.fusion.rule import Fused, Head, fuse


class Reference:
    """A fused checkpoint, read whole. `dtype` is the members'; the head and the rule compute in float32."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        config = read_config(folder)
        tensors = dict(stored(folder))
        self.vocabulary = config.vocabulary
        self.names = [member.name for member in config.listed()]
        self.head = Head(tensors["head.weight"], tensors["head.bias"])
        self.members = _models(config.listed(), tensors, dtype)

    @torch.inference_mode()
    def step(self, ids: Sequence[int]) -> Fused:
        """What comes after every one of `ids`: rows of `Fused` in their order."""
        given = torch.tensor([list(ids)])
        outputs = [model(input_ids=given, output_hidden_states=index == 0) for index, model in enumerate(self.members)]
        hidden = outputs[0].hidden_states[-1][0]
        logits = [output.logits[0, :, : self.vocabulary] for output in outputs]
        return fuse(self.head.scores(hidden), logits[0], torch.stack(logits[1:]))

    def greedy(self, ids: Sequence[int], most: int, stop: int) -> tuple[list[int], list[float], list[int]]:
        """The most probable tokens one after the other, their log-probabilities, and who spoke each (its index)."""
        said: list[int] = []
        logprobs: list[float] = []
        spoke: list[int] = []
        while len(said) < most and (not said or said[-1] != stop):
            found = self.step([*ids, *said])
            token = int(found.logprobs[-1].argmax())
            said.append(token)
            logprobs.append(float(found.logprobs[-1, token]))
            spoke.append(int(found.expert[-1]))
        return said, logprobs, spoke


def _models(members: Sequence[Member], tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> list[Any]:
    places = {member.name: place(index) for index, member in enumerate(members)}
    made: list[Any] = []
    for index, member in enumerate(members):
        model: Any = AutoModelForCausalLM.from_config(member.hf_config(), dtype=dtype)
        prefix = f"{places[member.shares]}.base." if member.shares else f"{place(index)}."
        state = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        missing, unknown = model.load_state_dict(state, strict=False)
        tied = set(getattr(model, "all_tied_weights_keys", None) or ())
        if unknown or set(missing) - tied:
            raise ValueError(f"{member.name}: tensors missing {sorted(set(missing) - tied)}, unknown {sorted(unknown)}")
        model.to(dtype).eval()
        _adapt(model, tensors, f"{place(index)}.lora.")
        _widen(model)
        made.append(model)
    return made


def _adapt(model: Any, tensors: dict[str, torch.Tensor], prefix: str) -> None:
    """Let the layers add what the factors under `prefix` make of their input: merged into bfloat16 weights, they would
    be rounded with these."""
    for key, a in tensors.items():
        if key.startswith(prefix) and key.endswith(".lora_A"):
            layer = model.get_submodule(key.removeprefix(prefix).removesuffix(".lora_A"))
            if layer is model.get_output_embeddings():
                raise ValueError(f"{key}: an adapter of the output layer is not supported; build with --merge")
            layer.register_forward_hook(_Shift(a, tensors[key.removesuffix("A") + "B"], layer.weight.dtype))


class _Shift:
    def __init__(self, a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> None:
        self._down, self._up = a.T.to(dtype), b.T.to(dtype)

    def __call__(self, _: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        return out + given[0] @ self._down @ self._up


def _widen(model: Any) -> None:
    """Have the output layer compute in float32, a copy of its weight where that is tied to the embeddings."""
    old = model.get_output_embeddings()
    wide = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None, dtype=torch.float32)
    wide.load_state_dict({key: tensor.float() for key, tensor in old.state_dict().items()})
    wide.register_forward_pre_hook(lambda _, given: (given[0].float(),))
    model.set_output_embeddings(wide)
