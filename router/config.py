"""What a gateway is told: by a file, by the environment, by flags, each stronger than the one before.

The file is `--config PATH`, or `CONSILIUM_CONFIG`, or `consilium.yaml` in the working folder. A setting `redis_url`
is `redis_url:` in the file, `CONSILIUM_REDIS_URL` in the environment and `--redis-url` on the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from experts.errors import ConfigError

PREFIX = "CONSILIUM_"
DEFAULT_FILE = "consilium.yaml"


class Config(BaseModel):
    """Every setting of a gateway. Relative paths in a file start at that file's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    registry: Path = Field(description="The registry: a YAML file, or a folder of them.")
    outcomes: Path | None = Field(
        None, description="Measured outcomes to fit the router on: a file, or a folder with `outcomes.jsonl(.gz)`."
    )
    state: Path | None = Field(
        None,
        description="Folder in which decisions and measured outcomes are kept (in Redis instead, where `redis_url` is "
        "set). Without it no decision is logged and `/v1/feedback` is closed.",
    )
    artifact: Path | None = Field(
        None,
        description="Folder of fitted routers that `consilium fit` writes; the current one is put in force whenever "
        "it changes. Default: `artifacts` in the state folder.",
    )
    log_queries: bool = Field(False, description="Keep the texts of queries in the decision log, not only hashes.")
    keep_decisions: int = Field(200_000, ge=1, description="Decisions kept in the log, the newest ones.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    keys: Path | None = Field(None, description="YAML file of API keys (hashes only; `consilium keys new` makes one).")
    api_keys: SecretStr | None = Field(
        None, description="API keys themselves, separated by commas; meant for the environment. Each may do everything."
    )
    admin_key: SecretStr | None = Field(
        None,
        description="Key of the admin endpoints, or its `sha256:…` hash. Without one they are closed.",
    )
    redis_url: SecretStr | None = Field(
        None, description="`redis://…` shared by several gateways. Without it, state is kept in this process."
    )
    max_body_bytes: int = Field(20 * 2**20, ge=1024, description="Longest request body taken, in bytes.")
    rpm: int | None = Field(None, ge=1, description="Requests a minute for a caller whose key sets no limit.")
    concurrency: int | None = Field(
        None, ge=1, description="Requests under way at once for a caller whose key sets no limit."
    )
    encoder_threads: int = Field(1, ge=1, le=256, description="Threads that the query encoder computes with.")
    cache_size: int = Field(10_000, ge=0, description="Queries whose embedding is remembered.")
    drain_s: float = Field(
        10.0, ge=0, le=3600, description="Seconds that requests under way may take to finish after a stop is asked for."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe lines logged.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for people.")

    @property
    def artifacts(self) -> Path | None:
        """Where fitted routers are; None where neither that folder nor a state folder is set."""
        return self.artifact or (self.state / "artifacts" if self.state else None)


def load_config(flags: Mapping[str, Any], file: Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """The settings in force.

    `flags` holds what was said on the command line; a value of None was not said. `env` defaults to the process's.
    Raises ConfigError with every setting that is wrong, each named as the person wrote it.
    """
    env = os.environ if env is None else env
    named = file or (Path(env[PREFIX + "CONFIG"]) if env.get(PREFIX + "CONFIG") else None)
    values, origin = from_file(named)
    for name in Config.model_fields:
        variable = PREFIX + name.upper()
        if env.get(variable):
            values[name], origin[name] = env[variable], variable
        if flags.get(name) is not None:
            values[name], origin[name] = flags[name], "--" + name.replace("_", "-")
    try:
        return Config.model_validate(values)
    except ValidationError as fault:
        raise ConfigError("\n".join(_complaint(error, values, origin) for error in fault.errors())) from fault


def from_file(named: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings of the config file, and where each was found. A file that nobody named may be absent."""
    path = named or Path(DEFAULT_FILE)
    if not path.is_file():
        if named is None:
            return {}, {}
        raise ConfigError(f"{path}: no such config file (named by --config or {PREFIX}CONFIG)")
    import yaml

    try:
        read: object = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path}: not YAML: {fault}") from fault
    if read is None:
        return {}, {}
    if not isinstance(read, dict):
        raise ConfigError(f"{path}: expected settings (`name: value`), got {type(read).__name__}")
    values = {str(name): value for name, value in cast(dict[object, Any], read).items()}
    for name in ("registry", "outcomes", "state", "artifact", "keys"):
        if isinstance(values.get(name), str):
            values[name] = path.parent / Path(values[name]).expanduser()
    return values, {name: f"{path}: {name}" for name in values}


def _complaint(error: Any, values: Mapping[str, Any], origin: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    if error["type"] == "missing":
        variable, flag = PREFIX + name.upper(), "--" + name.replace("_", "-")
        return f"{name}: missing; give it with {flag}, with {variable} or as `{name}:` in {DEFAULT_FILE}"
    if error["type"] == "extra_forbidden":
        return f"{origin[name]}: no such setting; known are {', '.join(Config.model_fields)}"
    secret = Config.model_fields[name].annotation == SecretStr | None
    found = "" if secret else f", got {str(values[name])!r}"
    return f"{origin[name]}: {error['msg'][0].lower()}{error['msg'][1:]}{found}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(config: Config) -> None:
    """Raises ConfigError where others could reach the gateway and no API key would keep them out."""
    if is_loopback(config.host) or config.keys is not None or config.api_keys is not None:
        return
    raise ConfigError(
        f"host: {config.host} can be reached from other machines, and no API keys are set: give --keys FILE "
        f"(`consilium keys new NAME` makes an entry) or {PREFIX}API_KEYS, or listen on 127.0.0.1"
    )
