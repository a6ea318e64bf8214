"""What a loader gives: rows in the project's own format, the bad ones named, and what is known of the models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.errors import ConfigError
from experts.language import Price
from router.outcomes import BadRow, check_row

Row = dict[str, Any]


class Prices(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Model(BaseModel):
    """One model's entry in `models.json`. `params_b`: active parameters in billions."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    usd_per_million: Prices | None = None
    params_b: float | None = Field(default=None, gt=0)
    description: str = ""
    skills: tuple[str, ...] = ()

    @property
    def price(self) -> Price | None:
        own = self.usd_per_million
        return None if own is None else Price(own.input, own.output)


@dataclass(slots=True)
class Loaded:
    """Rows as `router.outcomes.check_row` wants them, with distinct ids; the rest is in `bad`."""

    rows: list[Row] = field(default_factory=list[Row])
    bad: list[BadRow] = field(default_factory=list[BadRow])
    models: dict[str, Model] = field(default_factory=dict[str, Model])

    def keep(self, source: Path | str, line: int, row: Row, seen: dict[str, int]) -> None:
        """Takes a row in, or names what is wrong with it. `seen`: the lines of the ids so far."""
        try:
            check_row(row)
        except ValueError as fault:
            self.refuse(source, line, str(fault))
            return
        known = seen.setdefault(str(row["id"]), line)
        if known != line:
            self.refuse(source, line, f"id {row['id']!r}: already on line {known}")
            return
        self.rows.append(row)

    def refuse(self, source: Path | str, line: int, message: str) -> None:
        self.bad.append(BadRow(str(source), line, message))


def read_models(path: Path) -> dict[str, Model]:
    """`models.json`, empty where there is none. Raises ConfigError naming the model and the key that is wrong."""
    if not path.exists():
        return {}
    try:
        raw = orjson.loads(path.read_bytes())
    except ValueError as fault:
        raise ConfigError(f"{path}: not JSON: {fault}") from fault
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected an object of model: {{usd_per_million or params_b}}")
    models: dict[str, Model] = {}
    entries: dict[str, Any] = raw  # pyright: ignore[reportUnknownVariableType]
    for name, entry in entries.items():
        try:
            models[name] = Model.model_validate(entry)
        except ValidationError as fault:
            first = fault.errors()[0]
            where = ".".join(str(step) for step in (name, *first["loc"]))
            raise ConfigError(f"{path}: {where}: {first['msg']}, got {first['input']!r}") from fault
    return models
