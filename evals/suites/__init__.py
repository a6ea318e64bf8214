"""Suites: what is asked, and how answers are judged. One file each; the file's name is the suite's name.

A module exports `Options` (pydantic, frozen, `extra="forbid"`) and `build(options, data) -> Suite`; `data` is the
folder of published data sets (`--data`, or the environment's CONSILIUM_DATA, or `../shared/data`).
A name that ends in `.jsonl` or `.jsonl.gz` is a file of samples of one's own (see `_jsonl`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.sample import Sample
from evals.suites._jsonl import own_samples
from experts.errors import ConfigError
from experts.plugins import known, open_module, parse_options


def names() -> frozenset[str]:
    """Every suite that can be opened; nothing is imported to find out."""
    return known(__name__, __path__)


def data_folder(named: Path | None = None) -> Path:
    """The folder of published data sets; nothing says that it is there."""
    return named or Path(os.environ.get("CONSILIUM_DATA") or "../shared/data")


def open_suite(name: str, options: Mapping[str, Any] | None = None, data: Path | None = None) -> Sequence[Sample]:
    """The samples of a suite. Raises ConfigError: an unknown name or option, data not there or not right.

    `name` may carry options: `bbh:task=navigate`, `gsm8k:split=train`.
    """
    if name.endswith((".jsonl", ".jsonl.gz")):
        return _distinct(name, own_samples(Path(name)))
    plain, _, written = name.partition(":")
    given = dict(options or {})
    for pair in filter(None, written.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"suite {name!r}: expected option=value after the colon, got {pair!r}")
        given[key] = value
    module = open_module(__name__, __path__, plain, "suite")
    return _distinct(name, module.build(parse_options(module, plain, given), data_folder(data)).samples())


def _distinct(name: str, samples: Sequence[Sample]) -> Sequence[Sample]:
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise ConfigError(f"suite {name}: two samples have the id {sample.id!r}")
        seen.add(sample.id)
    if not samples:
        raise ConfigError(f"suite {name}: no samples")
    return samples
