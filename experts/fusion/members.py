"""The members of a fused model as transformers models: whole models, or LoRA adapters merged into their base."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers leave parts of their signatures untyped)

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from experts.errors import ConfigError
from experts.fusion import adapters
from experts.fusion.tokens import differences

HEAD = "routing_head"
"""The routing head is a linear layer of this name in the router: its checkpoint holds `HEAD.weight` and `HEAD.bias`."""


def load(folder: Path, base: Path | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """An expert's model. Raises ConfigError for a folder without a model, or an adapter without its base."""
    if not adapters.is_adapter(folder):
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{folder}: neither a model (config.json) nor a LoRA adapter (adapter_config.json) in it")
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    adapter = adapters.open_adapter(folder, base)
    model: Any = AutoModelForCausalLM.from_pretrained(adapter.base, dtype=dtype)
    found = dict(adapters.factors(adapter))
    for name in [key.removesuffix(".lora_A") for key in found if key.endswith(".lora_A")]:
        weight = model.get_submodule(name).weight
        added = found[f"{name}.lora_B"].float() @ found[f"{name}.lora_A"].float()
        with torch.no_grad():
            weight.add_(added.to(weight.dtype))
    return model


def home(folder: Path, base: Path | None = None) -> Path:
    """Where a member's tokenizer is: its own folder, or its base's."""
    return folder if not adapters.is_adapter(folder) else adapters.open_adapter(folder, base).base


def open_router(folder: Path, experts: int, base: Path | None = None, *, nobody: bool = False) -> Any:
    """A router's model with its routing head: the one in its checkpoint, or a new one that prefers no expert. With
    `nobody`, the head has a row for nobody, a new one where the checkpoint has none."""
    model = load(folder, base)
    width, kept = model.config.get_text_config().hidden_size, stored_head(folder)
    if kept is not None and not fits(kept["weight"], experts, width):
        raise ConfigError(
            f"{folder}: its routing head is for {kept['weight'].shape[0]} experts of width {kept['weight'].shape[1]}, "
            f"expected {experts} of width {width}"
        )
    rows = max(experts + nobody, 0 if kept is None else len(kept["weight"]))
    head = torch.nn.Linear(width, rows)
    for name, parameter in head.named_parameters():
        torch.nn.init.zeros_(parameter)
        if kept is not None and name in kept:
            parameter.data[: len(kept[name])] = kept[name]
    model.add_module(HEAD, head)
    return model


def fits(weight: torch.Tensor, experts: int, width: int) -> bool:
    """Whether a routing head has a row for each expert, and at most one more."""
    return weight.shape[0] - experts in (0, 1) and weight.shape[1] == width


def stored_head(folder: Path) -> dict[str, torch.Tensor] | None:
    """`weight` (rows, width) and `bias` (rows,) of the routing head in a checkpoint; None where it has none."""
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                if key.startswith(f"{HEAD}."):
                    found[key.removeprefix(f"{HEAD}.")] = tensors.get_tensor(key).float()
    return found or None


def tokenizer(router: Path, experts: dict[str, Path], base: Path | None = None) -> Any:
    """The one tokenizer of all members. Raises ConfigError naming the member and the tokens that differ."""
    spoken = home(router, base)
    for name, folder in experts.items():
        unlike = differences(spoken, home(folder, base))
        if unlike:
            raise ConfigError(f"expert {name}: its tokenizer is not the router's: {unlike}")
    return AutoTokenizer.from_pretrained(spoken)
