"""One HTML file to look at: no request leaves it, every text in it is data, never markup.

The report travels as JSON inside the page; `page.js` draws it with SVG and `textContent`, in light or dark. A content
security policy forbids everything but what is inline.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import orjson

from evals.routers import BEST_SINGLE, DEFAULT
from evals.routing import Replay

MISTAKES, PER_TASK, LONGEST = 16, 4, 1_500
POINTS, HINT = 1_200, 120


def page(replay: Replay, document: dict[str, Any]) -> str:
    """The page of a replay and its `report.json`."""
    shown = {name: value for name, value in document.items() if name != "queries"}
    data = {**shown, "mistakes": mistakes(replay), "map": query_map(replay)}
    parts = {"title": escaped(document["dataset"]), "data": script_safe(data), "style": _asset("page.css"),
             "script": _asset("page.js")}  # fmt: skip
    text = _asset("page.html")
    for name, value in parts.items():
        text = text.replace("{{" + name + "}}", value, 1)
    return text


def mistakes(replay: Replay) -> list[dict[str, Any]]:
    """Where the default lost most to the best expert of the query, the most confident first; a few of each task."""
    usual, best, test = replay.router(DEFAULT), replay.router(BEST_SINGLE), replay.test
    if usual.decisions is None:
        return []
    outcomes, seats = test.outcomes, usual.decisions.seats
    estimated = usual.decisions.estimates.quality[np.arange(len(test)), seats]
    lost = np.nan_to_num(np.nanmax(outcomes.scores, axis=1) - usual.quality)
    out: list[dict[str, Any]] = []
    taken: dict[str, int] = {}
    for row in np.lexsort((-estimated, -np.round(lost, 2))):  # pyright: ignore[reportUnknownArgumentType]
        task = outcomes.tasks[row]  # pyright: ignore[reportUnknownVariableType]
        if lost[row] <= 0.05 or len(out) == MISTAKES:
            break
        if taken.get(task, 0) >= PER_TASK:  # pyright: ignore[reportUnknownArgumentType]
            continue
        taken[task] = taken.get(task, 0) + 1  # pyright: ignore[reportUnknownArgumentType]
        ahead = outcomes.scores[row] >= np.nanmax(outcomes.scores[row]) - 1e-6
        out.append({
            "task": task, "id": outcomes.ids[row], "text": _cut(outcomes.texts[row], LONGEST),  # pyright: ignore[reportUnknownArgumentType]
            "chosen": outcomes.experts[int(seats[row])], "estimate": float(estimated[row]),
            "score": float(usual.quality[row]), "best_single": float(best.quality[row]),
            "right": [outcomes.experts[column] for column in np.flatnonzero(ahead)],
            "top": float(np.nanmax(outcomes.scores[row])),
        })  # fmt: skip
    return out


def query_map(replay: Replay) -> dict[str, Any]:
    """Test queries (at most POINTS, drawn) on the two first principal components of all test vectors."""
    usual, test = replay.router(DEFAULT), replay.test
    vectors = test.outcomes.vectors
    if vectors is None or usual.seats is None or len(test) < 3:
        return {"points": []}
    centred = vectors.astype(np.float64) - vectors.mean(0)
    spread, axes = np.linalg.eigh(centred.T @ centred)
    flat = centred @ axes[:, [-1, -2]]
    flat /= np.abs(flat).max(0, initial=1e-9)
    rng = np.random.default_rng(replay.settings.seed)
    kept = np.sort(rng.permutation(len(test))[:POINTS])
    return {
        "explained": float(spread[-2:].sum() / max(spread.sum(), 1e-12)),
        "of": len(test),
        "points": [
            [round(float(flat[row, 0]), 3), round(float(flat[row, 1]), 3), int(usual.seats[row]),
             None if np.isnan(usual.quality[row]) else round(float(usual.quality[row]), 2),
             test.outcomes.tasks[row], _cut(test.outcomes.texts[row], HINT)]  # pyright: ignore[reportUnknownArgumentType]
            for row in kept
        ],
    }  # fmt: skip


def script_safe(value: Any) -> str:
    """JSON that can stand in a script element: no text in it can end the element."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _asset(name: str) -> str:
    return files("evals.report").joinpath(name).read_text(encoding="utf-8")
