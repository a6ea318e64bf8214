"""`consilium eval retrieval`: searches every query everywhere, and shows what choosing would have given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evals.cli_options import (
    DEFAULT_MODEL,
    DEFAULT_RUNTIME,
    Encoder,
    JsonFile,
    Runtime,
    Seed,
    Threads,
    bars,
    complaints,
)


def retrieval(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="One folder a domain, in the shape of BEIR.")],
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Also each domain added by its documents alone; minutes.")
    ] = False,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Train query-side adapters, and route over them too; minutes.")
    ] = False,
    served: Annotated[
        bool, typer.Option("--served", help="Also index and search all as a gateway would; about ten minutes.")
    ] = False,
    json: JsonFile = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one page to look at.")] = None,
    encoder: Encoder = DEFAULT_MODEL,
    runtime: Runtime = DEFAULT_RUNTIME,
    threads: Threads = 1,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Measure routing over retrievers and corpora on judged queries, beside the baselines and the oracles.

    Every folder of DIR holds corpus.jsonl, queries.jsonl and qrels.tsv, gzipped or not. All corpora are searched
    together; no query's domain is told. Weights are fitted on the queries whose split is not a test one.

    [bold]Examples[/]

      consilium eval retrieval --data beir/
      consilium eval retrieval --data beir/ --leave-one-out --json report.json --html report.html
      consilium eval retrieval --data beir/ --served
    """
    with complaints():
        from evals.report import write_json, write_text
        from evals.retrieval.data import read_domains
        from evals.retrieval.scores import Scores
        from evals.retrieval.searching import search_all
        from evals.retrieval.systems import figures, rows
        from evals.retrieval.table import page, table
        from experts.retrieval.encoders import open_encoder
        from router.cli.output import screen

        domains = read_domains(data)
        opened = open_encoder(encoder, runtime, threads=threads)
        with bars() as progress:
            world = search_all(domains, opened, progress.step, progress.embedding, seed)
            wider, more, choice = world, list[dict[str, Any]](), dict[str, float]()
            if adapters:
                from evals.retrieval.adapted import with_adapters

                dense_ms = world.search_ms["dense"]

                def row(system: str, scores: Scores) -> dict[str, Any]:
                    return figures(world, system, scores, dense_ms, resamples=resamples, seed=seed)

                wider, more, choice = with_adapters(world, row, seed, progress.step)
            progress.step("judging")
            found = rows(world, resamples=resamples, seed=seed, leave_one_out=leave_one_out, routed_on=wider)
            found = [*found, *more]
            if served:
                from evals.retrieval import served as gateway
                from experts.cache import cache_root

                folder = cache_root() / "served" / gateway.key(domains, opened, encoder, runtime)
                progress.step("building indexes as a gateway has them")
                gateway.build(data, domains, folder, opened, encoder, runtime, progress.embedding)
                text = gateway.registry(folder, domains, encoder, runtime)
                result = gateway.measure(world, text, progress.step, progress.embedding, seed)
                found.append(figures(world, "served", result.scores, result.p50_ms, result.searched,
                                     resamples=resamples, seed=seed, held_out=result.held_out))  # fmt: skip
        document: dict[str, Any] = {
            "rows": found, "encoder": opened.fingerprint, "seed": seed, "resamples": resamples,
            "documents": len(world.ids), "test": len(world.test), "training": len(world.training),
            "adapters_on_training": choice,
        }  # fmt: skip
        screen().print(table(document))
        if json is not None:
            write_json(document, json)
        if html is not None:
            write_text(page(document), html)
