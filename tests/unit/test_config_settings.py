"""Settings: where they come from, which wins, and what is said when one is wrong."""

from pathlib import Path

import pytest

from experts.errors import ConfigError
from router import docs
from router.config import Config, check_exposure, is_loopback, load_config


def test_flags_beat_the_environment_and_the_environment_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("registry: r.yaml\nport: 1\nhost: ::1\nrpm: 7\n")
    found = load_config({"port": 3}, file, {"CONSILIUM_PORT": "2", "CONSILIUM_HOST": "localhost"})
    assert (found.port, found.host, found.rpm) == (3, "localhost", 7)


def test_paths_in_a_file_start_at_its_folder_and_other_paths_where_they_were_typed(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("registry: sub/r.yaml\nkeys: /etc/keys.yaml\n")
    found = load_config({"outcomes": Path("o.jsonl")}, file, {})
    assert found.registry == tmp_path / "sub/r.yaml"
    assert found.keys == Path("/etc/keys.yaml")
    assert found.outcomes == Path("o.jsonl")


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("registry: r.yaml\n")
    assert load_config({}, None, {"CONSILIUM_CONFIG": str(file)}).registry == tmp_path / "r.yaml"


def test_an_empty_file_and_an_empty_variable_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("")
    assert load_config({"registry": "r"}, tmp_path / "c.yaml", {"CONSILIUM_PORT": ""}).port == 8080


def test_every_wrong_setting_is_named_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("prot: 9\nlog_level: loud\n")
    with pytest.raises(ConfigError) as caught:
        load_config({"drain_s": -1.0}, file, {"CONSILIUM_PORT": "eighty"})
    lines = caught.value.message.splitlines()
    assert len(lines) == 5
    assert any(line.startswith(f"{file}: prot: no such setting; known are registry") for line in lines)
    assert any(line.startswith(f"{file}: log_level: ") and "'loud'" in line for line in lines)
    assert any(line.startswith("CONSILIUM_PORT: ") and "'eighty'" in line for line in lines)
    assert any(line.startswith("--drain-s: ") and "'-1.0'" in line for line in lines)
    assert any(line.startswith("registry: missing; give it with --registry") for line in lines)


@pytest.mark.parametrize("text", ["- a\n- b\n", "registry: [", "just words"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml: (expected settings|not YAML)"):
        load_config({}, tmp_path / "c.yaml", {})


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config({}, tmp_path / "none.yaml", {})


def test_a_secret_is_in_no_message_and_no_repr() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"registry": "r"}, None, {"CONSILIUM_ADMIN_KEY": "hush", "CONSILIUM_PORT": "x"})
    found = load_config(
        {"registry": "r"}, None, {"CONSILIUM_ADMIN_KEY": "hush", "CONSILIUM_REDIS_URL": "redis://:hush@h"}
    )
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(found)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Config(registry=Path("r"), host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "gateway.example", "localhost.example"])
def test_any_other_address_needs_keys(host: str) -> None:
    with pytest.raises(ConfigError, match=r"--keys FILE .* CONSILIUM_API_KEYS"):
        check_exposure(Config(registry=Path("r"), host=host))
    check_exposure(Config(registry=Path("r"), host=host, keys=Path("k.yaml")))
    check_exposure(load_config({"registry": "r", "host": host}, None, {"CONSILIUM_API_KEYS": "a"}))


def test_the_page_says_what_the_settings_are() -> None:
    assert docs.main(["--check"]) == 0, "docs/configuration.md is stale; run: python -m router.docs"
