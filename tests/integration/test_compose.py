"""compose.yaml and the Dockerfiles: valid, and their commands run. No Docker engine is needed, and none is used."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import jsonschema
import pytest
import yaml

from experts.fleet.fleet import Fleet
from experts.fleet.placement import place
from experts.fleet.process import Task
from registry.load import load
from router.cli.placing import pocket_folder, residences, server_task

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = ("Dockerfile", "docker/pocket.Dockerfile")
ONE = "kind: expert\nname: poet\nprovider: scripted\ntext: Roses are red.\n"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def resolved(text: str, env: dict[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?message}`, as compose reads them."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if env.get(name):
            return env[name]
        if kind == ":?":
            raise KeyError(f"{name}: {rest}")
        return rest or ""

    return re.sub(r"\$\{(?P<name>\w+)(?P<kind>:[-?])?(?P<rest>[^}]*)\}", value, text)


def instructions(file: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / file).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    place = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(place.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(compose)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**compose, "services": {"gateway": {"imagee": "x"}}})


def test_everything_the_file_names_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert ("build" in service) != ("image" in service), name
        if "build" in service:
            assert (ROOT / service["build"]["context"] / service["build"].get("dockerfile", "Dockerfile")).is_file()
        for other in service.get("depends_on", {}):
            assert other in compose["services"], f"{name} depends on {other}"
        for volume in service.get("volumes", ()):
            source = resolved(volume, {}).split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), f"{name}: {source}"


def test_nothing_is_published_beyond_this_machine(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:8080:8080"]


def test_the_gateway_cannot_be_started_without_keys(compose: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="at least one API key"):
        resolved(compose["services"]["gateway"]["environment"]["CONSILIUM_API_KEYS"], {})


@pytest.mark.parametrize("registry", ["experts/pocket/registry.yaml", "examples/compose-gpu.yaml"])
def test_the_gateways_addresses_of_experts_are_services_of_the_file(compose: dict[str, Any], registry: str) -> None:
    environment = compose["services"]["gateway"]["environment"]
    found = load(ROOT / registry, environ={name: str(value) for name, value in environment.items()})
    hosts = {re.sub(r"http://([^:]+):.*", r"\1", url) for e in found.experts.values() for url in e.options.endpoints}
    assert hosts <= set(compose["services"])


def test_the_gpu_service_serves_what_the_gpu_registry_asks_for(compose: dict[str, Any]) -> None:
    command = compose["services"]["qwen"]["command"]
    manifest = load(ROOT / "examples/compose-gpu.yaml").experts["qwen"]
    assert command[command.index("--model") + 1] == manifest.options.model
    assert command[command.index("--max-model-len") + 1] == str(manifest.context)


async def test_the_gateways_command_runs(compose: dict[str, Any], tmp_path: Path, free_port: int) -> None:
    service = compose["services"]["gateway"]
    (tmp_path / "registry.yaml").write_text(ONE)
    words = [word.replace("/etc/consilium", str(tmp_path)) for word in service["command"]]
    words[words.index("--port") + 1] = str(free_port)
    env = {"CONSILIUM_API_KEYS": "a-key", "CONSILIUM_LOG_FORMAT": "text"}
    task = Task(
        "gateway", (sys.executable, "-m", "router.cli", *words), env, f"http://127.0.0.1:{free_port}/readyz",
        tmp_path / "gateway.log",
    )  # fmt: skip
    async with Fleet([task]) as fleet:
        await fleet.ready(60)


@pytest.mark.redis
def test_the_redis_command_runs(compose: dict[str, Any], free_port: int, tmp_path: Path) -> None:
    words = [*compose["services"]["redis"]["command"], "--port", str(free_port), "--dir", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert any("eady to accept connections" in line for line in iter(server.stdout.readline, ""))
        server.terminate()


def test_the_pocket_image_runs_the_server_that_the_registry_declares(tmp_path: Path) -> None:
    (server,) = place(residences(load(pocket_folder() / "registry.yaml")))
    declared = server_task(server, "cpu", tmp_path)
    words = [word.replace(str(pocket_folder() / "weights"), "/srv/weights") for word in declared.argv[1:]]
    words[words.index("--host") + 1] = "0.0.0.0"
    found = dict(instructions("docker/pocket.Dockerfile"))
    assert json.loads(found["CMD"]) == ["python", *words]
    (said,) = (text for name, text in instructions("docker/pocket.Dockerfile") if name == "ENV" and "VLLM" in text)
    settings = dict(pair.split("=") for pair in shlex.split(said))
    assert settings == dict(declared.env)


@pytest.mark.parametrize("file", DOCKERFILES)
def test_what_an_image_copies_is_in_its_build_context(file: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, text in instructions(file):
        if name != "COPY" or text.startswith("--from"):
            continue
        for source in [word for word in text.split()[:-1] if not word.startswith("--")]:
            assert (ROOT / source).exists(), f"{file}: COPY {source}"
            assert source == "." or source.split("/")[0] in allowed, f"{file}: {source} is kept out by .dockerignore"


def test_the_gateways_image_ends_without_torch() -> None:
    last = max(i for i, (name, _) in enumerate(instructions("Dockerfile")) if name == "FROM")
    stage = [text for name, text in instructions("Dockerfile")[last:] if name in ("RUN", "COPY")]
    assert not any("encoder.txt" in text or "vllm" in text for text in stage)
    assert any("gateway.txt" in text for text in stage)


@pytest.mark.slow
def test_the_gateways_list_alone_is_enough_to_serve(tmp_path: Path, free_port: int) -> None:
    """What the last stage of the Dockerfile does, in a fresh environment: install the list, then the project."""
    home = tmp_path / "slim"
    venv.create(home, with_pip=True)
    pip = [str(home / "bin/python"), "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "-r", str(ROOT / "requirements/gateway.txt")], check=True, timeout=400)
    project = tmp_path / "project"
    project.mkdir()
    for folder in ("experts", "registry", "router", "evals"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    code = (
        "import sys, importlib, router.serve, router.cli.app\n"
        "heavy = [name for name in ('torch', 'transformers', 'vllm', 'litellm') if importlib.util.find_spec(name)]\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(project)}
    subprocess.run([str(home / "bin/python"), "-c", code], check=True, cwd=tmp_path, env=env, timeout=100)
    (tmp_path / "registry.yaml").write_text(ONE)
    words = ["serve", "--registry", str(tmp_path / "registry.yaml"), "--port", str(free_port)]
    with subprocess.Popen(
        [str(home / "bin/python"), "-m", "router.cli", *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=env
    ) as running:
        try:
            assert running.stderr is not None
            assert any('"ready"' in line for line in iter(running.stderr.readline, ""))
            with urlopen(f"http://127.0.0.1:{free_port}/healthz", timeout=10) as answer:
                assert answer.status == 200
        finally:
            running.terminate()
