"""What the gateway adds to an expert, against a direct call and a floor proxy, in one run: `make bench`.

    python bench/gateway.py [--rounds 3] [--json bench/gateway.json]

Needs gcc and the bench tool `gwbench.py` (named by GWBENCH, or found beside the repository): a C upstream, a floor
(uvicorn + raw ASGI + aiohttp) and this gateway take turns, so that ratios hold on a machine that others use too.
Measured twice: an expert named directly, on a gateway that loads no encoder, and `auto` over two experts with the
decision cached. Then: seconds from start to ready, and resident memory, with and without an encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
GWBENCH = Path(os.environ.get("GWBENCH", ROOT.parent / "shared" / "tools" / "gwbench" / "gwbench.py"))
EXPERT = """
kind: expert
name: {name}
provider: vllm
model: mock
endpoints: [http://127.0.0.1:9001/v1]
description: {what}
limits: {{concurrency: 100000, requests_per_minute: 100000000}}
"""
ALONE = EXPERT.format(name="mock", what="Anything.")
TWO = "---".join([EXPERT.format(name="mock", what="Stories and poems."), EXPERT.format(name="other", what="Sums.")])
BARS = {
    "direct": {"cpu_per_request_vs_floor": 2.0, "added_p50_ms": 1.5, "added_ttft_ms": 1.0,
               "cpu_per_chunk_vs_floor": 1.3, "streams_kept_up": 0.95},
    "auto": {"cpu_per_request_vs_floor": 3.0},
    "rss_mb": {"without encoder": 150, "with encoder": 400}, "ready_s": {"without encoder": 1.5, "with encoder": 4.0},
}  # fmt: skip


@contextmanager
def gateway(registry: str, port: int) -> Iterator[tuple[int, float]]:
    """A gateway process on this registry: its pid, and seconds from start to the first good `/healthz`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.yaml"
        path.write_text(registry)
        with (Path(folder) / "log").open("w") as log:
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "router.cli", "serve", "--registry", str(path), "--port", str(port),
                 "--rpm", "100000000", "--concurrency", "100000"],
                cwd=ROOT, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )  # fmt: skip
            try:
                wait(port, process)
                yield process.pid, time.perf_counter() - started
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)


def wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(6000):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).read()
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                sys.exit(f"the gateway ended with {process.returncode}")
            time.sleep(0.01)
    sys.exit("the gateway did not start")


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def measure(registry: str, model: str, port: int, rounds: int) -> dict[str, Any]:
    with gateway(registry, port) as (pid, _), tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, str(GWBENCH), "--port", str(port), "--pid", str(pid), "--model", model,
                   "--rounds", str(rounds), "--json", out.name]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(Path(out.name).read_text())


def cold(registry: str, port: int, times: int) -> dict[str, float]:
    ready: list[float] = []
    memory: list[float] = []
    for _ in range(times):
        with gateway(registry, port) as (pid, seconds):
            ready.append(seconds)
            memory.append(rss_mb(pid))
    return {"ready_s": statistics.median(ready), "rss_mb": statistics.median(memory)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--port", type=int, default=18080)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    if not GWBENCH.exists():
        sys.exit(f"{GWBENCH}: no such file; name the bench tool with GWBENCH=/path/to/gwbench.py")
    found: dict[str, Any] = {
        "direct": measure(ALONE, "mock", asked.port, asked.rounds),
        "auto": measure(TWO, "auto", asked.port, asked.rounds),
        "cold": {"without encoder": cold(ALONE, asked.port, 5), "with encoder": cold(TWO, asked.port, 3)},
    }
    for name in ("direct", "auto"):
        print(f"\n{name}")
        for key, value in found[name]["summary"].items():
            print(f"  {key:28}{value:10.2f}   {verdict(key, value, BARS[name].get(key))}")
    for name, row in found["cold"].items():
        print(f"\n{name}")
        for key, value in row.items():
            print(f"  {key:28}{value:10.2f}   {verdict(key, value, BARS[key][name])}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


def verdict(key: str, value: float, bar: float | None) -> str:
    if bar is None:
        return ""
    least = key == "streams_kept_up"
    met = value >= bar if least else value <= bar
    return f"{'>=' if least else '<='} {bar}  {'met' if met else 'MISSED'}"


if __name__ == "__main__":
    main()
