"""The published schema and page, and the examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from registry import docs
from registry.json_schema import json_schema
from registry.load import load
from registry.providers import built_in, discover
from registry.schema import KINDS

ROOT = Path(docs.__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
ENVIRON = {"OPENAI_API_KEY": "sk-test", "DEEPSEEK_API_KEY": "sk-test"}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", ["registry.md", "registry.schema.json"])
def test_what_is_published_is_what_the_models_say(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == docs.written()[name], "run: python -m registry.docs"


def test_check_finds_drift(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_every_key_says_what_it_means() -> None:
    for model in KINDS.values():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
    page = (ROOT / "docs" / "registry.md").read_text()
    for provider in built_in().names("expert"):
        assert f"### provider: {provider}" in page
    assert set(built_in().names("expert")) <= set(discover().names("expert"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_is_a_registry(file: Path, validator: Draft202012Validator) -> None:
    registry = load(file, environ=ENVIRON)
    assert registry.routes["auto"]
    for document in yaml.safe_load_all(file.read_text()):
        assert list(validator.iter_errors(document)) == []


def test_the_smallest_example_is_five_lines() -> None:
    assert len((ROOT / "examples" / "minimal.yaml").read_text().splitlines()) == 5


def test_the_qwen_example_routes_by_label() -> None:
    registry = load(ROOT / "examples" / "qwen.yaml", environ={})
    assert registry.routes["small"].experts.of(registry.experts) == (
        "qwen-math",
        "qwen-coder",
        "llama-chat",
        "deepseek-reasoner",
    )
    assert "qwen-general" in registry.routes["auto"].experts.of(registry.experts)


def test_the_pages_own_examples_are_registries(tmp_path: Path) -> None:
    blocks = [part.split("```")[0] for part in docs.INTRO.split("```yaml\n")[1:]]
    manifests = [block for block in blocks if "kind: expert" in block]
    assert len(manifests) == 2
    for block in manifests:
        (tmp_path / "a.yaml").write_text(block)
        assert len(load(tmp_path, environ={}).experts) == 1


GOOD: dict[str, Any] = {"kind": "expert", "name": "a", "provider": "vllm", "model": "m", "endpoints": ["http://h/v1"]}


@pytest.mark.parametrize(
    "keys",
    [
        {"price": {"input": 1}}, {"context": "${CONTEXT:-4096}"}, {"serve": {"args": ["--port", 1], "port": "${P}"}},
        {"labels": {"tier": 1}}, {"tools": False}, {"limits": {"concurrency": 3}}, {"api_key": "${KEY}"},
    ],
)  # fmt: skip
def test_the_schema_takes_what_the_loader_takes(
    keys: dict[str, Any], validator: Draft202012Validator, tmp_path: Path
) -> None:
    document = GOOD | keys
    assert list(validator.iter_errors(document)) == []
    (tmp_path / "a.yaml").write_text(json.dumps(document))
    assert load(tmp_path, environ={"KEY": "k", "P": "1"}).experts["a"]


@pytest.mark.parametrize(
    "keys",
    [
        {"price": {"input": -1}}, {"contxt": 1}, {"provider": "vlm"}, {"kind": "route"}, {"modalities": ["smell"]},
        {"name": "A"}, {"endpoints": []}, {"context": "many"}, {"serve": {"prot": 1}},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(keys: dict[str, Any], validator: Draft202012Validator) -> None:
    assert list(validator.iter_errors(GOOD | keys))
