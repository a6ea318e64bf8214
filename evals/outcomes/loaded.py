"""What a loader gives: rows in the project's own format, the bad ones named, and what is known of the models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.errors import ConfigError
from experts.language import Price
from router.outcomes import MEASURES, BadRow, check_row

Row = dict[str, Any]


class Prices(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Model(BaseModel):
    """One model's entry in `models.json`. `params_b`: active parameters in billions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
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
    """Rows as `router.outcomes.check_row` wants them, with distinct ids; the rest is in `bad`.

    `notes`: what a reader should know of how the rows came about.
    """

    rows: list[Row] = field(default_factory=list[Row])
    bad: list[BadRow] = field(default_factory=list[BadRow])
    models: dict[str, Model] = field(default_factory=dict[str, Model])
    notes: list[str] = field(default_factory=list[str])
    seen: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])

    def keep(self, source: Path | str, line: int, row: Row) -> None:
        """Takes a row in, or names what is wrong with it."""
        try:
            check_row(row)
        except ValueError as fault:
            self.refuse(source, line, str(fault))
            return
        if known := self.seen.get(str(row["id"])):
            where = f"on line {known[1]}" if known[0] == str(source) else f"in {known[0]}:{known[1]}"
            self.refuse(source, line, f"id {row['id']!r}: already {where}")
            return
        self.seen[str(row["id"])] = str(source), line
        self.rows.append(row)

    def refuse(self, source: Path | str, line: int, message: str) -> None:
        self.bad.append(BadRow(str(source), line, message))

    @property
    def experts(self) -> tuple[str, ...]:
        """Whoever has a score, in order of appearance."""
        given = ((name, score) for row in self.rows for name, score in row["scores"].items())
        return tuple(dict.fromkeys(name for name, score in given if score is not None))

    def hold_to(self, experts: Collection[str]) -> None:
        """Drops what is known of other experts, and the queries of which nothing is left then."""
        for row in self.rows:
            for key in {"scores", "answers", *MEASURES} & row.keys():
                cells: dict[str, Any] = row[key] or {}
                row[key] = {name: value for name, value in cells.items() if name in experts}
        left = [row for row in self.rows if any(score is not None for score in row["scores"].values())]
        if len(left) < len(self.rows):
            self.notes.append(f"{len(self.rows) - len(left)} queries have no score of {', '.join(experts)}")
        self.rows = left


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
            if first["type"] == "extra_forbidden":
                known = ", ".join((Prices if len(first["loc"]) > 1 else Model).model_fields)
                raise ConfigError(f"{path}: {where}: no such key; known are {known}") from fault
            raise ConfigError(f"{path}: {where}: {first['msg']}, got {first['input']!r}") from fault
    return models
