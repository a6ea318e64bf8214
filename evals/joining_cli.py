"""`consilium eval onboarding` and `stability`: what happens to routing when an expert, or data, come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from evals.cli_options import (
    DEFAULT_MODEL,
    DEFAULT_RUNTIME,
    Encoder,
    Estimator,
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
    settings_of,
)

if TYPE_CHECKING:
    pass


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
        settings = settings_of(outcomes, shape, fit, test, encoder, runtime, threads, seed)
        with bars() as progress:
            curve = onboard(settings, *_plugs(estimator, policy), expert, counts, progress)
        show(curve, screen())
        if json is not None:
            write_json(curve.json(), json)


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

        settings = settings_of(outcomes, shape, fit, test, encoder, runtime, threads, seed)
        with bars() as progress:
            found = drift(settings, *_plugs(estimator, policy), expert, data, progress)
        show(found, screen())
        if json is not None:
            write_json(found.json(), json)
        if limit is not None and 100 * found.unjustified > limit:
            raise no()


def _plugs(estimator: str | None, policy: str | None) -> tuple[Any, Any]:
    from evals.replay import default_of
    from evals.routing import plugged

    return (
        plugged(estimator) if estimator else default_of("estimator"),
        plugged(policy) if policy else default_of("policy"),
    )
