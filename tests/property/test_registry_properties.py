"""Whatever the text: a registry or a list of problems, never another error; and never a secret in either."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from experts.errors import RegistryError, UnknownModel
from registry import edit
from registry.documents import Source, read_documents
from registry.load import Registry, Terms, load, parse_text
from registry.parser import PlainParser
from registry.providers import built_in
from registry.public import public
from registry.references import resolve

PROVIDERS = built_in()
quick = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
slow = settings(quick, max_examples=40)

KEYS = (
    "kind", "name", "provider", "model", "endpoints", "api_key", "headers", "description", "skills", "examples",
    "languages", "modalities", "tools", "context", "price", "parameters_b", "tokenizer", "members", "limits",
    "timeouts", "serve", "labels", "env", "experts", "policy", "estimator", "composer", "default", "encoder", "spares",
    "runtime", "text", "replies", "fail", "usage", "extra", "input", "env", "args", "port", "a", "<<", "total_s",
)  # fmt: skip
WORDS = ("expert", "route", "encoder", "vllm", "scripted", "litellm", "a", "b", "*", "http://h/v1", "text", "balanced")

secrets = st.text("abcdefXYZ0123456789!/@:", min_size=8, max_size=24)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=12)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
manifests = st.dictionaries(st.sampled_from(KEYS), values, max_size=8).flatmap(
    lambda keys: st.fixed_dictionaries(
        {"kind": st.sampled_from(("expert", "route", "encoder")), "name": st.sampled_from(("a", "b", "B", "c:d"))}
    ).map(lambda base: base | {"provider": "vllm"} | keys)
)


def read(text: str, environ: dict[str, str] | None = None) -> Registry | RegistryError:
    try:
        return parse_text(text, Terms(environ=environ or {}, providers=PROVIDERS))
    except RegistryError as error:
        found = error
    assert found.problems
    assert all(problem.message for problem in found.problems)
    return found


@quick
@given(st.text(max_size=200))
def test_any_text_is_a_registry_or_problems(text: str) -> None:
    read(text)


@quick
@given(st.text("abk:[]{}-*&!|>'\"#%@`,? \n\t<$1.", max_size=60))
def test_any_punctuation_is_a_registry_or_problems(text: str) -> None:
    read(text)


@slow
@given(st.lists(manifests, max_size=4))
def test_any_documents_are_a_registry_or_problems(documents: list[dict[str, Any]]) -> None:
    found = read("---\n".join(json.dumps(document) + "\n" for document in documents))
    if isinstance(found, Registry):
        for manifest in found.manifests():
            json.dumps(public(manifest))
            assert found.find(manifest.name) is not None


@quick
@given(st.binary(max_size=200))
def test_any_bytes_are_a_registry_or_problems(raw: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.yaml"
        file.write_bytes(raw)
        problems = 1
        try:
            load(file, environ={}, providers=PROVIDERS)
        except RegistryError as error:
            problems = len(error.problems)
        assert problems


def planted(value: Any, secret: str, draw: Any) -> Any:
    """The value with some of its leaves replaced by a reference, or by text around one."""
    if isinstance(value, dict):
        return {key: planted(item, secret, draw) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, list):
        return [planted(item, secret, draw) for item in value]  # pyright: ignore
    form = draw(st.sampled_from((None, None, "${S}", "http://${S}/v1", "x ${S} ${S}")))
    return value if form is None else form


@slow
@given(st.data(), st.lists(manifests, min_size=1, max_size=3), secrets)
def test_what_the_environment_holds_is_never_shown(data: Any, documents: list[dict[str, Any]], secret: str) -> None:
    text = "---\n".join(json.dumps(planted(document, secret, data.draw)) + "\n" for document in documents)
    if secret in text:
        return
    found = read(text, {"S": secret})
    assert secret not in f"{found!s} {found!r}"
    if isinstance(found, RegistryError):
        assert secret not in repr(found.problems)
    else:
        assert secret not in json.dumps([public(manifest) for manifest in found.manifests()])


@quick
@given(st.dictionaries(st.sampled_from(("HOST", "PORT")), st.text(max_size=8)), st.text("ab${}:-HOSTPRx", max_size=24))
def test_resolving_leaves_text_alone_or_names_its_faults(environ: dict[str, str], text: str) -> None:
    resolved = resolve({"key": text}, environ)
    if "${" not in text:
        assert resolved.data == {"key": text}
        assert not resolved.faults
    assert all(fault.path == ("key",) for fault in resolved.faults)
    escaped = text.replace("${", "$${")
    if "$$" not in text:
        assert resolve({"key": escaped}, environ).data == {"key": text}


names = st.sampled_from(("a", "b", "c", "d"))
comments = st.sampled_from(("", "# one\n", "\n# two\n\n"))
bodies = st.fixed_dictionaries(
    {"text": st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)},
    optional={"skills": st.lists(st.sampled_from(("x", "y: z", "# q", "no")), max_size=2)},
)


@slow
@given(st.lists(st.tuples(st.sampled_from(("add", "replace", "remove")), names, bodies, comments), max_size=8))
@example([("add", "a", {"text": "\xa0"}, "")])
def test_edits_are_what_they_would_be_in_memory(steps: list[tuple[str, str, dict[str, Any], str]]) -> None:
    terms = Terms(environ={}, providers=PROVIDERS)
    wanted: dict[str, dict[str, Any]] = {"keep": {"text": "k"}}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text("# head\nkind: expert\nname: keep\nprovider: scripted\ntext: k\n# tail\n")
        for action, name, body, comment in steps:
            safe = {key: json.loads(json.dumps(value).replace("${", "$ {")) for key, value in body.items()}
            document = {"kind": "expert", "name": name, "provider": "scripted", **safe}
            text = comment + yaml.safe_dump(document, allow_unicode=True)
            if action == "add" and name in wanted:
                with pytest.raises(RegistryError, match="already declared"):
                    edit.add(file, text, terms)
            elif action != "add" and name not in wanted:
                with pytest.raises(UnknownModel):
                    edit.remove(file, name, terms=terms)
            elif action == "remove":
                edit.remove(file, name, terms=terms)
                del wanted[name]
            else:
                (edit.add if action == "add" else edit.replace)(file, text, terms)
                wanted[name] = safe
            assert file.read_text().startswith("# head\nkind: expert\nname: keep\n")
            assert "# tail\n" in file.read_text()
        found = load(file, environ={}, providers=PROVIDERS).experts
        assert set(found) == set(wanted)
        for name, body in wanted.items():
            assert found[name].options.model_dump()["text"] == body["text"]
            assert list(found[name].skills) == body.get("skills", [])


@quick
@given(st.lists(manifests, min_size=1, max_size=3), st.booleans())
def test_both_parsers_read_the_same(documents: list[dict[str, Any]], flow: bool) -> None:
    text = "".join(f"---\n# c\n{yaml.safe_dump(document, default_flow_style=flow)}\n" for document in documents)
    source = Source("a.yaml", text, Path())
    plain, plain_problems = read_documents(source, PlainParser)
    found, problems = read_documents(source)
    assert repr(found) == repr(plain)
    assert problems == plain_problems
