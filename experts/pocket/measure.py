"""`python -m experts.pocket.measure`: what the base and the experts can do, measured, and kept beside the weights.

Writes `results.json` (every model on held-out questions of every skill) and `outcomes.jsonl.gz` with `models.json`
(how the five experts did on questions of the train and validation wordings: what a router learns from).
"""

import argparse
import gzip
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experts.pocket.questions import SKILLS, Question, questions, right
from experts.pocket.skills.split import Split

HERE = Path(__file__).parent
MODELS: tuple[str, ...] = ("base", *SKILLS)
SEED = 0
BARS = {"own_at_least": 0.95, "base_mean_at_most": 0.60, "others_mean_at_most": 0.40}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    words = argparse.ArgumentParser(
        prog="python -m experts.pocket.measure",
        description="Ask the base and the five experts questions of every skill (greedy, float32) and keep the scores. "
        "Held-out questions have wordings and, but for geo, values that training never saw.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    words.add_argument("--weights", type=Path, default=HERE / "weights", help="folder of the base and the adapters")
    words.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    words.add_argument("--work", type=Path, default=Path("build/pocket"), help="folder of the training's timings")
    words.add_argument("--n", type=int, default=200, help="held-out questions of each skill")
    words.add_argument("--train", type=int, default=150, help="outcomes of train wordings, of each skill")
    words.add_argument("--validation", type=int, default=60, help="outcomes of validation wordings, of each skill")
    words.add_argument("--model", action="append", choices=MODELS, help="only print these models' held-out scores")
    words.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    return words


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a line a model, and write the files."""
    chosen = parser().parse_args(arguments)
    import torch

    torch.set_num_threads(chosen.threads)
    asked = {skill: questions(skill, "test", chosen.n, SEED) for skill in SKILLS}
    splits: tuple[tuple[Split, int], ...] = (("train", chosen.train), ("validation", chosen.validation))
    learned = [question for skill in SKILLS for split, n in splits for question in questions(skill, split, n, SEED)]
    begun = time.monotonic()
    matrix: dict[str, dict[str, float]] = {}
    outcomes: dict[str, list[tuple[float, int]]] = {}
    wrong: list[dict[str, str]] = []
    for name in chosen.model or MODELS:
        model, flat = _loaded(chosen.weights, name), [question for skill in SKILLS for question in asked[skill]]
        graded = _graded(model, flat)
        matrix[name] = {
            skill: sum(score for (score, _, _), q in zip(graded, flat, strict=True) if q.skill == skill) / chosen.n
            for skill in SKILLS
        }
        wrong += [
            {"expert": name, "prompt": q.prompt, "answer": q.answer, "said": text}
            for (score, _, text), q in zip(graded, flat, strict=True)
            if not score and q.skill == name
        ]
        print(f"{name:>6}", "  ".join(f"{skill} {score:6.1%}" for skill, score in matrix[name].items()), flush=True)
        if name != "base" and not chosen.model:
            outcomes[f"pocket-{name}"] = [(score, tokens) for score, tokens, _ in _graded(model, learned)]
    if chosen.model:
        for row in wrong:
            print(json.dumps(row))
        return
    seconds = time.monotonic() - begun
    _write_results(chosen.out / "results.json", chosen, matrix, wrong, seconds)
    _write_outcomes(chosen.out, learned, outcomes)


def _loaded(weights: Path, name: str) -> Any:
    from experts.pocket.answering import load

    return load(weights, name)


def _graded(model: Any, asked: Sequence[Question]) -> list[tuple[float, int, str]]:
    from experts.pocket.answering import replies

    said = replies(model, [question.prompt for question in asked])
    return [
        (float(right(question, reply.text)), reply.tokens, reply.text)
        for question, reply in zip(asked, said, strict=True)
    ]


def summary(matrix: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The three figures that count: each expert's own score, the base's mean, each expert's mean on other skills."""
    others = {
        name: sum(score for skill, score in row.items() if skill != name) / (len(row) - 1)
        for name, row in matrix.items()
        if name != "base"
    }
    return {
        "own": {name: row[name] for name, row in matrix.items() if name != "base"},
        "base_mean": {"base": sum(matrix["base"].values()) / len(matrix["base"])},
        "others_mean": others,
    }


def _write_results(
    path: Path, chosen: argparse.Namespace, matrix: dict[str, dict[str, float]], wrong: list[Any], seconds: float
) -> None:
    timings = [chosen.work / f"{name}.timing.json" for name in MODELS]
    known: list[Any] = json.loads(path.read_text())["training"] if path.exists() else []
    training = [json.loads(file.read_text()) for file in timings if file.exists()] or known
    files = [file for file in chosen.weights.rglob("*") if file.is_file()]
    results = {
        "measured": {
            "questions_per_skill": chosen.n,
            "split": "test",
            "seed": SEED,
            "decoding": "greedy",
            "dtype": "float32",
            "seconds": round(seconds, 1),
        },
        "accuracy": matrix,
        "summary": summary(matrix),
        "bars": BARS,
        "wrong_on_own_skill": wrong,
        "training": training,
        "weights_bytes": {
            name: sum(file.stat().st_size for file in files if file.relative_to(chosen.weights).parts[0] == name)
            for name in MODELS
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "peft", "tokenizers")},
    }
    path.write_text(json.dumps(results, indent=1) + "\n")


def _write_outcomes(folder: Path, learned: list[Question], outcomes: dict[str, list[tuple[float, int]]]) -> None:
    with (folder / "outcomes.jsonl.gz").open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        for index, question in enumerate(learned):
            row = {
                "id": question.id,
                "task": question.skill,
                "split": question.split,
                "prompt": question.prompt,
                "scores": {name: graded[index][0] for name, graded in outcomes.items()},
                "tokens": {name: graded[index][1] for name, graded in outcomes.items()},
                "reference": question.answer,
            }
            packed.write(json.dumps(row).encode() + b"\n")
    models = {name: {"params_b": 0.002} for name in outcomes}
    (folder / "models.json").write_text(json.dumps(models, indent=1) + "\n")


if __name__ == "__main__":
    main()
