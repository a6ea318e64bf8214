"""The command that serves the base, the five experts and the planner with vLLM on the CPU.

`python -m experts.pocket.serve --port 8100` prints it and runs it.
"""

import argparse
import os
import sys
from pathlib import Path

from experts.pocket.questions import SKILLS
from experts.pocket.vocabulary import CONTEXT

WEIGHTS = Path(__file__).parent / "weights"
ADAPTERS: tuple[str, ...] = (*SKILLS, "plan")
MAX_RANK = 64
"""The largest rank among the adapters."""


def command(port: int, model_dir: Path = WEIGHTS, python: str = sys.executable) -> tuple[list[str], dict[str, str]]:
    """The words of the command, and the environment variables to add to one's own.

    The base is served as `pocket-base`, the adapters as `pocket-<skill>`, on 127.0.0.1, in float32.
    """
    modules = [f"pocket-{skill}={model_dir / skill}" for skill in ADAPTERS]
    words = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_dir / "base")]
    words += ["--served-model-name", "pocket-base", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(CONTEXT), "--max-logprobs", "-1"]
    words += ["--enable-lora", "--max-lora-rank", str(MAX_RANK), "--max-loras", str(len(ADAPTERS))]
    words += ["--lora-modules", *modules, "--no-enable-log-requests", "--disable-uvicorn-access-log"]
    environment = {
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    return words, environment


def main() -> None:
    """Become the server."""
    parser = argparse.ArgumentParser(prog="python -m experts.pocket.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=8100, help="port on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the base and the adapters")
    chosen = parser.parse_args()
    words, environment = command(chosen.port, chosen.weights)
    print(" ".join([*(f"{name}={value}" for name, value in environment.items()), *words]), flush=True)
    os.execvpe(words[0], words, {**os.environ, **environment})


if __name__ == "__main__":
    main()
