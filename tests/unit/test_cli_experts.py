"""`consilium experts`, `route` and `check` on a registry on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from experts.errors import ConfigError, NoCandidate, RegistryError, UnknownModel
from router.cli.app import app

TWO = """
kind: expert
name: poet
provider: scripted
text: Roses are red.
skills: [verse]
---
kind: expert
name: clerk
provider: vllm
model: m
endpoints: [http://127.0.0.1:9/v1]
api_key: ${CLERK_KEY}
context: 4096
---
kind: route
name: auto
experts: "*"
estimator: prior
"""
NEW = "kind: expert\nname: cook\nprovider: scripted\ntext: Salt.\n"


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    file = tmp_path / "registry.yaml"
    file.write_text(TWO)
    return file


def run(*words: str, **env: str) -> Result:
    """The outcome of a command; an error of the project is raised, as `main` gets to see it."""
    ended = CliRunner().invoke(app, words, env={"CLERK_KEY": "hush", "COLUMNS": "120", **env})
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended


def said(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def test_a_good_registry_is_fine(registry: Path) -> None:
    found = said("experts", "check", str(registry))
    assert (found["valid"], found["experts"], found["routes"]) == (True, 2, 1)
    assert "2 experts, 1 route, version" in run("experts", "check", str(registry)).output


def test_every_problem_of_a_bad_registry_is_told_and_the_status_is_1(registry: Path) -> None:
    registry.write_text(TWO.replace("context: 4096", "context: many\ncontxt: 1"))
    ended = run("experts", "check", str(registry), "--json")
    assert ended.exit_code == 1
    problems = json.loads(ended.stdout)["problems"]
    assert {problem["path"] for problem in problems} == {"context", "contxt"}
    assert all(problem["file"] == str(registry) and problem["line"] > 0 for problem in problems)
    assert "2 problems" in run("experts", "check", str(registry)).stderr


def test_the_registry_may_come_from_the_settings(registry: Path) -> None:
    ended = run("experts", "list", "--json", CONSILIUM_REGISTRY=str(registry))
    assert [row["manifest"]["name"] for row in json.loads(ended.stdout)] == ["poet", "clerk"]
    with pytest.raises(ConfigError, match="registry: missing"):
        run("experts", "list")


def test_a_list_and_a_manifest_never_show_a_secret(registry: Path) -> None:
    assert "verse" in run("experts", "list", str(registry)).output
    shown = run("experts", "show", "clerk", "--registry", str(registry)).output
    assert yaml.safe_load(shown)["context"] == 4096
    assert "hush" not in shown
    assert said("experts", "show", "clerk", "--registry", str(registry))["model"] == "m"
    with pytest.raises(ConfigError, match="expert cook: no such expert; known are poet, clerk"):
        run("experts", "show", "cook", "--registry", str(registry))


def test_adding_replacing_and_removing(registry: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "cook.yaml.new"
    manifest.write_text(NEW)
    assert said("experts", "add", str(manifest), "--registry", str(registry))["name"] == "cook"
    with pytest.raises(RegistryError):
        run("experts", "add", str(manifest), "--registry", str(registry))
    manifest.write_text(NEW.replace("Salt", "Pepper"))
    run("experts", "add", str(manifest), "--registry", str(registry), "--replace")
    assert "Pepper" in registry.read_text()
    assert said("experts", "remove", "cook", "--registry", str(registry))["name"] == "cook"
    assert "cook" not in registry.read_text()
    with pytest.raises(UnknownModel):
        run("experts", "remove", "cook", "--registry", str(registry))


def test_a_manifest_that_cannot_be_read_is_named(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        run("experts", "add", str(tmp_path / "none.yaml"), "--registry", str(registry))


def test_route_explains_a_decision_and_asks_nobody(registry: Path) -> None:
    found = said("route", "--registry", str(registry), "hello")
    assert found["route"] == "auto"
    assert found["plan"]["composer"] == "single"
    assert {row["expert"] for row in found["estimates"]} == {"poet", "clerk"}
    seat = found["plan"]["seats"][0]["expert"]
    assert seat in run("route", "--registry", str(registry), "hello").output
    with pytest.raises(UnknownModel):
        run("route", "--registry", str(registry), "--model", "nobody", "hello")


def test_route_says_who_is_out_and_why(registry: Path) -> None:
    found = said("route", "--registry", str(registry), "x" * 40_000)
    assert "clerk" in found["excluded"]
    registry.write_text(TWO.replace('experts: "*"', "experts: [clerk]"))
    with pytest.raises(NoCandidate):
        run("route", "--registry", str(registry), "x" * 40_000)


def test_check_looks_at_everything_and_says_what_is_wrong(registry: Path, free_port: int) -> None:
    words = ("check", "--registry", str(registry), "--port", str(free_port))
    offline = said(*words, "--offline")
    assert offline["fine"]
    assert [check["what"] for check in offline["checks"]] == ["keys", "port", "registry", "router", "route auto"]
    ended = run(*words, "--json")
    assert ended.exit_code == 1
    wrong = [check for check in json.loads(ended.stdout)["checks"] if not check["fine"]]
    assert [check["what"] for check in wrong] == ["expert clerk"]
    assert run(*words, "--offline", "--host", "0.0.0.0").exit_code == 1
