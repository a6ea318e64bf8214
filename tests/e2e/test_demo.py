"""`consilium up` and `make demo`, as a person runs them: everything comes up, answers, and goes away again."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE = """
kind: expert
name: poet
provider: scripted
text: Roses are red.
examples: [Say something red.]
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    file = tmp_path / "registry.yaml"
    file.write_text(ONE)
    return file


class Running:
    """A `consilium up --json` under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        """Reads events up to the first of this name."""
        assert self.process.stdout is not None
        for line in iter(self.process.stdout.readline, ""):
            self.seen.append(json.loads(line))
            if self.seen[-1]["event"] == event:
                return self.seen[-1]
        raise AssertionError(f"no {event} came; it saw {self.seen} and said: {self.errors()}")

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def descendants(self) -> list[int]:
        """Pid file descriptors of every process under it."""
        found, queue = list[int](), [self.process.pid]
        while queue:
            pid = queue.pop()
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                queue += (below := [int(word) for word in task.read_text().split()])
                found += below
        return [os.pidfd_open(pid) for pid in found]


@contextmanager
def up(*words: str, logs: Path, **env: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "router.cli", "up", "--json", "--logs", str(logs), *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}, cwd=logs
    ) as process:
        try:
            yield Running(process)
        finally:
            process.terminate()


def all_end(fds: list[int], seconds: float = 30) -> bool:
    """Whether every process ends in this time."""
    ended = [bool(select.select([fd], [], [], seconds)[0]) for fd in fds]
    for fd in fds:
        os.close(fd)
    return all(ended)


def test_once_asks_the_examples_and_stops(registry: Path, tmp_path: Path, free_port: int) -> None:
    with up("--registry", str(registry), "--port", str(free_port), "--once", logs=tmp_path) as running:
        ready = running.until("ready")
        assert ready["url"] == f"http://127.0.0.1:{free_port}"
        sample = running.until("sample")
        assert (sample["expert"], sample["answer"], sample["right"]) == ("poet", "Roses are red.", True)
        assert running.process.wait(60) == 0


def test_a_wrong_sample_is_a_negative_result(registry: Path, tmp_path: Path, free_port: int) -> None:
    registry.write_text(ONE.replace("Roses are red.", '""'))
    with up("--registry", str(registry), "--port", str(free_port), "--once", logs=tmp_path) as running:
        assert running.until("sample")["right"] is False
        assert running.process.wait(60) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(registry: Path, tmp_path: Path, free_port: int, number: signal.Signals) -> None:
    with up("--registry", str(registry), "--port", str(free_port), logs=tmp_path) as running:
        running.until("running")
        below = running.descendants()
        assert len(below) == 2, "the gateway's guard, and the gateway"
        running.process.send_signal(number)
        assert running.process.wait(60) == 0
        assert all_end(below, 0)


def test_even_kill_9_leaves_nothing_behind(registry: Path, tmp_path: Path, free_port: int) -> None:
    with up("--registry", str(registry), "--port", str(free_port), logs=tmp_path) as running:
        running.until("running")
        below = running.descendants()
        running.process.kill()
        assert all_end(below)


def test_a_port_that_is_taken_is_named_with_the_flag_that_helps(registry: Path, tmp_path: Path, free_port: int) -> None:
    words = ("--registry", str(registry), "--port", str(free_port))
    with socket.create_server(("127.0.0.1", free_port)), up(*words, logs=tmp_path) as running:
        assert running.process.wait(60) == 2
        said = running.errors()
        assert f"port {free_port} for the gateway is taken" in said
        assert "--port" in said


def test_a_gateway_that_ends_is_said_with_its_last_words(registry: Path, tmp_path: Path, free_port: int) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("- {name: x, hash: nonsense}\n")
    words = ("--registry", str(registry), "--port", str(free_port))
    with up(*words, logs=tmp_path, CONSILIUM_KEYS=str(keys)) as running:
        assert running.process.wait(60) == 4
        said = running.errors()
        assert "gateway ended with status 2" in said
        assert "entry 1: hash: expected" in said


def test_make_demo_runs_this_command() -> None:
    made = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo", "ONCE=1", "ARGS=--port 9"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.splitlines()[-1].endswith("consilium up --pocket --logs .demo --die-with-parent --once --port 9")


@pytest.mark.vllm
@pytest.mark.slow
def test_the_pocket_experts_answer_and_go_away(tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = (one.getsockname()[1], two.getsockname()[1])
    words = ("--pocket", "--port", str(ports[0]), "--pocket-port", str(ports[1]), "--timeout", "540")
    with up(*words, logs=tmp_path) as running:
        running.until("running")
        samples = [event for event in running.seen if event["event"] == "sample"]
        assert len(samples) == 3
        assert all(sample["right"] for sample in samples), samples
        assert len({sample["expert"] for sample in samples}) == 3
        assert all(sample["confidence"] > 0.5 for sample in samples)
        below = running.descendants()
        assert len(below) >= 4, "two guards, the gateway, vLLM and its engine"
        running.process.kill()
        assert all_end(below)
