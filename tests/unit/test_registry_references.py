"""References to the environment, and that what they held is never shown."""

from __future__ import annotations

import json
import logging
import traceback

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from experts.errors import ConfigError, RegistryError
from registry.load import Registry, Terms, parse_text
from registry.providers import Providers, built_in
from registry.public import public

VLLM = "kind: expert\nname: a\nprovider: vllm\nmodel: M\n"
SECRET = "s3cr3t-value"


def registry(text: str, **environ: str) -> Registry:
    return parse_text(text, Terms(environ=environ))


def said(text: str, **environ: str) -> str:
    with pytest.raises(RegistryError) as caught:
        registry(text, **environ)
    whole = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(caught.value.problems)
    assert SECRET not in whole
    return str(caught.value)


def options(found: Registry) -> dict[str, object]:
    return found.experts["a"].options.model_dump()


def test_references_defaults_and_escapes() -> None:
    found = registry(
        VLLM + 'endpoints: ["http://${HOST:-localhost}:${PORT}/v1", "http://x/$${y}"]\nlimits: {concurrency: "${N}"}\n'
        "description: ${EMPTY:-fallback}\n",
        PORT="81", N="3", EMPTY="",
    )  # fmt: skip
    assert options(found)["endpoints"] == ["http://localhost:81/v1", "http://x/${y}"]
    assert found.experts["a"].limits.concurrency == 3
    assert found.experts["a"].description == "fallback"


def test_a_documents_own_env_comes_first_and_stays_in_it() -> None:
    text = VLLM + 'env: {HOST: "${REAL}.local", N: 4}\nendpoints: ["http://${HOST}/v${N}"]\n'
    assert options(registry(text, REAL="box", HOST="other"))["endpoints"] == ["http://box.local/v4"]
    other = "---\n" + VLLM.replace("name: a", "name: b") + 'endpoints: ["http://${HOST}/v1"]\n'
    assert "environment variable HOST is not set" in said(text + other, REAL="box")


def test_a_missing_variable_is_named_once() -> None:
    assert said(VLLM + "endpoints: [http://x]\napi_key: ${NO_KEY}\n") == (
        "registry.yaml:6: api_key: environment variable NO_KEY is not set; set it, or give a default: ${NO_KEY:-…}"
    )


def test_a_reference_that_is_none_and_one_without_quotes() -> None:
    assert "expected ${NAME} or ${NAME:-default}; a literal ${ is written $${" in said(
        VLLM + "endpoints: [http://x]\napi_key: ${not a name}\n"
    )
    assert 'a reference needs quotes: "${NAME}"' in said(VLLM + "endpoints: [${URL}]\n")


@pytest.mark.parametrize("key", ["kind", "name", "provider"])
def test_public_keys_cannot_be_references(key: str) -> None:
    keys = {"kind": "expert", "name": "a", "provider": "scripted"} | {key: "${X}"}
    text = "".join(f"{name}: {value}\n" for name, value in keys.items())
    assert f"{key}: " in said(text, X=SECRET)


@pytest.mark.parametrize(
    "keys",
    [
        "endpoints: ['${X}']",
        "endpoints: ['http://${X}@h/v1']\ncontext: ${X}",
        "endpoints: [http://h]\nprice: {input: '${X}'}",
        "endpoints: [http://h]\nmodalities: ['${X}']",
        "endpoints: [http://h]\nmembers: ['${X}']",
        "endpoints: [http://h]\nmembers: [ghost]\nskills: ['${X}']",
        "endpoints: [http://h]\nlimits: ${X}",
        "endpoints: [http://h]\nenv: {Y: '${X}'}\ntools: ${Y}",
        "endpoints: [http://h]\nenv: {Y: s3cr3t-value}\ntools: ${Y}",
        "endpoints: [http://h]\napi_key: [s3cr3t-value]",
        "endpoints: [http://h]\nheaders: {x: {y: s3cr3t-value}}",
        "endpoints: [ftp://user:s3cr3t-value@h]",
        "endpoints: [http://h]\napi_key: *s3cr3t-value",
        "endpoints: [http://h]\napi_key: !s3cr3t-value x",
        "endpoints: [http://h]\napi_key: 's3cr3t-value' 's3cr3t-value'",
    ],
)
def test_no_secret_in_any_error(keys: str) -> None:
    assert said(VLLM + keys + "\n", X=SECRET)


def test_no_secret_in_a_routes_error() -> None:
    text = VLLM + "endpoints: [http://h]\n---\nkind: route\nname: r\nexperts: ['${X}']\npolicy: '${X}'\n"
    assert "there is no expert '${X}'" in said(text, X="s3cr3t-value")


class Wordy(BaseModel):
    """A provider whose own validators quote what they got, in part and transformed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    nested: dict[str, SecretStr] = {}

    @field_validator("address")
    @classmethod
    def _no(cls, value: str) -> str:
        raise ValueError(f"cannot parse {value[2:9]!r} of {value.upper()}")


class Module:
    """Stands where a provider's module would."""

    __name__ = "wordy"
    Options = Wordy


def test_not_even_where_a_providers_validator_quotes_it() -> None:
    providers = Providers({"expert": {"wordy": lambda: Module}})  # pyright: ignore[reportArgumentType]
    text = "kind: expert\nname: a\nprovider: wordy\naddress: ${X}\n"
    with pytest.raises(RegistryError) as caught:
        parse_text(text, Terms(environ={"X": SECRET}, providers=providers))
    message = str(caught.value)
    assert message == "registry.yaml:4: address: is not valid; got the value of ${X}"
    with pytest.raises(RegistryError, match="cannot parse 'plain'"):
        parse_text(text.replace("${X}", "a-plain"), Terms(environ={}, providers=providers))


def test_a_provider_that_cannot_be_imported_or_has_no_options_is_a_problem() -> None:
    def missing() -> Module:
        raise ConfigError("provider wordy cannot be used here: No module named 'words'; install what it needs")

    class Bare:
        __name__ = "bare"

    text = "kind: expert\nname: a\nprovider: wordy\n"
    for module, expected in ((missing, "No module named 'words'"), (Bare, "to export Options, a pydantic model")):
        providers = Providers({"expert": {"wordy": module}})  # pyright: ignore[reportArgumentType]
        with pytest.raises(RegistryError, match=expected):
            parse_text(text, Terms(environ={}, providers=providers))
    assert set(built_in().names("expert")) >= {"litellm", "scripted", "vllm"}


def test_no_secret_in_a_public_view_a_repr_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    found = registry(
        VLLM + "endpoints: ['http://${X}@h/v1', 'http://user:s3cr3t-value@h/v1']\napi_key: ${X}\n"
        "headers: {plain: s3cr3t-value}\ndescription: about ${X:-nothing}\nskills: ['${X}', '${NONE:-free}']\n"
        "env: {A: s3cr3t-value}\n"
        "serve: {port: '${PORT}', args: [--api-key, '${A}'], env: {K: s3cr3t-value, L: '${X}'}}\n",
        X=SECRET, PORT="8123",
    )  # fmt: skip
    expert = found.experts["a"]
    view = public(expert)
    assert SECRET not in json.dumps(view)
    assert view["endpoints"] == ["http://${X}@h/v1", "http://***@h/v1"]
    assert (view["api_key"], view["headers"]) == ("${X}", {"plain": "**********"})
    assert (view["description"], view["skills"]) == ("about ${X}", ["${X}", "free"])
    assert view["serve"]["port"] == "${PORT}"
    assert view["serve"]["args"] == ["--api-key", "${A}"]
    assert view["serve"]["env"] == {"K": "**********", "L": "${X}"}
    logging.getLogger("test").warning("%s %r %s %r", found, expert, expert.serve, expert.references)
    assert SECRET not in caplog.text
    assert repr(expert) == "ExpertManifest('a')"
    assert SECRET in options(found)["endpoints"][0]  # pyright: ignore[reportIndexIssue, reportUnknownVariableType]


def test_a_key_that_sounds_secret_is_masked_whatever_its_type() -> None:
    found = registry("kind: expert\nname: a\nprovider: litellm\nmodel: x/y\nextra: {aws_secret: s3cr3t, region: eu}\n")
    assert public(found.experts["a"])["extra"] == {"aws_secret": "**********", "region": "eu"}


def test_the_version_does_not_depend_on_secrets() -> None:
    text = VLLM + "endpoints: [http://h]\napi_key: ${X}\n"
    assert registry(text, X="one").version == registry(text, X="two").version
