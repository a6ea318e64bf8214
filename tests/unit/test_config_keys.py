"""API keys: read, found, refused."""

from pathlib import Path

import pytest

from experts.errors import ConfigError
from router.config import Config, load_config
from router.keys import Key, Keys, hash_of, matches, new_token, read_keys

RESTRICTED = """
- {name: ci, hash: "HASH", routes: [auto], experts: [calc], rpm: 5, concurrency: 2}
"""


def from_file(tmp_path: Path, text: str) -> Keys:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    return read_keys(Config(registry=Path("r"), keys=file))


def test_a_key_is_found_by_its_token_and_by_nothing_else(tmp_path: Path) -> None:
    token = new_token()
    keys = from_file(tmp_path, RESTRICTED.replace("HASH", hash_of(token)))
    assert keys.find(token) == Key("ci", frozenset({"auto"}), frozenset({"calc"}), 5, 2)
    for other in ("", token[:-1], token + "x", token.swapcase(), hash_of(token), "sha256:" + "0" * 64, "\udcff"):
        assert keys.find(other) is None


def test_what_a_key_may_do() -> None:
    some = Key("k", frozenset({"auto"}), frozenset({"calc"}))
    assert (some.may_route("auto"), some.may_route("other")) == (True, False)
    assert (some.may_ask("calc"), some.may_ask("geo")) == (True, False)
    assert Key("k").may_route("any")
    assert Key("k").may_ask("any")
    assert not Key("k", routes=frozenset()).may_route("any")


def test_keys_of_the_environment_come_after_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(f"[{{name: ci, hash: '{hash_of('one')}'}}]")
    keys = read_keys(load_config({"registry": "r", "keys": file}, None, {"CONSILIUM_API_KEYS": " two ,three,"}))
    assert len(keys) == 3
    names = [key.name for token in ("one", "two", "three") if (key := keys.find(token))]
    assert names == ["ci", "env-1", "env-2"]
    assert keys.find("") is None


def test_a_variable_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="found none"):
        read_keys(load_config({"registry": "r"}, None, {"CONSILIUM_API_KEYS": " , "}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found no entry"),
        ("[]", "found no entry"),
        ("ci: x", "found no entry"),
        ("- [", "not YAML"),
        ("- {name: ci}", "entry 1: hash: expected `sha256:`"),
        ("- {name: ci, hash: secret-in-plain}", "entry 1: hash: expected `sha256:`"),
        ("- {name: ci, hash: HASH, rmp: 1}", "entry 1: rmp: Extra inputs"),
        ("- {name: ci, hash: HASH, rpm: 0}", "entry 1: rpm: "),
        ("- {name: a, hash: HASH}\n- {name: b, hash: HASH}", "hash: two entries with sha256:"),
    ],
)
def test_a_bad_keys_file_is_refused_without_showing_values(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text.replace("HASH", hash_of("x")))
    assert said in caught.value.message
    assert "secret-in-plain" not in caught.value.message


def test_a_keys_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read the keys file"):
        read_keys(Config(registry=Path("r"), keys=tmp_path / "none.yaml"))


def test_the_admin_key_may_be_given_as_its_hash() -> None:
    assert matches("boss", "boss")
    assert matches(hash_of("boss"), "boss")
    assert not matches("boss", "boss2")
    assert not matches(hash_of("boss"), hash_of("boss"))


def test_new_keys_are_long_and_never_the_same() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith("csl-") and len(token) >= 47 for token in made)
