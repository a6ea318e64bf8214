"""The page of `consilium eval compose`: one HTML file without a script or a request, drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 56, 20, 34, 46
COLOURS = {
    "auto": "var(--ours)",
    "cascade": "var(--best)",
    "vote-sequential": "var(--oracle)",
    "singles": "var(--soft)",
}
COST = {
    "usd": "USD a query", "parameter-tokens": "billion parameters × million tokens a query", "tokens": "tokens a query",
    "none": "calls",
}  # fmt: skip
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}: compositions</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def page(document: Mapping[str, Any]) -> str:
    """The page of a document of `evals.composing.compose`. Every text in it is escaped."""
    macro = {row["policy"]: row for row in document["rows"] if row["task"] == "macro"}
    lead = (
        f"{document['n']:,} test queries and the recorded answers of {len(document['experts'])} experts; everything is "
        f"fitted on {' and '.join(document['fit'])}. Quality is in %, macro the mean over tasks."
    )
    parts = [
        f'<header><div><h1>{escape(document["dataset"])}: compositions</h1><p class="lead">{escape(lead)}</p></div>'
        "</header>",
        _facts(document, macro),
        _section("Every policy", "Calls, tokens and cost are means a query; 95 % by a bootstrap within tasks.",
                 _table(document, macro)),
        _section("What quality costs", _hint(document), _chart(document)),
        _section("One expert's samples, or several experts?", document["self_ablation"]["why"], ""),
        *(_section("Note", note, "") for note in document["notes"]),
    ]  # fmt: skip
    style = files("evals.report").joinpath("page.css").read_text()
    return PAGE.format(title=escape(document["dataset"]), style=style, body="\n".join(parts))


def _facts(document: Mapping[str, Any], macro: Mapping[str, Mapping[str, Any]]) -> str:
    best, auto = macro["best-single"], macro["auto"]
    told = [
        ("best single expert", f"{100 * best['quality']:.1f}", document["best_single"]),
        ("compose: auto", f"{100 * auto['quality']:.1f}", f"{auto['calls']:.2f} calls a query"),
        ("gain", f"{100 * (auto['quality'] - best['quality']):+.1f}", "points on the best single expert"),
        ("oracle", f"{100 * macro['oracle']['quality']:.1f}", "told every score"),
    ]
    cells = (
        f'<div class="fact"><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(more)}</span></div>'
        for name, value, more in told
    )  # fmt: skip
    return f'<div class="cards">{"".join(cells)}</div>'


def _section(title: str, hint: str, content: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="hint">{escape(hint)}</p>{content}</section>'


def _table(document: Mapping[str, Any], macro: Mapping[str, Mapping[str, Any]]) -> str:
    tasks = [row["task"] for row in document["rows"] if row["policy"] == document["rows"][0]["policy"]]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("policy", *tasks, "95 %", "calls", "tokens", "cost"))
    lines: list[str] = []
    for policy, whole in macro.items():
        by_task = {row["task"]: row["quality"] for row in document["rows"] if row["policy"] == policy}
        low, high = whole["ci95"]
        cells = [*(f"{100 * by_task[task]:.1f}" for task in tasks), f"{100 * low:.1f} – {100 * high:.1f}",
                 f"{whole['calls']:.2f}", f"{whole['tokens']:.0f}", f"{whole['cost']:.4f}"]  # fmt: skip
        kind = {"auto": ' class="default"', "oracle": ' class="oracle"'}.get(policy, "")
        lines.append(f"<tr{kind}><td>{escape(policy)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _hint(document: Mapping[str, Any]) -> str:
    lead = document["dominates"]
    worst = min(lead["lead"], key=lead["lead"].__getitem__)
    where = "above, or on," if lead["everywhere"] else "NOT everywhere above"
    return (
        f"Cost in {COST[document['cost_unit']]}. The curve of auto (its price swept) lies {where} every single expert "
        f"at its cost; least lead {100 * lead['lead'][worst]:+.1f} points, on {worst}."
    )


def _chart(document: Mapping[str, Any]) -> str:
    """Quality against cost: a line for each policy that was swept, a point for each single expert."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = document["curves"]
    every = [point for curve in curves.values() for point in curve]
    costs, heights = [point["cost"] for point in every], [100 * point["quality"] for point in every]
    (x0, x1), (y0, y1) = _span(costs, floor=0.0), _span(heights)

    def at(point: Mapping[str, Any]) -> tuple[float, float]:
        x = LEFT + (point["cost"] - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (100 * point["quality"] - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    drawn: list[str] = []
    for value in np.linspace(y0, y1, 6).tolist():
        _, y = at({"cost": x0, "quality": value / 100})
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
                     f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.0f}</text>')  # fmt: skip
    for value in np.linspace(x0, x1, 6).tolist():
        x, _ = at({"cost": value, "quality": y0 / 100})
        drawn.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:.3g}</text>')
    for place, (name, curve) in enumerate(curves.items()):
        colour, points = COLOURS[name], [at(point) for point in sorted(curve, key=lambda one: one["cost"])]
        if name != "singles":
            line = " ".join(f"{x},{y}" for x, y in points)
            drawn.append(f'<polyline points="{line}" style="fill:none;stroke:{colour};stroke-width:2"/>')
        for point in curve:
            x, y = at(point)
            told = f"{point.get('expert', name)}: {100 * point['quality']:.1f} % at {point['cost']:.4g}"
            drawn.append(f'<circle cx="{x}" cy="{y}" r="{6 if name == "singles" else 3}" style="fill:{colour}">'
                         f"<title>{escape(told)}</title></circle>")  # fmt: skip
        drawn.append(f'<circle cx="{LEFT + 130 * place}" cy="12" r="5" style="fill:{colour}"/>'
                     f'<text x="{LEFT + 130 * place + 10}" y="16">{escape(name)}</text>')  # fmt: skip
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="quality against cost">{"".join(drawn)}</svg>'


def _span(values: Sequence[float], floor: float | None = None) -> tuple[float, float]:
    low, high = (min(values) if floor is None else floor), max(values)
    room = (high - low) * 0.04 or 1.0
    return (low if floor is not None else low - room), high + room
