"""The report in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

COST_TITLES = {"usd": "USD/1,000", "parameter-tokens": "B-param x Mtok", "tokens": "tokens", "none": "cost"}


def show(document: dict[str, Any], console: Console) -> None:
    """The headline table and what must not be overlooked."""
    from rich.table import Table

    several = len(document["tasks"]) > 1
    title = f"{document['dataset']}: {document['n']:,} test queries, {len(document['experts'])} experts"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("router", no_wrap=True)
    for name in ("macro" if several else "quality", "95 %", "micro", COST_TITLES[document["cost_unit"]], "calls",
                 "gap closed", "vs best single", "wins/losses", "p"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in document["rows"]:
        table.add_row(*cells(row, document["cost_unit"]), style=_style(row))
    console.print(table)
    _pairs(document, console)
    ours = document["rows"][-1]
    parts = [f"fit {document['fit_s']:.1f} s", f"decisions {document['decide_us_per_query']:.1f} us/query (batched)",
             f"embedding {document['embed_s']:.1f} s for {document['embedded']:,} new texts",
             f"calibration error {document['ece']:.3f}"]  # fmt: skip
    aiq = (document["curves"].get("aiq") or {}).get("default")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if aiq is not None:
        parts.append(f"AIQ {aiq:.3f} (mixing single experts: {document['curves']['aiq']['zero_router']:.3f})")
    if "arena_score" in ours:
        parts.append(f"RouterArena score {100 * ours['arena_score']:.2f}")
    console.print("; ".join(parts), style="dim")
    for row in document["rows"]:
        if row.get("unmeasured"):
            console.print(
                f"note: {row['router']}: {row['unmeasured']:,} of {document['n']:,} choices were never measured, and "
                "are left out of its means", style="yellow", markup=False, soft_wrap=True,
            )  # fmt: skip
    for note in document["notes"]:
        console.print(f"note: {note}", style="yellow", markup=False)
    for each in document["skipped"]:
        console.print(f"skipped {each['router']}: {each['why']}", style="yellow", markup=False)
    problems(document["problems"], console)


def problems(found: dict[str, Any], console: Console) -> None:
    """How many rows were no outcomes, and which."""
    if found["count"]:
        console.print(f"{found['count']:,} bad rows were left out; the first:", style="bold yellow")
        for line in found["first"][:5]:
            console.print(f"  {line}", style="yellow", markup=False, soft_wrap=True)


def cells(row: dict[str, Any], unit: str) -> list[str]:
    """One row of the headline table, as texts."""
    versus, gap = row["vs_best_single"], row["oracle_gap_closed"]
    low, high = row["ci95"]
    cost = {
        "usd": f"{row['cost'] * 1000:.3f}",
        "parameter-tokens": f"{row['cost']:.4f}",
        "tokens": f"{row['cost']:.0f}",
    }
    same = row["router"] == "best-single"
    return [
        row["router"], f"{100 * row['quality_macro']:.2f}", f"{100 * low:.1f} to {100 * high:.1f}",
        f"{100 * row['quality_micro']:.2f}", cost.get(unit, ""), f"{row['calls']:.2f}",
        "" if gap is None else f"{100 * gap:.0f} %", "" if same else f"{100 * versus['difference']:+.2f}",
        "" if same else f"{versus['wins']}/{versus['losses']}", "" if same else f"{versus['p']:.3f}",
    ]  # fmt: skip


def _pairs(document: dict[str, Any], console: Console) -> None:
    if not document["apgr"]:
        return
    from rich.table import Table

    pairs = document["apgr"]
    table = Table(title=f"{pairs['strong']} against {pairs['weak']}", title_justify="left", box=None, pad_edge=False)
    table.add_column("task")
    for name in ("n", "APGR", "95 %", "CPT(50 %)", "CPT(80 %)"):
        table.add_column(name, justify="right")
    for task, row in pairs["tasks"].items():
        table.add_row(
            task, f"{row['n']:,}", f"{row['apgr']:.3f}", f"{row['ci95'][0]:.3f} to {row['ci95'][1]:.3f}",
            f"{100 * row['cpt50']:.1f} %", f"{100 * row['cpt80']:.1f} %",
        )  # fmt: skip
    console.print(table)


def _style(row: dict[str, Any]) -> str:
    return {"default": "bold green", "oracle": "cyan", "single": "dim"}.get(row["kind"], "")
