"""LoRA adapter folders (PEFT) as experts: read as factors that sit on a shared base, or merged into it."""

# pyright: reportUnknownMemberType=false
# (torch, safetensors and peft leave parts of their signatures untyped)

from __future__ import annotations

import json
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

from experts.errors import ConfigError

_EXOTIC = ("use_dora", "modules_to_save", "alpha_pattern", "rank_pattern", "target_parameters", "use_qalora",
           "layer_replication", "trainable_token_indices", "lora_bias")  # fmt: skip


class Adapter(NamedTuple):
    """A LoRA adapter: where it is, and the base that it sits on."""

    folder: Path
    base: Path
    settings: dict[str, Any]

    @property
    def rank(self) -> int:
        return int(self.settings["r"])


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def open_adapter(folder: Path, base: Path | None) -> Adapter:
    """Raises ConfigError when the base that the adapter names is not here and none is given."""
    settings: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    if settings.get("peft_type") != "LORA":
        raise ConfigError(f"{folder}: expected a LoRA adapter, got {settings.get('peft_type')}")
    named = Path(str(settings.get("base_model_name_or_path") or ""))
    found = base or next((place for place in (named, folder / named) if (place / "config.json").is_file()), None)
    if found is None:
        raise ConfigError(f"{folder}: its base {str(named)!r} is not a folder here; name it with --base DIR")
    return Adapter(folder, found, settings)


def factors(adapter: Adapter) -> Iterator[tuple[str, torch.Tensor]]:
    """`<module>.lora_A` (r, in) and `<module>.lora_B` (out, r) of every module, the scaling in B.

    Raises ConfigError for adapters that are more than that; those can be merged.
    """
    settings = adapter.settings
    more = [key for key in _EXOTIC if settings.get(key)]
    if more or settings.get("bias", "none") != "none":
        raise ConfigError(f"{adapter.folder}: {', '.join(more) or 'bias'} cannot share a base; build with --merge")
    rank = adapter.rank
    scale = float(settings["lora_alpha"]) / (sqrt(rank) if settings.get("use_rslora") else rank)
    for key, tensor in load_file(adapter.folder / "adapter_model.safetensors").items():
        name = key.removeprefix("base_model.model.").removesuffix(".weight")
        yield name, (tensor * scale).to(tensor.dtype) if name.endswith(".lora_B") else tensor


def merged(adapter: Adapter) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's weights with the adapter added, in the base's dtype."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(adapter.base, dtype="auto")
    model = PeftModel.from_pretrained(model, str(adapter.folder)).merge_and_unload()
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    for key, tensor in model.state_dict().items():
        if key not in tied:
            yield key, tensor.detach().contiguous()
