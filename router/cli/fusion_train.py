"""`consilium fusion train`. Nothing heavy is imported before it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from experts.errors import ConfigError


class Objective(StrEnum):
    FUSIONROUTE = "fusionroute"
    FUSED = "fused"


def train(
    router: Annotated[
        Path, typer.Option("--router", metavar="DIR", help="The model to start from, all of whose weights are trained.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="JSON lines, see above.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Gets the router, its head, and the run's state.")],
    expert: Annotated[
        list[str],
        typer.Option("--expert", metavar="NAME=DIR", help="A frozen expert: a model, or a LoRA adapter. Repeatable."),
    ],
    base: Annotated[Path | None, typer.Option("--base", metavar="DIR", help="The base of the adapters.")] = None,
    stage: Annotated[int, typer.Option("--stage", min=1, max=2, help="1 imitation, 2 preferences.")] = 1,
    objective: Annotated[
        Objective,
        typer.Option(
            "--objective", help="Stage 1: the paper's two losses side by side, or the likelihood of what is decoded."
        ),
    ] = Objective.FUSIONROUTE,
    weight: Annotated[float, typer.Option("--lambda", min=0.0, help="Weight of the routing loss.")] = 1 / 3,
    own: Annotated[float, typer.Option("--own", min=0.0, help="With fused: weight of the router's own loss.")] = 0.2,
    told: Annotated[
        float, typer.Option("--told", min=0.0, help="Stage 1: weight of the data's speakers; 0 ignores them.")
    ] = 1.0,
    beta: Annotated[float, typer.Option("--beta", min=0.0, help="Stage 2: weight of the experts' part.")] = 0.1,
    epochs: Annotated[float, typer.Option("--epochs", min=0.0, help="Passes over the data.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", help="Stop after so many steps instead.", show_default=False)] = -1,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples in memory at once, on each device.")] = 16,
    accumulate: Annotated[int, typer.Option("--accumulate", min=1, help="Batches summed to one step.")] = 1,
    rate: Annotated[float, typer.Option("--rate", min=0.0, help="Peak learning rate.")] = 1e-5,
    seed: Annotated[int, typer.Option("--seed", help="Fixes the order of the data.")] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16, weights stay float32.")] = False,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between checkpoints.")] = 200,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that prepare batches.")] = 0,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", metavar="DIR", help="Where the experts' scores are kept.", show_default="OUT/scores"),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.", show_default="all")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is in --out.")] = False,
) -> None:
    """Train the router of a fused model: at every token it picks the expert that speaks, and corrects it.

    The router is a small model with the experts' tokenizer. Stage 1 teaches it from answers, in JSON lines:

        {"prompt": "What is the capital of Peru, reversed?", "completion": "Peru, capital … Answer: amiL"}

    A line may say where it is known which expert speaks, `"speakers": [[0, 27, "geo"]]` (characters): the router learns
    to pick it there and to add nothing. Where a line names "router", it learns to speak by itself. With --lambda 0 it
    learns from that alone, and no expert need be heard.

    Stage 2 starts from stage 1's folder and teaches its corrections from preferences; whom it picks stays as it is:

        {"prompt": "…", "chosen": "…", "rejected": "…"}

    The experts are frozen; what they say about the data is computed once and kept in OUT/scores. A run that was killed
    goes on with --resume, at the last checkpoint, and ends in the same weights. A GPU is used where there is one.

    [bold]Examples[/]

      consilium fusion train --router base --expert calc=experts/calc --expert geo=experts/geo --data t.jsonl --out r
      consilium fusion train --router r --expert calc=experts/calc --expert geo=experts/geo --data pairs.jsonl \\
          --stage 2 --out r2
    """
    from experts.fusion.naming import named
    from router.cli.output import screen

    try:
        import torch

        from experts.fusion.progress import Bar
        from experts.fusion.train import Plan
        from experts.fusion.train import train as run
    except ImportError as fault:
        raise ConfigError(f"training needs more packages ({fault}): pip install 'consilium[train]'") from None
    if threads:
        torch.set_num_threads(threads)
    plan = Plan(
        router, named(expert), data, out, base, stage, objective.value, weight, own, told, beta, epochs, steps,
        batch, accumulate, rate, seed=seed, bf16=bf16, every=every, workers=workers, scores=scores,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    with Bar(out / "journal.jsonl", screen(errors=True)) as bar:
        figures = run(plan, resume=resume, bar=bar)
    shares = ", ".join(f"{name} {figures.get(f'share_{name}', 0.0):.1%}" for name in plan.experts)
    typer.echo(
        f"{out}: loss {figures.get('loss', 0.0):.4f}; routing right on "
        f"{figures.get('routing_accuracy', 0.0):.1%} of the "
        f"tokens where the experts differ\nwho spoke: {shares} (entropy {figures.get('entropy', 0.0):.2f} nats)"
    )
