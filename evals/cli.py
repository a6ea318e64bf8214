"""`consilium eval`: does it route well, and how would one know. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evals.routing import Progress, Settings

app = typer.Typer(
    help="Measure routing on real outcomes, compare results, and gate regressions.", no_args_is_help=True,
    rich_markup_mode="rich", pretty_exceptions_enable=False,
)  # fmt: skip

OutcomesPath = Annotated[
    Path, typer.Option("--outcomes", "-o", metavar="PATH", help="An outcome set: a file or folder, of any known shape.")
]
Shape = Annotated[str, typer.Option("--format", metavar="NAME", help="The shape of the files; auto recognises it.")]
Splits = Annotated[str, typer.Option("--fit", metavar="SPLITS", help="Splits to fit on, separated by commas.")]
Test = Annotated[str, typer.Option("--test", metavar="SPLITS", help="Splits to judge on.")]
Encoder = Annotated[str, typer.Option("--encoder", metavar="MODEL", help="The model that embeds queries.")]
Runtime = Annotated[str, typer.Option("--runtime", metavar="NAME", help="onnx-int8, onnx or torch.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads for embedding.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")]
Estimator = Annotated[
    str | None, typer.Option("--estimator", metavar="NAME[:K=V,…]", help="The estimator; default: a route's own.")
]
Policy = Annotated[str | None, typer.Option("--policy", metavar="NAME[:K=V,…]", help="The policy; likewise.")]

DEFAULT_MODEL, DEFAULT_RUNTIME = "all-MiniLM-L6-v2", "onnx-int8"


@app.command()
def routing(
    outcomes: OutcomesPath,
    fit: Splits = "train,validation",
    test: Test = "test",
    estimator: Annotated[
        list[str] | None,
        typer.Option("--estimator", metavar="NAME[:K=V,…]", help="Judge this one beside the default; repeatable."),
    ] = None,
    policy: Policy = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the baselines and the default.")] = False,
    json: JsonFile = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one page to look at.")] = None,
    shape: Shape = "auto",
    encoder: Encoder = DEFAULT_MODEL,
    runtime: Runtime = DEFAULT_RUNTIME,
    threads: Threads = 1,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Replay measured outcomes through the router, beside the baselines that hurt.

    Fits on the fit splits, decides for every test query by the gateway's own code, and looks up what the chosen
    expert had scored. Nobody is asked; task labels are never read when deciding.

    [bold]Examples[/]

      consilium eval routing --outcomes outcomes/
      consilium eval routing -o outcomes/ --quick --json report.json --html report.html
      consilium eval routing -o outcomes/ --estimator clusters --estimator ridge --policy balanced:preset=cheap
    """
    with complaints():
        from evals.report import report, write_json, write_text
        from evals.report.console import show
        from evals.routing import Settings, plugged, replay
        from router.cli.output import screen

        chosen = () if quick else None if not estimator else tuple(plugged(each) for each in estimator)
        given: dict[str, Any] = {"policy": plugged(policy)} if policy else {}
        settings = Settings(
            outcomes, shape, splits_of(fit), splits_of(test), chosen, encoder=encoder, runtime=runtime,
            threads=threads, resamples=resamples, seed=seed, **given,
        )  # fmt: skip
        with bars() as progress:
            done = replay(settings, progress)
            progress.step("judging")
            document = report(done)
        show(document, screen())
        if json is not None:
            write_json(document, json)
        if html is not None:
            from evals.report.page import page

            write_text(page(done, document), html)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A file or folder of published outcomes.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where outcomes.jsonl.gz and models.json go.")],
    shape: Shape = "auto",
) -> None:
    """Convert published outcomes to the project's format: RouterBench, LLMRouter, RouteLLM, MMLU-Pro, CSV, Parquet.

    Rows that are no outcomes are counted and named; the exit status is 1 where there are any.

    [bold]Examples[/]

      consilium eval import routerbench_0shot.parquet --out outcomes/
      consilium eval import eval_results/ --format mmlu-pro --out outcomes/
    """
    with complaints():
        from evals.outcomes import assemble
        from evals.outcomes.formats import read
        from evals.outcomes.formats.consilium import write
        from evals.report.console import problems
        from experts.errors import ConfigError
        from router.cli.output import no, screen

        loaded = read(source, shape)
        if not loaded.rows:
            raise ConfigError(f"{source}: no outcomes in it" + (f"; first: {loaded.bad[0]}" if loaded.bad else ""))
        whole = assemble(out.name, loaded)
        path = write(out, loaded)
        counts = {split: whole.outcomes.splits.count(split) for split in dict.fromkeys(whole.outcomes.splits)}
        console = screen()
        console.print(
            f"{path}: {len(whole):,} queries, {len(whole.cards)} experts, {len(set(whole.outcomes.tasks))} tasks; "
            + ", ".join(f"{split} {count:,}" for split, count in counts.items()), soft_wrap=True,
        )  # fmt: skip
        problems({"count": len(loaded.bad), "first": [str(each) for each in loaded.bad[:5]]}, console)
        if loaded.bad:
            raise no()


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="The report to hold against.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The report to judge.")],
    router: Annotated[str, typer.Option("--router", help="The row of A and of B to compare.")] = "default",
    against: Annotated[str | None, typer.Option("--against", help="Another row of A than --router.")] = None,
    allow: Annotated[float, typer.Option("--allow", min=0, help="Points of 100 that quality may fall.")] = 0.0,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples.")] = 2000,
    seed: Seed = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Say whether B is better or worse than A beyond noise. Exit status 1 when quality fell.

    Queries are paired by id; the interval is a bootstrap over queries within tasks.

    [bold]Examples[/]

      consilium eval compare main.json branch.json
      consilium eval compare report.json report.json --router default --against best-single
    """
    with complaints():
        from evals.compare import compare as judge
        from evals.compare import show
        from evals.report import read_report
        from router.cli.output import no, print_json, screen

        verdict = judge(
            read_report(before), read_report(after), router=router, against=against, allow=allow / 100,
            resamples=resamples, seed=seed,
        )  # fmt: skip
        if json:
            print_json(verdict.json())
        else:
            show(verdict, screen())
        if verdict.worse:
            raise no()


@app.command()
def onboarding(
    outcomes: OutcomesPath,
    expert: Annotated[str | None, typer.Option("--expert", help="Who is new; default: the best single one.")] = None,
    probes: Annotated[str, typer.Option("--probes", help="Numbers of outcomes to try.")] = "0,10,25,50,100,200,400",
    estimator: Estimator = None,
    policy: Policy = None,
    fit: Splits = "train,validation",
    test: Test = "test",
    json: JsonFile = None,
    shape: Shape = "auto",
    encoder: Encoder = DEFAULT_MODEL,
    runtime: Runtime = DEFAULT_RUNTIME,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Show what routing is worth when an expert joins with few outcomes, beside a full refit.

    The route is fitted without the expert, which is then added with N outcomes on probe queries chosen to tell
    experts apart, without refitting the others.

    [bold]Examples[/]

      consilium eval onboarding --outcomes outcomes/
      consilium eval onboarding -o outcomes/ --expert qwen-coder --probes 0,50,200
    """
    with complaints():
        from evals.onboarding import onboard, show
        from evals.report import write_json
        from experts.errors import ConfigError
        from router.cli.output import screen

        try:
            counts = sorted({int(part) for part in probes.split(",")})
        except ValueError as fault:
            raise ConfigError(f"--probes {probes!r}: expected whole numbers separated by commas") from fault
        settings = _settings(outcomes, shape, fit, test, encoder, runtime, threads, seed)
        with bars() as progress:
            curve = onboard(settings, *_plugs(estimator, policy), expert, counts, progress)
        show(curve, screen())
        if json is not None:
            write_json(curve.json(), json)


@app.command()
def stability(
    outcomes: OutcomesPath,
    expert: Annotated[str | None, typer.Option("--expert", help="Who is added; default: the best single one.")] = None,
    data: Annotated[bool, typer.Option("--data", help="Add new data (the second fit split), not an expert.")] = False,
    limit: Annotated[float | None, typer.Option("--limit", help="Exit 1 when more flips (percent).")] = None,
    estimator: Estimator = None,
    policy: Policy = None,
    fit: Splits = "train,validation",
    test: Test = "test",
    json: JsonFile = None,
    shape: Shape = "auto",
    encoder: Encoder = DEFAULT_MODEL,
    runtime: Runtime = DEFAULT_RUNTIME,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Measure router drift: how many frozen probe queries change expert without a predicted gain.

    The probes are the test queries; the change is an expert added, or (--data) more outcomes of the same experts.

    [bold]Examples[/]

      consilium eval stability --outcomes outcomes/
      consilium eval stability -o outcomes/ --data --limit 2
    """
    with complaints():
        from evals.report import write_json
        from evals.stability import drift, show
        from router.cli.output import no, screen

        settings = _settings(outcomes, shape, fit, test, encoder, runtime, threads, seed)
        with bars() as progress:
            found = drift(settings, *_plugs(estimator, policy), expert, data, progress)
        show(found, screen())
        if json is not None:
            write_json(found.json(), json)
        if limit is not None and 100 * found.unjustified > limit:
            raise no()


def splits_of(text: str) -> tuple[str, ...]:
    """Names separated by commas. Raises ConfigError where there is none."""
    from experts.errors import ConfigError

    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ConfigError("splits: expected at least one name, got none")
    return found


def _settings(
    outcomes: Path, shape: str, fit: str, test: str, encoder: str, runtime: str, threads: int, seed: int
) -> Settings:
    from evals.routing import Settings

    return Settings(
        outcomes,
        shape,
        splits_of(fit),
        splits_of(test),
        (),
        encoder=encoder,
        runtime=runtime,
        threads=threads,
        seed=seed,
    )


def _plugs(estimator: str | None, policy: str | None) -> tuple[Any, Any]:
    from evals.replay import default_of
    from evals.routing import plugged

    return (
        plugged(estimator) if estimator else default_of("estimator"),
        plugged(policy) if policy else default_of("policy"),
    )


@contextmanager
def complaints() -> Iterator[None]:
    """Errors as the other commands give them: one line on standard error, and the exit status that they mean."""
    from experts.errors import ConsiliumError
    from router.cli.output import complain, status_of

    try:
        yield
    except ConsiliumError as fault:
        complain(fault)
        raise typer.Exit(status_of(fault)) from fault


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress on standard error while something runs: a spinner for steps, a bar with its end in sight for texts."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from evals.routing import Progress
    from router.cli.output import screen

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    with Bars(*columns, console=screen(errors=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)

        def step(what: str) -> None:
            shown.update(task, description=what, total=None, completed=0)

        def embedding(done: int, of: int) -> None:
            shown.update(task, completed=done, total=of)

        yield Progress(embedding, step)


def mount_live() -> None:
    """The commands that ask experts, where that half is installed."""
    if find_spec("evals.live_cli") is not None:
        live: Any = import_module("evals.live_cli")
        app.command("run")(live.run)
        app.command("ope")(live.ope)


mount_live()
