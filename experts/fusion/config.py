"""The configuration of a fused model, as transformers and vLLM read it from `config.json`."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers leaves parts of its signatures untyped)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from transformers import AutoConfig
from transformers.configuration_utils import PretrainedConfig

from experts.fusion.marks import MARKS
from experts.fusion.naming import ROUTER

ARCHITECTURE = "FusionForCausalLM"


def place(index: int) -> str:
    """Where a member's tensors and layers stand: `router`, `expert_a`, …, `expert_z`, `expert_ba`; never an integer."""
    if index == 0:
        return ROUTER
    letters, rest = "", index - 1
    while True:
        rest, letter = divmod(rest, 26)
        letters = chr(ord("a") + letter) + letters
        if not rest:
            return f"expert_{letters}"


class Member(NamedTuple):
    """One model of a fused one. `config` is its own `config.json`.

    `shares`: the member that brings the base under its LoRA adapter (the first of a base names itself); empty for a
    whole model. `rank`: of its adapter, whose factors are in the checkpoint (0: none); the scaling is in the B factor.
    """

    name: str
    config: Mapping[str, Any]
    shares: str = ""
    rank: int = 0

    def hf_config(self) -> Any:
        """Its configuration as an object of transformers."""
        values = dict(self.config)
        return AutoConfig.for_model(values.pop("model_type"), **values)


class FusionConfig(PretrainedConfig):
    """`members` (the router first, then the experts in the order of the head's rows), and the router's own values.

    `vocabulary` is how many token ids can be spoken; `vocab_size` counts the reserved ids too. `nobody`: the head has a
    further row, for where the router speaks by itself.
    """

    model_type = "consilium_fusion"

    def __init__(
        self, members: Sequence[Mapping[str, Any]] = (), vocabulary: int = 0, nobody: bool = False, **values: Any
    ) -> None:
        self.members: list[dict[str, Any]] = [dict(member) for member in members]
        self.vocabulary = vocabulary
        self.nobody = nobody
        super().__init__(**values)

    def listed(self) -> list[Member]:
        return [Member(**member) for member in self.members]


def composite(members: Sequence[Member], vocabulary: int, tokenizer: str, *, nobody: bool) -> dict[str, Any]:
    """The `config.json` of a fused model: what vLLM asks of a model's shape is the router's, the context the least."""
    context = [int(m.config["max_position_embeddings"]) for m in members if "max_position_embeddings" in m.config]
    values = dict(members[0].config)
    values |= {"architectures": [ARCHITECTURE], "model_type": FusionConfig.model_type, "tie_word_embeddings": False}
    values |= {"vocabulary": vocabulary, "vocab_size": vocabulary + MARKS, "tokenizer_fingerprint": tokenizer}
    values |= {"nobody": True} if nobody else {}
    if context:
        values["max_position_embeddings"] = min(context)
    return values | {"members": [{**member._asdict(), "config": dict(member.config)} for member in members]}
