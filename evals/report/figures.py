"""The tables of `docs/evaluation.md` from reports: `python -m evals.report.figures REPORT.json…` prints Markdown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from evals.report import read_report
from evals.routers import BEST_SINGLE, DEFAULT, QUERY_ORACLE

Measure = Literal["quality_macro", "quality_micro"]
MEASURED_BY: Mapping[str, Measure] = {"lookahead": "quality_macro"}
"""Sets whose authors report the mean over tasks; of the others it is the mean over queries."""


def quality_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """One line a set: best single, default with its interval and its paired standing, oracles."""
    lines = [
        "| data | measure | best single | default | won / lost | task oracle (hindsight) | query oracle |",
        "|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        measure = MEASURED_BY.get(report["dataset"], "quality_micro")
        low, high = _row(report, DEFAULT)["ci95" if measure == "quality_macro" else "ci95_micro"]
        level = {name: 100 * _row(report, name)[measure] for name in
                 (BEST_SINGLE, DEFAULT, "task-oracle", "task-oracle-hindsight", QUERY_ORACLE)}  # fmt: skip
        versus = _row(report, DEFAULT)["vs_best_single"]
        lines.append(
            f"| {report['dataset']} | {measure.removeprefix('quality_')} | {level[BEST_SINGLE]:.2f} | "
            f"**{level[DEFAULT]:.2f}** [{100 * low:.1f}, {100 * high:.1f}] | {versus['wins']} / {versus['losses']} | "
            f"{level['task-oracle']:.1f} ({level['task-oracle-hindsight']:.1f}) | {level[QUERY_ORACLE]:.1f} |"
        )
    return "\n".join(lines)


def pair_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """RouteLLM's metrics of the sets with two experts; empty where there is none."""
    lines = ["| task | n | APGR | of ten shares | CPT(50 %) | CPT(80 %) |", "|---|---|---|---|---|---|"]
    for report in reports:
        tasks: Mapping[str, Mapping[str, Any]] = report["apgr"]["tasks"] if report["apgr"] else {}
        for task, row in tasks.items():
            low, high = row["ci95"]
            lines.append(
                f"| {report['dataset']}, {task} | {row['n']:,} | **{row['apgr']:.3f}** [{low:.3f}, {high:.3f}] | "
                f"{row['apgr_10']:.3f} | {100 * row['cpt50']:.1f} % | {100 * row['cpt80']:.1f} % |"
            )
    return "\n".join(lines) if len(lines) > 2 else ""


def speed_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """Fit and decisions in processor time, and the calibration error."""
    lines = [
        "| data | rows fitted | experts | fit, s | decisions, us a query | calibration error |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {report['dataset']} | {report['n_fit']:,} | {len(report['experts'])} | {report['fit_cpu_s']:.1f} | "
        f"{report['decide_cpu_us_per_query']:.0f} | {report['ece']:.3f} |"
        for report in reports
    ]
    return "\n".join(lines)


def _row(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next(row for row in report["rows"] if row["router"] == name)


def main(arguments: Sequence[str]) -> None:
    reports = [read_report(Path(each)) for each in arguments]
    tables = [quality_table(reports), pair_table(reports), speed_table(reports)]
    sys.stdout.write("\n\n".join(table for table in tables if table) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
