"""`consilium index`: documents into a corpus that retrievers search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import Json

if TYPE_CHECKING:
    from experts.protocols import Encoder
    from experts.retrieval.corpus import Corpus
    from experts.retrieval.indexing import Counts

app = typer.Typer(help="Make and change the corpora that retrievers search.", no_args_is_help=True)

Index = Annotated[Path, typer.Argument(metavar="INDEX", help="The folder of the index.")]
Sources = Annotated[
    list[Path],
    typer.Argument(metavar="DOCUMENTS…", help="JSONL files, BEIR folders, folders of .md, .html, .pdf and .txt."),
]
Piece = Annotated[int, typer.Option("--piece", min=100, help="Most characters of a passage.")]
Key = Annotated[str, typer.Option(envvar="CONSILIUM_ENCODER_KEY", help="API key of --url.", show_default=False)]


@app.callback()
def index() -> None:
    """Make and change the corpora that retrievers search."""


@app.command()
def build(
    index: Index,
    sources: Sources,
    encoder: Annotated[
        str, typer.Option("--encoder", "-e", help="Model of the vectors, or `none`: words only.")
    ] = "all-MiniLM-L6-v2",
    runtime: Annotated[str, typer.Option(help="onnx-int8, onnx, torch or openai (with --url).")] = "onnx-int8",
    url: Annotated[str, typer.Option(help="For openai: the server's base URL, up to and including /v1.")] = "",
    api_key: Key = "",
    piece: Piece = 1000,
    json: Json = False,
) -> None:
    """Make an index, or go on with one that was interrupted: what is there already is not done again.

    [bold]Examples[/]

      consilium index build handbook/ docs/
      consilium index build wiki/ corpus.jsonl.gz --encoder none
      consilium index build wiki/ corpus.jsonl --runtime openai --url http://127.0.0.1:8000/v1 -e BAAI/bge-m3

    Then declare it: `kind: retriever`, `provider: hybrid`, `index: ./handbook`.
    """
    from experts.retrieval.corpus import create_corpus
    from experts.retrieval.encoders import open_encoder
    from experts.retrieval.indexing import embedded_by

    opened, embedded = None, None
    if encoder != "none":
        opened = open_encoder(encoder, runtime, url=url, api_key=api_key)
        embedded = embedded_by(opened, encoder, runtime, url)
    _add(create_corpus(index, embedded), sources, opened, piece, json=json)


@app.command()
def add(index: Index, sources: Sources, api_key: Key = "", piece: Piece = 1000, json: Json = False) -> None:
    """Add documents, and replace those that have changed. A running gateway finds them at its next search.

    [bold]Examples[/]

      consilium index add handbook/ docs/new-page.md
      consilium index add wiki/ more.jsonl --json
    """
    from experts.retrieval.corpus import open_corpus

    corpus = open_corpus(index)
    _add(corpus, sources, _encoder_of(corpus, api_key), piece, json=json)


@app.command()
def delete(
    index: Index,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of documents: `_id`, or a file's path.")],
    json: Json = False,
) -> None:
    """Delete documents by their ids. Exit status 1 where one is not there; the others are deleted all the same.

    [bold]Examples[/]

      consilium index delete handbook/ new-page.md
      consilium index delete wiki/ 1204 1205
    """
    from experts.retrieval.corpus import open_corpus
    from router.cli.output import no, print_json, screen

    corpus = open_corpus(index)
    found = corpus.delete(ids)
    corpus.close()
    if json:
        print_json({"deleted": found, "asked": len(ids)})
    else:
        screen().print(f"deleted {found} of {len(ids)} documents")
    if found < len(set(ids)):
        raise no()


@app.command()
def search(
    index: Index,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    top: Annotated[int, typer.Option("--top", "-k", min=1, max=1000, help="Passages to show.")] = 5,
    provider: Annotated[
        str, typer.Option("--provider", "-p", help="hybrid, dense or lexical.", show_default="what the index has")
    ] = "",
    api_key: Key = "",
    json: Json = False,
) -> None:
    """Search an index, without a gateway.

    [bold]Examples[/]

      consilium index search handbook/ "how many days of leave"
      consilium index search wiki/ "Suva" --provider lexical --top 10 --json
    """
    import asyncio

    from rich.markup import escape

    from experts.retrieval.corpus import open_corpus
    from experts.retrieval.kinds import RetrieverParts, module
    from experts.transport import Transport
    from router.cli.output import print_json, screen
    from router.passages import passage_json

    corpus = open_corpus(index)
    kind = module(provider or ("hybrid" if corpus.embedded else "lexical"))
    encoder = _encoder_of(corpus, api_key) if getattr(kind, "USES_VECTORS", False) else None
    corpus.close()
    parts = RetrieverParts(Transport(), encoder.fingerprint if encoder else "")
    retriever = kind.build(index.name, kind.Options.model_validate({"index": str(index.resolve())}), parts)
    vector = encoder.encode([query])[0] if encoder else None

    async def found() -> list[Any]:
        try:
            return await retriever.search(query, vector, top)
        finally:
            await retriever.close()

    passages = asyncio.run(found())
    if json:
        print_json({"query": query, "passages": [passage_json(passage, text=True) for passage in passages]})
        return
    console = screen()
    for number, passage in enumerate(passages, 1):
        console.print(f"[bold]{number}. {escape(passage.title or passage.id)}[/]  {passage.id}  {passage.score:.3f}")
        console.print(escape(passage.text[:400]), soft_wrap=True)
    if not passages:
        console.print("nothing found")


@app.command()
def stats(index: Index, json: Json = False) -> None:
    """Say what an index holds: documents, passages, bytes, encoder.

    [bold]Examples[/]

      consilium index stats handbook/
      consilium index stats handbook/ --json
    """
    from experts.retrieval.corpus import open_corpus
    from experts.retrieval.nearest import manifest_of
    from router.cli.output import print_json, screen

    corpus = open_corpus(index)
    told = {**corpus.stats(), "nearest": manifest_of(corpus).get("kind", "flat") if corpus.embedded else None}
    corpus.close()
    if json:
        print_json(told)
        return
    for name, value in told.items():
        screen().print(f"{name:<11} {value}", markup=False)


def _add(corpus: Corpus, sources: list[Path], encoder: Encoder | None, piece: int, *, json: bool) -> None:
    from experts.errors import ConfigError
    from experts.retrieval.indexing import add as store
    from experts.retrieval.nearest import optimise, stale
    from experts.retrieval.reading import count, documents
    from router.cli.output import print_json, screen

    for source in sources:
        if not source.exists():
            raise ConfigError(f"{source}: there is no such file or folder")
    counts = [count(source) for source in sources]
    known = [number for number in counts if number is not None]
    total = sum(known) if len(known) == len(counts) else None
    with _progress(total, shown=not json) as told:
        done = store(corpus, (one for source in sources for one in documents(source, piece)), encoder, told)
    made = optimise(corpus) if corpus.embedded and stale(corpus) else None
    said = {"added": done.added, "unchanged": done.unchanged, "passages_added": done.pieces,
            **corpus.stats(), **({"nearest": made["kind"]} if made else {})}  # fmt: skip
    corpus.close()
    if json:
        print_json(said)
    else:
        screen().print(
            f"[green]{corpus.folder}[/]: {done.added} documents added, {done.unchanged} unchanged; "
            f"now {said['documents']} documents, {said['passages']} passages"
        )


def _encoder_of(corpus: Corpus, api_key: str) -> Encoder | None:
    from experts.retrieval.encoders import open_encoder

    known = corpus.embedded
    return open_encoder(known.model, known.runtime, url=known.url, api_key=api_key) if known else None


@contextmanager
def _progress(total: int | None, *, shown: bool) -> Iterator[Any]:
    """Told of counts, draws a bar with the time left; draws nothing for scripts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from router.cli.output import screen

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen(errors=True), disable=not shown) as bar:
        task = bar.add_task("documents", total=total)

        def told(counts: Counts) -> None:
            bar.update(task, completed=counts.seen)

        yield told
