"""Every command and snippet that the README and the docs show, run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from registry.load import parse_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GATEWAY = "http://127.0.0.1:8080"
STARTED_ELSEWHERE = ("make demo", "make test", "make lock", "make docs", "make install", "make bench")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[str]:
    """One command at a time, continued lines joined, comments left out."""
    for block in blocks(page, "(?:sh|bash)"):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s{2,}# .*$", "", line).strip()
            if command and not command.startswith("#"):
                yield command


@contextmanager
def pocket(port: int, logs: Path) -> Iterator[str]:
    """What `make demo` starts, on a port of its own."""
    words = [sys.executable, "-m", "router.cli", "up", "--pocket", "--json", "--port", str(port), "--logs", str(logs)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            for line in iter(process.stdout.readline, ""):
                if json.loads(line)["event"] == "running":
                    break
            else:
                raise AssertionError(f"the demo ended with {process.wait()}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {target for page in PAGES for target in re.findall(r"\bmake ([a-z]+)\b", page.read_text())}
    named = {f"make {target}" for target in targets}
    assert {f"make {target}" for target in shown if f"make {target}" in STARTED_ELSEWHERE} <= named
    assert "make demo" in named


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_registry_that_is_shown_is_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        documents = list(yaml.safe_load_all(block))
        kinds = [document.get("kind") for document in documents if isinstance(document, dict)]
        if len(kinds) == len(documents) and "expert" in kinds:
            assert parse_text(block).experts


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'VERSION = "{version}"' in (ROOT / "router" / "http" / "api.py").read_text()


@pytest.mark.vllm
@pytest.mark.slow
def test_the_readme_works_as_it_stands(tmp_path: Path, free_port: int) -> None:
    readme = ROOT / "README.md"
    env = {**os.environ, "NO_PROXY": "127.0.0.1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with pocket(free_port, tmp_path) as url:
        for command in commands(readme):
            if command.startswith(STARTED_ELSEWHERE) or command.startswith("vllm serve"):
                continue
            if " serve " in command:  # the five-line expert: it is not served here, so the registry is checked
                assert shlex.split(command)[-2:] == ["--registry", "registry.yaml"]
                continue
            told = command.replace(GATEWAY, url).replace(".venv/bin/consilium", f"{sys.executable} -m router.cli")
            if "router.cli ask" in told:
                told += f" --url {url}"
            done = subprocess.run(
                ["bash", "-c", told], check=False, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            passages = " index search " in command  # which say what documents say, standard errors and all
            assert passages or "error" not in done.stdout.lower(), (command, done.stdout)
            assert not passages or "1. evaluation" in done.stdout, (command, done.stdout)
        (snippet,) = blocks(readme, "python")
        done = subprocess.run(
            [sys.executable, "-c", snippet.replace(GATEWAY, url)], check=False, env=env, capture_output=True,
            text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "tenalp" in done.stdout
        assert "pocket-text" in done.stdout
