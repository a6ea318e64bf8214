"""`docs/learning.md`, command by command, as a reader would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "learning.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_about_learning_works_as_it_stands(tmp_path: Path, free_port: int) -> None:
    (registry,), (suite,), shells = blocks("yaml"), blocks("json"), blocks("sh")
    (tmp_path / "registry.yaml").write_text(registry)
    (tmp_path / "mine.jsonl").write_text(suite)
    env = {**os.environ, "NO_PROXY": "127.0.0.1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(block: str) -> str:
        told = block.replace("127.0.0.1:8080", f"127.0.0.1:{free_port}")
        done = subprocess.run(
            ["bash", "-euc", told], check=False, cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        return done.stdout

    measure, serve, rate, judge, again = shells
    said = run(measure)
    assert "v0001 is in force" in said
    assert "* v0001" in said
    command = ["bash", "-euc", f"exec {serve.strip()} --port {free_port}"]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as gateway:
        assert gateway.stdout is not None
        try:
            lines = iter(gateway.stdout.readline, b"")
            ready = next((line for line in lines if b'"ready"' in line), None)
            assert ready, "the gateway ended before it was ready"
            rated = run(rate)
            assert rated.count('"decision_id"') == 20
            assert rated.count('"expert":"counter"') >= 10
            assert "doubly robust" in run(judge).lower()
            told = run(again)
        finally:
            gateway.terminate()
            gateway.wait(60)
    assert "v0001 is in force again" in told
    versions = orjson.loads(told[told.rindex("\n[") :])
    assert [(row["version"], row["in_force"]) for row in versions] == [("v0001", True), ("v0002", False)]
    assert versions[1]["sources"] == [{"kind": "profile", "rows": 8}, {"kind": "feedback", "rows": 20}]
