"""The figures of retrieval as a table on the screen, and the same as one page."""

from __future__ import annotations

from html import escape
from typing import Any

from rich.table import Table

HEADS = ("system", "nDCG@10", "95 %", "recall@10", "MRR@10", "searched", "ms")


def cells(row: dict[str, Any]) -> list[str]:
    return [
        row["system"], f"{row['mean_ndcg10']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}",
        f"{row['mean_recall10']:.3f}", f"{row['mean_mrr10']:.3f}", f"{100 * row['searched_share']:.0f} %",
        f"{row['p50_ms']:.1f}",
    ]  # fmt: skip


def table(document: dict[str, Any]) -> Table:
    shown = Table(title=f"{document['test']:,} test queries, {document['documents']:,} documents")
    for head in HEADS:
        shown.add_column(head, justify="left" if head == "system" else "right")
    for row in document["rows"]:
        shown.add_row(*cells(row), style="bold" if row["system"] == "routed" else None)
    return shown


def page(document: dict[str, Any]) -> str:
    """One page without scripts: the table, and nDCG@10 of every domain."""
    rows: list[dict[str, Any]] = document["rows"]
    names = list(rows[0]["datasets"])
    figures = _html(HEADS, [cells(row) for row in rows])
    domains = _html(
        ("system", *names),
        [[row["system"], *(f"{row['datasets'][name]['ndcg10']:.3f}" for name in names)] for row in rows],
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Retrieval</title>'
        "<style>body{font:15px system-ui;margin:2em auto;max-width:70em;padding:0 1em;color-scheme:light dark}"
        "td,th{padding:.3em .8em;text-align:right}td:first-child,th:first-child{text-align:left}</style>"
        f"<h1>Retrieval</h1><p>{document['test']:,} test queries, {document['documents']:,} documents, encoder "
        f"{escape(document['encoder'])}.</p>{figures}<h2>nDCG@10 by domain</h2>{domains}</html>"
    )


def _html(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
