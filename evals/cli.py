"""`consilium eval`: does it route well, and how would one know. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from evals import composing_cli, joining_cli, tuning_cli
from evals.cli_options import (
    DEFAULT_MODEL,
    DEFAULT_RUNTIME,
    Encoder,
    HtmlFile,
    JsonFile,
    OutcomesPath,
    Policy,
    Runtime,
    Seed,
    Shape,
    Splits,
    Test,
    Threads,
    bars,
    complaints,
    names_in,
    splits_of,
)
from evals.retrieval import cli as retrieval_cli

app = typer.Typer(
    help="Measure routing on real outcomes, compare results, and gate regressions.", no_args_is_help=True,
    rich_markup_mode="rich", pretty_exceptions_enable=False,
)  # fmt: skip


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
    lambda_: Annotated[
        float | None, typer.Option("--lambda", min=0, help="Short for --policy balanced:lambda=X, the price of cost.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the baselines and the default.")] = False,
    json: JsonFile = None,
    html: HtmlFile = None,
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
        from experts.errors import ConfigError
        from router.cli.output import screen

        if lambda_ is not None and policy:
            raise ConfigError("--lambda is short for --policy balanced:lambda=X; give one of the two")
        if lambda_ is not None:
            policy = f"balanced:lambda={lambda_}"
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
    experts: Annotated[
        str, typer.Option("--experts", metavar="A,B,…", help="Only these experts; default: every one that is found.")
    ] = "",
) -> None:
    """Convert published outcomes to the project's format: RouterBench, LLMRouter, RouteLLM, MMLU-Pro, CSV, Parquet.

    Every row that is written has a split. Rows that are no outcomes are counted and named; the exit status is 1 where
    there are any. In a table without columns score:NAME, every column of unknown name is taken for an expert.

    [bold]Examples[/]

      consilium eval import routerbench_0shot.parquet --out outcomes/
      consilium eval import eval_results/ --format mmlu-pro --out outcomes/
      consilium eval import mine.csv --experts small,large --out outcomes/
    """
    with complaints():
        from evals.outcomes import assemble
        from evals.outcomes.formats import read
        from evals.outcomes.formats.consilium import check_target, write
        from evals.report.console import problems
        from experts.errors import ConfigError
        from router.cli.output import no, screen

        check_target(out, source)
        loaded = read(source, shape, names_in(experts))
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
        for line in (f"experts: {', '.join(whole.outcomes.experts)}", *whole.notes):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
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


def mount_live() -> None:
    """The commands that ask experts, where that half is installed."""
    if find_spec("evals.live_cli") is not None:
        live: Any = import_module("evals.live_cli")
        app.command("run")(live.run)
        app.command("ope")(live.ope)


app.command("compose")(composing_cli.compose)
app.command("onboarding")(joining_cli.onboarding)
app.command("stability")(joining_cli.stability)
app.command("fleet")(tuning_cli.fleet)
app.command("tune")(tuning_cli.tune)
app.command("retrieval")(retrieval_cli.retrieval)
mount_live()
