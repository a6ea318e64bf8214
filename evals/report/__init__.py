"""What a replay comes to: `report.json`, the table in the terminal, and one HTML page."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from evals.metrics.calibration import Reliability, reliability
from evals.report.rows import rows
from evals.report.sections import apgr, assignments, curves, per_query
from evals.routers import DEFAULT
from evals.routing import Replay
from experts.errors import ConfigError

FORMAT = 1


def report(replay: Replay) -> dict[str, Any]:
    """`report.json`. Qualities and shares are 0 to 1; costs are means per query in `cost_unit`."""
    test, usual = replay.test, replay.router(DEFAULT)
    pairs = apgr(replay)
    document: dict[str, Any] = {
        "dataset": test.name, "n": len(test), "n_fit": len(replay.fitted_on), "tasks": sorted(set(test.outcomes.tasks)),
        "experts": list(test.outcomes.experts), "cost_unit": test.cost_unit, "rows": rows(replay),
        "curves": {**curves(replay), **({"apgr": pairs["tasks"]} if pairs else {})},
        "fit_s": round(usual.fitted.fit_s, 3) if usual.fitted else None,
        "decide_us_per_query": round(replay.decide_us.clock, 2), "embed_s": round(replay.embed_s, 3),
        "embedded": replay.embedded, "fit_cpu_s": round(usual.fitted.fit_cpu_s, 3) if usual.fitted else None,
        "decide_cpu_us_per_query": round(replay.decide_us.processor, 2),
    }  # fmt: skip
    if usual.decisions is not None:
        quality = usual.decisions.estimates.quality
        everyone = reliability(quality, test.outcomes.scores)
        picked = reliability(quality[range(len(test)), usual.decisions.seats], usual.quality)
        document |= {"ece": everyone.ece, "ece_chosen": picked.ece,
                     "reliability": {"all": _bins(everyone), "chosen": _bins(picked)}}  # fmt: skip
    document |= {
        "apgr": pairs, "assignments": assignments(replay), "queries": per_query(replay),
        "skipped": [{"router": each.name, "why": each.why} for each in replay.skipped],
        "problems": {"count": len(replay.whole.bad), "first": [str(each) for each in replay.whole.bad[:20]]},
        "notes": list(replay.whole.notes), "versions": versions(replay), "format": FORMAT,
    }  # fmt: skip
    return document


def write_json(document: dict[str, Any], path: Path) -> None:
    """One JSON document, NaN as null. Raises ConfigError where it cannot be written."""
    _write(path, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def write_text(text: str, path: Path) -> None:
    _write(path, text.encode())


def read_report(path: Path) -> dict[str, Any]:
    """A report written before. Raises ConfigError that says what the file is instead."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise ConfigError(f"{path}: expected a report of `consilium eval routing --json`: {fault}") from fault
    if not isinstance(document, dict) or not {"dataset", "rows", "queries"} <= document.keys():
        raise ConfigError(f"{path}: expected a report of `consilium eval routing --json`, found other JSON")
    if document.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        raise ConfigError(
            f"{path}: expected a report of format {FORMAT}, found {document.get('format')!r}; make it anew"  # pyright: ignore[reportUnknownMemberType]
        )
    return document  # pyright: ignore[reportUnknownVariableType]


def versions(replay: Replay) -> dict[str, Any]:
    """What the figures depend on."""
    settings = replay.settings
    return {
        "consilium": _version("consilium"), "python": platform.python_version(), "numpy": _version("numpy"),
        "faiss": _version("faiss-cpu"), "encoder": replay.encoder, "seed": settings.seed,
        "fit": list(settings.fit), "test": list(settings.test), "resamples": settings.resamples,
    }  # fmt: skip


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as fault:
        raise ConfigError(f"{path}: cannot be written: {fault.strerror}") from fault


def _bins(found: Reliability) -> dict[str, Any]:
    return {
        "ece": found.ece, "brier": found.brier, "count": found.count, "bins": [each._asdict() for each in found.bins],
    }  # fmt: skip


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
