"""An estimator on disk: `arrays.npz` and `state.json` in its folder. Never pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from experts.errors import ConfigError
from router.estimators._evidence import Effects
from router.outcomes import Outcomes

FORMAT = 2

Array = NDArray[Any]


def write(folder: Path, kind: str, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Writes both files. `state` must be JSON; `kind` is the estimator's name, checked when it is read back."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "arrays.npz").open("wb") as file:
        packed: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        np.savez(file, **packed)
    (folder / "state.json").write_bytes(orjson.dumps({"kind": kind, "format": FORMAT, **state}))


def read(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """The state and the arrays. Raises ConfigError where the folder holds another estimator, or none."""
    path = folder / "state.json"
    if not path.exists():
        raise ConfigError(f"{folder}: expected a saved {kind!r} estimator, found no state.json; fit one first")
    state = orjson.loads(path.read_bytes())
    found = (state.get("kind"), state.get("format"))
    if found != (kind, FORMAT):
        raise ConfigError(
            f"{path}: expected estimator {kind!r} of format {FORMAT}, found {found[0]!r} of format {found[1]!r}; "
            "fit it again"
        )
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        return state, {name: arrays[name] for name in arrays.files}


def table_arrays(table: Outcomes) -> dict[str, Array]:
    """What `table_of` reads, beside the state's `experts` and `ids`: texts, tasks and costs are not kept."""
    arrays: dict[str, Array] = {"scores": table.scores, "tokens": table.tokens, "latency_ms": table.latency_ms}
    return arrays if table.vectors is None else {**arrays, "vectors": table.vectors}


def table_of(state: Mapping[str, Any], arrays: Mapping[str, Array]) -> Outcomes:
    blank = ("",) * len(state["ids"])
    return Outcomes(
        tuple(state["ids"]), blank, blank, blank, tuple(state["experts"]), arrays["scores"], arrays["tokens"],
        np.full_like(arrays["scores"], np.nan), arrays["latency_ms"], arrays.get("vectors"),
    )  # fmt: skip


def effects_of(arrays: Mapping[str, Array]) -> Effects:
    """The experts' effects from arrays saved under the names of their fields."""
    return Effects(arrays["mean"], arrays["error"], arrays["count"], arrays["tokens"], arrays["latency_ms"],
                   arrays["raw"])  # fmt: skip


def arrays_of(effects: Effects) -> dict[str, Array]:
    """What `effects_of` reads."""
    return {"mean": effects.mean, "error": effects.error, "count": effects.count, "tokens": effects.tokens,
            "latency_ms": effects.latency_ms, "raw": effects.raw}  # fmt: skip
