"""Making one checkpoint of a router and its experts, and reading one.

The folder is what transformers writes for any model: `config.json` (`FusionConfig`: every member with its own
configuration), safetensors, the router's tokenizer. A tensor's name begins with its member's place: `router`,
`expert_a`, `expert_b`, …; vLLM finds a layer's number by the only integer in its name, so no place holds one. The
routing head is `head.weight` (rows, width) and `head.bias` (rows,): a row for each expert, and maybe one for nobody.

Source of the decoding rule: FusionRoute, arXiv 2601.05106.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and safetensors leave parts of their signatures untyped)

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from experts.errors import ConfigError
from experts.fusion import adapters, tokens
from experts.fusion.config import FusionConfig, Member, composite, place
from experts.fusion.members import HEAD, fits, stored_head
from experts.fusion.naming import ROUTER

_COPIED = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "vocab.json",
           "merges.txt", "added_tokens.json", "chat_template.jinja", "generation_config.json")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made: where, its members, and how many numbers each brought (a shared base counts once)."""

    folder: Path
    members: tuple[Member, ...]
    parameters: Mapping[str, int]


def build(
    router: Path, experts: Mapping[str, Path], out: Path, *, base: Path | None = None, merge: bool = False,
    always: str = "", replace: bool = False,
) -> Built:  # fmt: skip
    """Write the composite of `router` and `experts` (name to folder, in the order of the head's rows) to `out`.

    LoRA adapters on one base share its weights, unless `merge`. A router without a routing head is refused unless
    `always` names the expert that then speaks every token. `out` appears whole or not at all.

    Raises ConfigError for a folder that is no model, for tokenizers that differ (naming tokens), a head that does not
    fit, and an `out` that is there already (unless `replace`).
    """
    if not experts:
        raise ConfigError("a fused model needs at least one expert: --expert NAME=DIR")
    if ROUTER in experts:
        raise ConfigError(f"{ROUTER!r} is the router's own name; give the expert another one")
    if out.exists() and not replace:
        raise ConfigError(f"{out} exists already; choose another folder, or replace it with --force")
    opened = {name: _open(name, folder, base) for name, folder in {ROUTER: router, **experts}.items()}
    for name, found in opened.items():
        if unlike := tokens.differences(_home(opened[ROUTER]), _home(found)):
            raise ConfigError(f"{name} ({_where(found)}): its tokenizer is not the router's: {unlike}")
    vocabulary = max(tokens.vocabulary(_home(opened[ROUTER])).values()) + 1
    members = _members(opened, vocabulary, merge)
    head = _head(router, len(experts), int(members[0].config["hidden_size"]), list(experts), always)
    counts: dict[str, int] = {}
    tensors: dict[str, torch.Tensor] = {f"head.{key}": value for key, value in head.items()}
    for index, (member, found) in enumerate(zip(members, opened.values(), strict=True)):
        brought = dict(_tensors(found, member))
        counts[member.name] = sum(tensor.numel() for tensor in brought.values())
        tensors |= {f"{place(index)}.{key}": tensor for key, tensor in brought.items()}
    nobody = len(head["bias"]) > len(experts)
    config = composite(members, vocabulary, tokens.fingerprint(_home(opened[ROUTER])), nobody=nobody)
    _write(out, config, tensors, _home(opened[ROUTER]))
    return Built(out, tuple(members), counts)


def read_config(folder: Path) -> FusionConfig:
    """Raises ConfigError for a folder that holds no fused model."""
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"{folder}: no config.json in it; `consilium fusion build` makes a fused model")
    said: dict[str, Any] = json.loads(file.read_text())
    if said.get("model_type") != FusionConfig.model_type:
        raise ConfigError(
            f"{folder}: expected a fused model (model_type {FusionConfig.model_type}), found {said.get('model_type')!r}"
        )
    said.pop("model_type")
    return FusionConfig(**said)


def stored(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the safetensors files in a folder. Raises ConfigError where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{folder}: no *.safetensors in it; save the model with save_pretrained()")
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                yield key, tensors.get_tensor(key)


def _open(name: str, folder: Path, base: Path | None) -> Path | adapters.Adapter:
    if not adapters.is_adapter(folder):
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{name}: {folder} holds neither a model (config.json) nor a LoRA adapter (adapter_config.json)"
            )
        return folder
    if name == ROUTER:
        raise ConfigError(f"the router must be a whole model, and {folder} is an adapter: merge it first")
    return adapters.open_adapter(folder, base)


def _where(found: Path | adapters.Adapter) -> Path:
    return found if isinstance(found, Path) else found.folder


def _home(found: Path | adapters.Adapter) -> Path:
    return found if isinstance(found, Path) else found.base


def _members(opened: Mapping[str, Path | adapters.Adapter], vocabulary: int, merge: bool) -> list[Member]:
    """The router and the experts. The first adapter of a base brings the base; the others share it."""
    made: list[Member] = []
    bases: dict[Path, str] = {}
    for name, found in opened.items():
        config: dict[str, Any] = json.loads((_home(found) / "config.json").read_text())
        if int(config.get("vocab_size", 0)) < vocabulary:
            raise ConfigError(f"{name}: it has {config.get('vocab_size')} token ids, its tokenizer {vocabulary}")
        if isinstance(found, Path) or merge:
            made.append(Member(name, config))
            continue
        home = found.base.resolve()
        made.append(Member(name, config, shares=bases.setdefault(home, name), rank=found.rank))
    return made


def _head(router: Path, experts: int, width: int, names: list[str], always: str) -> dict[str, torch.Tensor]:
    """The routing head in the router's checkpoint, or one that always picks an expert."""
    if always:
        if always not in names:
            raise ConfigError(f"--always {always}: expected one of the experts: {', '.join(names)}")
        bias = torch.zeros(experts)
        bias[names.index(always)] = 1.0
        return {"weight": torch.zeros(experts, width), "bias": bias}
    found = stored_head(router)
    if found is None:
        raise ConfigError(
            f"{router}: no routing head ({HEAD}.weight) in its checkpoint; train one with `consilium fusion train`, or "
            "name the expert that is to speak always with --always"
        )
    if not fits(found["weight"], experts, width):
        had = tuple(found["weight"].shape)
        raise ConfigError(
            f"{router}: its routing head has the shape {had}, expected ({experts}, {width}): experts, width; or a row "
            "more, for nobody"
        )
    found.setdefault("bias", torch.zeros(found["weight"].shape[0]))
    return found


def _tensors(found: Path | adapters.Adapter, member: Member) -> Iterator[tuple[str, torch.Tensor]]:
    """What a member brings, by its own names: `lora.<module>.lora_A` and `lora_B` are its adapter's factors."""
    if isinstance(found, Path):
        for key, tensor in stored(found):
            if not key.startswith(f"{HEAD}."):
                yield key, tensor
        return
    if not member.shares:
        yield from adapters.merged(found)
        return
    if member.shares == member.name:
        yield from ((f"base.{key}", tensor) for key, tensor in stored(found.base))
    yield from ((f"lora.{key}", tensor) for key, tensor in adapters.factors(found))


def _write(out: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], tokenizer: Path) -> None:
    from huggingface_hub import save_torch_state_dict

    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        save_torch_state_dict({key: tensor.contiguous() for key, tensor in tensors.items()}, made)
        (made / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        for name in _COPIED:
            if (tokenizer / name).is_file():
                shutil.copy2(tokenizer / name, made / name)
        made.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        made.replace(out)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
