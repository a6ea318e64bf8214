"""`consilium retriever train`, `fit` and `measure`. Nothing heavy is imported before they run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experts.errors import ConfigError
from router.cli.options import Json

if TYPE_CHECKING:
    from router.passages import Lookup

app = typer.Typer(help="Train what retrievers search better with.", no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def retriever() -> None:
    """Train what retrievers search better with."""


@app.command()
def train(
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA…", help="JSON lines of pairs, or BEIR folders; several are one.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Gets the adapter; its name is the folder's.")
    ],
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="INDEX", help="The index to be searched: its encoder is the adapter's."),
    ] = None,
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Without --index: model.")] = "all-MiniLM-L6-v2",
    runtime: Annotated[str, typer.Option(help="Without --index: onnx-int8, onnx, torch or openai.")] = "onnx-int8",
    url: Annotated[str, typer.Option(help="For openai: the server's base URL, up to and including /v1.")] = "",
    api_key: Annotated[
        str, typer.Option(envvar="CONSILIUM_ENCODER_KEY", help="API key of --url.", show_default=False)
    ] = "",
    rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of the map.")] = 64,
    epochs: Annotated[float, typer.Option("--epochs", min=0.0, help="Passes over the pairs.")] = 8.0,
    batch: Annotated[int, typer.Option("--batch", min=2, help="Pairs a step; each is a negative of the others.")] = 64,
    rate: Annotated[float, typer.Option("--rate", min=0.0, help="Peak learning rate.")] = 1e-3,
    hard: Annotated[int, typer.Option("--hard", min=0, help="Hard negatives mined for each pair.")] = 4,
    held: Annotated[
        float, typer.Option("--held", min=0.0, max=0.9, help="Share of queries kept to choose the strength.")
    ] = 0.2,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between checkpoints.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Fixes the order of the pairs.")] = 0,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.", show_default="all")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is in --out.")] = False,
    json: Json = False,
) -> None:
    """Train a query-side adapter: a small map on the query's vector, over an index that stays as it is.

    From lines of `{"query": "…", "passage": "…"}`, perhaps with `"negatives": ["…"]`, or from BEIR folders, less their
    test queries. Training is sentence-transformers' own, with mined hard negatives; vectors are computed once and kept.
    How far the map moves a query is chosen on held-out queries: one that does not help there changes nothing.

    [bold]Examples[/]

      consilium retriever train beir/medquad --out adapters/health
      consilium retriever train clicks.jsonl --index handbook/ --out adapters/handbook --json

    Then declare it: `kind: retriever`, `provider: hybrid`, `index: ./handbook`, `adapter: ./adapters/handbook`.
    """
    try:
        import torch

        from experts.retrieval.adapting import Lesson, Recipe
        from experts.retrieval.adapting import train as run
    except ImportError as fault:
        raise ConfigError(f"training needs more packages ({fault}): pip install 'consilium[encoder,train]'") from None
    from experts.retrieval.embedded import embed
    from experts.retrieval.encoders import open_encoder
    from experts.retrieval.pairs import read_all
    from experts.retrieval.progress import Training
    from router.cli.output import print_json, screen

    if threads:
        torch.set_num_threads(threads)
    pairs = read_all(data)
    model = (encoder, runtime, url) if index is None else _embedded_by(index)
    opened = open_encoder(model[0], model[1], url=model[2], api_key=api_key, threads=threads or 1)
    recipe = Recipe(rank, epochs, batch, rate, hard, seed, held, every)
    with Training(screen(errors=True), shown=not json) as bar:
        queries, passages = (embed(texts, opened, bar.embedded) for texts in (pairs.queries, pairs.passages))
        lesson = Lesson(queries, passages, pairs.relevant, pairs.rejected)
        adapter, figures = run(
            out.name, opened.fingerprint, lesson, recipe, work=out / "work", resume=resume, callbacks=[bar]
        )
    adapter.save(out, {"trained": {"rank": rank, "epochs": epochs, "seed": seed, **figures}})
    said: dict[str, Any] = {"adapter": str(out), "encoder": opened.fingerprint, **figures}
    if json:
        print_json(said)
        return
    screen().print(
        f"[green]{out}[/]: {figures['pairs']:.0f} pairs; on {figures['held_queries']:.0f} held-out queries MRR@10 "
        f"{figures['held_mrr_before']:.3f} without it, {figures['held_mrr']:.3f} with it (strength "
        f"{figures['strength']:g})"
    )


@app.command()
def fit(
    judged: Annotated[Path, typer.Argument(metavar="JUDGED", help="JSON lines of queries and what is relevant.")],
    registry: Annotated[Path, typer.Option("--registry", "-r", metavar="PATH", help="A YAML file, or a folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Gets the ranker.")] = Path("ranker.npz"),
    route: Annotated[str, typer.Option("--route", help="The route whose retrievers are searched.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Fixes which queries are held out together.")] = 0,
    json: Json = False,
) -> None:
    """Fit what puts the passages that retrievers found into one order.

    From lines of `{"query": "…", "relevant": ["handbook/leave.md"]}`: ids of documents or passages, with the corpus
    before them where two have the same. It weighs what each way of searching says, and how near each corpus is; a
    corpus that answers 50 of the queries has terms of its own, and one that is added later is ranked by the weights
    that all share. It is judged on queries that it did not see, beside the order without it, and written only where it
    is better. One hybrid retriever is enough: the ranker is then its learned fusion.

    [bold]Examples[/]

      consilium retriever fit judged.jsonl -r registry/ -o registry/ranker.npz
      consilium retriever fit judged.jsonl -r registry/ --route support --json

    Then name it: `retrieval: {retrievers: \\[handbook, tickets], ranker: ./ranker.npz}` in the route.
    """
    import asyncio

    from router.cli.output import print_json, screen
    from router.retrieval import judged as judging

    rows = judging.read_judged(judged)

    async def searched() -> judging.Fitted:
        async with _looking(registry, route, ("ranker",), json) as (lookup, told):
            return judging.fit(await judging.search_judged(lookup, rows, told(len(rows))), seed)

    fitted = asyncio.run(searched())
    better = fitted.after > fitted.before
    if better:
        fitted.ranker.save(out)
    said: dict[str, Any] = {
        "ranker": str(out) if better else None, "queries": fitted.queries, "found": round(fitted.found, 4),
        "ndcg10_reciprocal_ranks": round(fitted.before, 4), "ndcg10": round(fitted.after, 4),
        "ways": list(fitted.ranker.retrievers),
    }  # fmt: skip
    if json:
        print_json(said)
        return
    verdict = f"[green]{out}[/]" if better else "[yellow]not written[/], reciprocal ranks are as good"
    screen().print(
        f"{verdict}: {fitted.queries} queries; nDCG@10 of held-out ones {fitted.before:.3f} by reciprocal ranks, "
        f"{fitted.after:.3f} by the ranker"
    )


@app.command()
def measure(
    judged: Annotated[Path, typer.Argument(metavar="JUDGED", help="JSON lines of queries and what is relevant.")],
    registry: Annotated[Path, typer.Option("--registry", "-r", metavar="PATH", help="A YAML file, or a folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Gets the outcomes, JSON lines.")] = Path(
        "retrievers.jsonl"
    ),
    route: Annotated[str, typer.Option("--route", help="The route whose retrievers are measured.")] = "auto",
    json: Json = False,
) -> None:
    """Measure how well each retriever of a route searches: nDCG@10 on judged queries, each retriever alone.

    The lines are those of `fit`: `{"query": "…", "relevant": ["handbook/leave.md"]}`. What is written are outcomes like
    those of experts, and the estimators that choose experts learn from it which retrievers a query is worth.

    [bold]Examples[/]

      consilium retriever measure judged.jsonl -r registry/ -o registry/retrievers.jsonl
      consilium retriever measure judged.jsonl -r registry/ --route support --json

    Then name it: `retrieval: {retrievers: \\[handbook, tickets], measured: ./retrievers.jsonl, top: 1}` in the route.
    """
    import asyncio

    from router.cli.output import print_json, screen
    from router.retrieval import judged as judging

    rows = judging.read_judged(judged)

    async def searched() -> list[dict[str, float]]:
        async with _looking(registry, route, ("ranker", "measured"), json) as (lookup, told):
            return await judging.measure(lookup.sources, rows, told(len(rows)))

    found = asyncio.run(searched())
    judging.write_measured(out, rows, found)
    names = list(found[0])
    means = {name: round(sum(row[name] for row in found) / len(found), 4) for name in names}
    best = round(sum(max(row.values()) for row in found) / len(found), 4)
    if json:
        print_json({"outcomes": str(out), "queries": len(found), "ndcg10": means, "ndcg10_best_of_each_query": best})
        return
    told = ", ".join(f"{name} {mean:.3f}" for name, mean in sorted(means.items(), key=lambda item: -item[1]))
    screen().print(f"[green]{out}[/]: {len(found)} queries; nDCG@10 {told}; the best for each query {best:.3f}")


@asynccontextmanager
async def _looking(
    registry: Path, route: str, without: Sequence[str], quiet: bool
) -> AsyncIterator[tuple[Lookup, Callable[[int], Callable[[int], None]]]]:
    """A route's retrieval, and what shows a bar of so many queries. Raises ConfigError for a route that has none.

    `without`: files of the routes' retrieval that need not be there, since they are what is to be made.
    """
    from rich.progress import Progress

    from router.cli.output import screen
    from router.local import load_registry, open_router

    manifests = load_registry(registry)
    routes = {
        name: one.model_copy(update={"retrieval": one.retrieval.model_copy(update=dict.fromkeys(without))})
        if one.retrieval is not None else one
        for name, one in manifests.routes.items()
    }  # fmt: skip
    async with open_router(replace(manifests, routes=routes)) as router:
        found = router.snapshot.routes.get(route)
        if found is None or found.lookup is None:
            known = [name for name, one in router.snapshot.routes.items() if one.lookup is not None]
            raise ConfigError(
                f"route {route}: has no retrieval; those that have are {', '.join(known) or 'none'} (--route)"
            )
        with Progress(console=screen(errors=True), disable=quiet) as bar:

            def told(total: int) -> Callable[[int], None]:
                task = bar.add_task("searching", total=total)
                return lambda n: bar.update(task, completed=n)

            yield found.lookup, told


def _embedded_by(index: Path) -> tuple[str, str, str]:
    from experts.retrieval.corpus import open_corpus

    corpus = open_corpus(index)
    known = corpus.embedded
    corpus.close()
    if known is None:
        raise ConfigError(f"{index}: has no vectors, so that there is no encoder to adapt; build it with an encoder")
    return known.model, known.runtime, known.url
