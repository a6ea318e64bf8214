"""`consilium eval fleet` and `tune`: numbers that depend on what one can pay, chosen on measured outcomes."""

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
    Runtime,
    Seed,
    Shape,
    Splits,
    Test,
    Threads,
    bars,
    complaints,
    settings_of,
    splits_of,
)

if TYPE_CHECKING:
    from evals.tuning import Tuned


def fleet(
    outcomes: OutcomesPath,
    budget: Annotated[float, typer.Option("--budget", min=0, help="What all kept experts may cost together.")],
    price: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="NAME=NUMBER", help="What keeping one costs, if not its size; repeatable."),
    ] = None,
    fit: Splits = "train,validation",
    test: Test = "test",
    json: JsonFile = None,
    shape: Shape = "auto",
) -> None:
    """Choose which experts to keep within a budget: billions of parameters, or dollars an hour given by --price.

    [bold]Examples[/]

      consilium eval fleet --outcomes outcomes/ --budget 40
      consilium eval fleet -o outcomes/ --budget 3.5 --price small=0.5 --price large=3
    """
    with complaints():
        from evals.report import write_json
        from evals.routing import Settings
        from evals.tuning import fleet as choose
        from router.cli.output import screen

        found = choose(Settings(outcomes, shape, splits_of(fit), splits_of(test)), budget, _numbers(price or []))
        console = screen()
        console.print(f"[bold]{found.dataset}[/]: keep {', '.join(found.kept)} ({found.price:g} of {found.budget:g})")
        for task, expert in found.serves.items():
            console.print(f"  {task}: {expert}", style="dim", markup=False)
        console.print(
            f"quality {100 * found.quality:.2f} with each task sent to its expert; best single expert "
            f"{100 * found.best_single:.2f}; everybody kept {100 * found.everybody:.2f}", soft_wrap=True,
        )  # fmt: skip
        if json is not None:
            write_json(found.json(), json)


def tune(
    outcomes: OutcomesPath,
    share: Annotated[float | None, typer.Option("--share", min=0, max=1, help="Share of strong calls.")] = None,
    strong: Annotated[str | None, typer.Option("--strong", metavar="EXPERT", help="With --share.")] = None,
    weak: Annotated[str | None, typer.Option("--weak", metavar="EXPERT", help="With --share.")] = None,
    cost: Annotated[float | None, typer.Option("--cost", min=0, help="Mean cost of a query, in its unit.")] = None,
    traffic: Annotated[
        str, typer.Option("--traffic", metavar="SPLITS", help="Queries to tune on; scores unread.")
    ] = "validation",
    estimator: Estimator = None,
    fit: Splits = "train",
    test: Test = "test",
    json: JsonFile = None,
    shape: Shape = "auto",
    encoder: Encoder = DEFAULT_MODEL,
    runtime: Runtime = DEFAULT_RUNTIME,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Find a policy's number: the threshold for a share of strong calls, or the price of money for a mean cost.

    Prints the line for a route's manifest, and what it does on the test split.

    [bold]Examples[/]

      consilium eval tune --outcomes outcomes/ --share 0.3 --strong gpt-4 --weak mixtral
      consilium eval tune --outcomes outcomes/ --cost 0.002
    """
    with complaints():
        from evals.replay import default_of
        from evals.report import write_json
        from evals.routing import plugged
        from evals.tuning import budget, threshold
        from experts.errors import ConfigError

        settings = settings_of(outcomes, shape, fit, test, encoder, runtime, threads, seed)
        plug = plugged(estimator) if estimator else default_of("estimator")
        with bars() as progress:
            match share, strong, weak, cost:
                case float(), str(), str(), None:
                    found = threshold(settings, splits_of(traffic), share, strong, weak, plug, progress)
                case None, None, None, float():
                    found = budget(settings, splits_of(traffic), cost, plug, progress)
                case _:
                    raise ConfigError("tune: expected --share with --strong and --weak, or --cost")
        _show(found)
        if json is not None:
            write_json(found.json(), json)


def _show(found: Tuned) -> None:
    from router.cli.output import screen

    console = screen()
    options = ", ".join(f"{name}: {value}" for name, value in found.policy.items())
    console.print(f"policy: {{{options}}}", markup=False, soft_wrap=True)
    if found.policy["name"] == "budget" and found.cost_unit != "usd":
        console.print(
            f"this price is per unit of {found.cost_unit}, for replays of this set only: a gateway's prices are in "
            "USD; give usd_per_million in models.json to tune one for it", style="yellow", soft_wrap=True,
        )  # fmt: skip
    calls = ", ".join(f"{name} {100 * part:.1f} %" for name, part in found.shares.items() if part)
    console.print(
        f"{found.dataset}: asked for {found.aim:g}, on test {found.reached:.4g}; quality {100 * found.quality:.2f}, "
        f"mean cost {found.cost:.4g} ({found.cost_unit}); {calls}", style="dim", soft_wrap=True,
    )  # fmt: skip


def _numbers(given: list[str]) -> dict[str, float]:
    from experts.errors import ConfigError

    found: dict[str, Any] = {}
    for each in given:
        name, _, number = each.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError as fault:
            raise ConfigError(f"--price {each!r}: expected NAME=NUMBER") from fault
    return found
