"""`python -m experts.pocket.train`: train the base model and the adapters on the CPU.

Nothing is downloaded: the questions are generated. A killed run goes on with `--resume` and ends in the same weights.
"""

import argparse
import json
import logging
import os
from pathlib import Path

HERE = Path(__file__).parent
WEIGHTS = HERE / "weights"
PLAN: dict[str, dict[str, float]] = {
    "base": {"steps": 900, "batch": 128, "rate": 3e-3, "seed": 1},
    "calc": {"steps": 700, "batch": 96, "rate": 3e-3, "seed": 2, "rank": 64},
    "text": {"steps": 1000, "batch": 64, "rate": 3e-3, "seed": 3, "rank": 64},
    "units": {"steps": 400, "batch": 96, "rate": 3e-3, "seed": 4, "rank": 32},
    "geo": {"steps": 600, "batch": 96, "rate": 3e-3, "seed": 5, "rank": 64},
    "sql": {"steps": 900, "batch": 40, "rate": 3e-3, "seed": 6, "rank": 64},
    "geo-on": {"steps": 800, "batch": 64, "rate": 8e-4, "seed": 9, "rank": 64},
    "text-on": {"steps": 600, "batch": 64, "rate": 8e-4, "seed": 20, "rank": 64},
    "calc-on": {"steps": 600, "batch": 64, "rate": 8e-4, "seed": 21, "rank": 64},
    "units-on": {"steps": 800, "batch": 64, "rate": 8e-4, "seed": 22, "rank": 32},
    "plan": {"steps": 2500, "batch": 64, "rate": 3e-3, "seed": 7, "rank": 64},
    "plan-on": {"steps": 1000, "batch": 64, "rate": 1e-3, "seed": 8, "rank": 64},
}
"""Steps, examples a step, peak learning rate, seed and LoRA rank of each run; `NAME-on` goes on from what NAME left, an
expert's with questions of its own in answers that others began."""
ASIDE: dict[str, dict[str, float]] = {"atlas": {"steps": 900, "batch": 64, "rate": 3e-3, "seed": 8, "rank": 64}}
"""Trained only where named: what `bench/retrieval_gate.py` measures with."""


def parser() -> argparse.ArgumentParser:
    """The command line, with the plan in its help."""
    plan = "\n".join(
        f"  {name:<7} {run['steps']:>5.0f} steps of {run['batch']:>3.0f} questions, rate {run['rate']:g}, "
        f"seed {run['seed']:.0f}, {'LoRA rank ' + str(run['rank']) if 'rank' in run else 'all weights'}"
        for name, run in PLAN.items()
    )
    words = argparse.ArgumentParser(
        prog="python -m experts.pocket.train",
        description="Train the pocket experts: a character-level Llama of 1.8 million parameters, and one LoRA adapter "
        "for each skill and for planning. Two CPU cores need an hour or two for everything.",
        epilog=f"the runs:\n{plan}\n\nexamples:\n"
        "  python -m experts.pocket.train                      everything, into experts/pocket/weights\n"
        "  python -m experts.pocket.train --resume             go on after a kill\n"
        "  python -m experts.pocket.train --skill geo          one adapter, on the base that is there\n"
        "  python -m experts.pocket.train --skill geo --steps 20 --out /tmp/try   a quick look\n\n"
        "Then measure what came out: python -m experts.pocket.measure",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words.add_argument("--skill", action="append", choices=[*PLAN, *ASIDE],
                       help="what to train, repeatable; default: the runs below")  # fmt: skip
    words.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights (default: %(default)s)")
    words.add_argument("--work", type=Path, default=Path("build/pocket"),
                       help="folder of checkpoints, logs and timings (default: %(default)s)")  # fmt: skip
    words.add_argument("--resume", action="store_true", help="go on from the checkpoints in --work")
    words.add_argument("--steps", type=int, help="fewer or more steps than planned, for trying things out")
    words.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: %(default)s)")
    words.add_argument("--device", default="cpu", help="cpu, or cuda: minutes instead of hours (default: %(default)s)")
    return words


def main(arguments: list[str] | None = None) -> None:
    """Train what is asked for, in the order of `PLAN`."""
    chosen = parser().parse_args(arguments)
    import torch

    from experts.pocket import recipe

    chosen.work.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", filename=chosen.work / "train.log", force=True
    )
    torch.set_num_threads(chosen.threads)
    for name in [name for name in (PLAN | ASIDE if chosen.skill else PLAN) if name in (chosen.skill or PLAN)]:
        plan = (PLAN | ASIDE)[name] | ({"steps": chosen.steps} if chosen.steps else {})
        spent = recipe.train(name, plan, chosen.out, chosen.work, resume=chosen.resume, device=chosen.device)
        timing = {"name": name, **plan, "seconds": round(spent, 1), "threads": chosen.threads,
                  "device": chosen.device}  # fmt: skip
        (chosen.work / f"{name}.timing.json").write_text(json.dumps(timing, indent=1) + "\n")


if __name__ == "__main__":
    main()
