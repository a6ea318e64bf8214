"""The fused model as vLLM runs it: every member built by vLLM's own registry, their last hidden states side by side.

vLLM's scheduler, paged cache, sampler and server see one model. `forward` runs the members one after the other, each
with attention layers (and cache) of its own, and concatenates what they end with; `compute_logits` splits that again,
picks an expert for each row, applies only that expert's `lm_head` to it, and adds the router's (`rule.py`). Three
further columns tell who spoke (`marks.py`).

Experts that are LoRA adapters on one base use the base's weights: only their factors, norms of attention aside, are
theirs (`Adapted`). Written for vLLM 0.32.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportUntypedBaseClass=false
# (vLLM is no dependency of the gateway, and it and torch leave parts of their signatures untyped)

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm.compilation.backends import set_model_tag
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.models.utils import AutoWeightsLoader, init_vllm_registered_model

from experts.fusion.config import FusionConfig, Member, place
from experts.fusion.marks import FLOOR, SHIFTS, STEP
from experts.fusion.rule import Fused, Head, add


class FusionForCausalLM(nn.Module):
    """A router and its experts as one language model. `place(i)` is the name of member i; 0 is the router."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config: Any = vllm_config.model_config.hf_config
        if not isinstance(config, FusionConfig):
            raise TypeError(f"expected the configuration of a fused model, got {type(config).__name__}")
        if vllm_config.parallel_config.pipeline_parallel_size > 1:
            raise ValueError(
                "a fused model cannot be cut into pipeline stages: serve it with --pipeline-parallel-size 1"
            )
        members = config.listed()
        self.vocabulary = config.vocabulary
        self._places = [place(index) for index in range(len(members))]
        self._adapted = [member.shares != "" for member in members]
        named = {member.name: where for member, where in zip(members, self._places, strict=True)}
        for where, member in zip(self._places, members, strict=True):
            model = _built(vllm_config, member, f"{prefix}.{where}" if prefix else where)
            if not member.shares:
                self.add_module(where, model)
                continue
            owner: Any = getattr(self, named[member.shares], None)
            self.add_module(where, Adapted(model, None if owner is None else owner.base))
        self._widths = [int(member.hf_config().get_text_config().hidden_size) for member in members]
        self._experts = len(members) - 1
        self.head = nn.Linear(self._widths[0], self._experts + config.nobody, dtype=torch.float32)

    @property
    def _members(self) -> list[Any]:
        return [getattr(self, where) for where in self._places]

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """vLLM asks every language model for it; the members embed for themselves."""
        return self._members[0].embed_input_ids(input_ids)

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """(tokens, sum of the members' widths)."""
        if inputs_embeds is not None:
            raise ValueError("a fused model reads token ids: members embed them each in its own way")
        return torch.cat([member(input_ids, positions) for member in self._members], dim=-1)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """(rows, vocabulary + MARKS) float32: normalised log-probabilities, then the notes on who spoke."""
        hidden = hidden_states.split(self._widths, dim=-1)
        scores = Head(self.head.weight, self.head.bias).scores(hidden[0])
        chosen = scores.argmax(dim=-1)
        ours = self._members[0].compute_logits(hidden[0])
        picked: Any = None
        for index, expert in enumerate(self._members[1:]):
            rows = (chosen == index).nonzero().squeeze(-1)
            if rows.numel() == 0:
                continue
            logits = expert.compute_logits(hidden[index + 1].index_select(0, rows))
            if logits is None:  # a rank of tensor parallelism that does not sample
                continue
            spoken = logits[:, : self.vocabulary].float()
            if picked is None:
                picked = spoken.new_zeros(chosen.shape[0], self.vocabulary)
            picked.index_copy_(0, rows, spoken)
        if ours is None:
            return None
        ours = ours[:, : self.vocabulary]
        return _noted(add(chosen, self._experts, ours, ours if picked is None else picked))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        loaded = AutoWeightsLoader(self).load_weights(weights)
        for member, adapted in zip(self._members, self._adapted, strict=True):
            if adapted:
                member.settle()
        return loaded


class Adapted(nn.Module):
    """A LoRA adapter on a base. `base`: the member's own modules, whose weights are `owner`'s where there is one."""

    def __init__(self, model: nn.Module, owner: nn.Module | None) -> None:
        super().__init__()
        if get_tensor_model_parallel_world_size() > 1:
            raise ValueError("adapters that share a base are not split over devices: build with --merge, or serve with "
                             "--tensor-parallel-size 1")  # fmt: skip
        if owner is not None:
            for path, module in list(_weighty(model)):
                _put(model, path, owner.get_submodule(path))
                del module
        self.base: Any = model
        self.lora = Factors()

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.base.embed_input_ids(input_ids)

    def forward(self, input_ids: torch.Tensor | None, positions: torch.Tensor) -> torch.Tensor:
        return self.base(input_ids, positions)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.base.compute_logits(hidden_states)

    def settle(self) -> None:
        """Put the factors, now that they are loaded, beside the layers that they change. Raises ValueError for a factor
        of a layer that is no linear one here."""
        packed: dict[str, list[str]] = getattr(self.base, "packed_modules_mapping", {})
        home = {part: (whole, parts) for whole, parts in packed.items() for part in parts}
        found: dict[str, dict[int, str]] = {}
        for target in self.lora.targets():
            parent, _, leaf = target.rpartition(".")
            whole, parts = home.get(leaf, (leaf, [leaf]))
            found.setdefault(f"{parent}.{whole}", {})[parts.index(leaf)] = target
        for path, targets in found.items():
            inner: Any = self.base.get_submodule(path)
            sizes = list(getattr(inner, "output_sizes", None) or [inner.output_size])
            like = next(inner.parameters())
            pairs = [self.lora.pair(targets[slot], like) if slot in targets else None for slot in range(len(sizes))]
            _put(self.base, path, Shifted(inner, pairs, sizes))
        self.lora = Factors()


class Factors(nn.Module):
    """The factors of one adapter, as they come from the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, torch.Tensor] = {}

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        self._found |= dict(weights)
        return set()

    def targets(self) -> list[str]:
        return [key.removesuffix(".lora_A") for key in self._found if key.endswith(".lora_A")]

    def pair(self, target: str, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self._found[f"{target}.lora_A"], self._found[f"{target}.lora_B"]
        return a.to(like.device, like.dtype), b.to(like.device, like.dtype)


class Shifted(nn.Module):
    """A linear layer of a base, and what an adapter adds to it.

    The layer's parts (q, k and v, say; `sizes` of its outputs) have factors of their own, or none. They are kept as one
    pair, the second zero where a part has nothing to do with a factor: two products, whatever the number of parts.
    """

    down: torch.Tensor
    up: torch.Tensor

    def __init__(
        self, inner: nn.Module, pairs: list[tuple[torch.Tensor, torch.Tensor] | None], sizes: list[int]
    ) -> None:
        super().__init__()
        self.inner = inner
        nothing = next(pair[1] for pair in pairs if pair is not None).new_zeros
        down = torch.cat([pair[0] for pair in pairs if pair is not None])
        up = torch.block_diag(*(
            nothing(size, 0) if pair is None else pair[1] for pair, size in zip(pairs, sizes, strict=True)
        ))  # fmt: skip
        self.register_buffer("down", down.T.contiguous(), persistent=False)
        self.register_buffer("up", up.T.contiguous(), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """`x`: (tokens, in), as vLLM has it."""
        out, bias = self.inner(x)
        return torch.addmm(out, x @ self.down, self.up), bias


def _built(vllm_config: VllmConfig, member: Member, prefix: str) -> Any:
    """A member by vLLM's registry. Its compiled graphs are kept apart under its own tag.

    Its `lm_head` gives float32, as vLLM has it for `head_dtype`: in bfloat16 a logit of 20 is only good to 0.06, and
    the rule adds two. A quantised member keeps what its configuration says. On a GPU that is the same product with
    another output; on a CPU vLLM makes a float32 copy of the weight at every step.
    """
    config = member.hf_config()
    plain = vllm_config.quant_config is None and getattr(config, "quantization_config", None) is None
    if plain and getattr(config, "head_dtype", None) is None:
        config.head_dtype = "float32"
    with set_model_tag(prefix):
        return init_vllm_registered_model(
            vllm_config, prefix=prefix, hf_config=config, architectures=list(config.architectures or ()) or None
        )


def _weighty(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Modules with weights of their own, attention aside (whose cache is its member's)."""
    for path, module in model.named_modules():
        own = any(True for _ in module.parameters(recurse=False))
        if path and own and not isinstance(module, AttentionLayerBase):
            yield path, module


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _noted(fused: Fused) -> torch.Tensor:
    """The log-probabilities, and the three reserved columns of `marks.py`."""
    numbers = torch.stack([fused.expert.float(), fused.own.float(), (fused.shift * SHIFTS).round()], dim=-1)
    return torch.cat([fused.logprobs, -(FLOOR + numbers * STEP)], dim=-1)
