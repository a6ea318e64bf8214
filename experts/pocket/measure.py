"""`python -m experts.pocket.measure`: what the base and the experts can do, measured, and kept beside the weights.

Writes `results.json` (every model on held-out questions of every skill, and on parts of questions of two skills, posed
anew in an answer that others began) and `outcomes.jsonl.gz` with `models.json` (how the five experts did on questions
of the train and validation wordings, and on sub-questions as a plan poses them: what a router learns from).
"""

import argparse
import gzip
import json
import os
import platform
import re
import time
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from experts.pocket.compound import compounds, part_questions
from experts.pocket.questions import SKILLS, Question, questions, right
from experts.pocket.skills.split import Split
from experts.pocket.train import PLAN

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
    words.add_argument(
        "--parts", type=int, default=40, help="of each skill: sub-questions of two-skill train questions"
    )
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
    posed = [*part_questions("train", chosen.parts, SEED), *part_questions("validation", chosen.parts // 3, SEED)]
    matrix: dict[str, dict[str, float]] = {}
    outcomes: dict[str, list[tuple[float, int]]] = {}
    wrong: list[dict[str, str]] = []
    company: dict[str, float] = {}
    seconds = 0.0
    for name in chosen.model or MODELS:
        flat = [question for skill in SKILLS for question in asked[skill]]
        graded, spent = _measured(chosen, name, flat if name == "base" else flat + learned)
        seconds += spent
        matrix[name] = {
            skill: sum(row.score for row, q in zip(graded, flat, strict=False) if q.skill == skill) / chosen.n
            for skill in SKILLS
        }
        wrong += [
            {"expert": name, "prompt": q.prompt, "answer": q.answer, "said": row.text}
            for row, q in zip(graded, flat, strict=False)
            if not row.score and q.skill == name
        ]
        print(f"{name:>6}", "  ".join(f"{skill} {score:6.1%}" for skill, score in matrix[name].items()), flush=True)
        if begun := _begun(name, chosen.n):
            company[name] = _in_company(chosen, name, begun)
            print(f"{'':>6} in an answer that others began {company[name]:6.1%}", flush=True)
        if name == "base" or chosen.model:
            continue
        planned, more = _measured(chosen, name, posed, "parts")
        seconds += more
        outcomes[f"pocket-{name}"] = [(row.score, row.tokens) for row in [*graded[len(flat) :], *planned]]
    if chosen.model:
        for row in wrong:
            print(json.dumps(row))
        return
    _write_results(chosen.out / "results.json", chosen, matrix, company, wrong, seconds)
    _write_outcomes(chosen.out, learned + posed, outcomes)


class Grade(NamedTuple):
    """What one answer was worth (0 or 1), its length in tokens, and its text."""

    score: float
    tokens: int
    text: str


def _measured(
    chosen: argparse.Namespace, name: str, asked: Sequence[Question], group: str = "measured"
) -> tuple[list[Grade], float]:
    """The grades of a model on a group of questions, and the seconds they took; kept in `--work` until its weights or
    the questions change."""
    mark = sha256(repr([(question.prompt, question.answer) for question in asked]).encode())
    for part in sorted({"base", name}):
        for file in sorted((chosen.weights / part).glob("*.safetensors")):
            mark.update(file.read_bytes())
    kept = chosen.work / f"{name}.{group}.json"
    if kept.exists() and (known := json.loads(kept.read_text()))["mark"] == mark.hexdigest():
        return [Grade(*row) for row in known["grades"]], known["seconds"]
    from experts.pocket.answering import load, replies

    begun = time.monotonic()
    said = replies(load(chosen.weights, name), [question.prompt for question in asked])
    grades = [
        Grade(float(right(q, reply.text)), reply.tokens, reply.text) for q, reply in zip(asked, said, strict=True)
    ]
    spent = time.monotonic() - begun
    chosen.work.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"mark": mark.hexdigest(), "seconds": spent, "grades": grades}))
    return grades, spent


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


class Begun(NamedTuple):
    """A question of two skills, its answer up to and with one part posed anew, and what is right for that part."""

    prompt: str
    begun: str
    answer: str


def _begun(skill: str, n: int) -> list[Begun]:
    """The parts of this skill in the first n held-out questions of two skills."""
    found: list[Begun] = []
    for asked in compounds("test", n, SEED):
        before = ""
        for part in asked.parts:
            before += f"{part.prompt}\n"
            if part.skill == skill:
                found.append(Begun(asked.prompt, before, part.answer))
            before += f"{part.worked}\n"
    return found


def _in_company(chosen: argparse.Namespace, name: str, asked: Sequence[Begun]) -> float:
    """The share that the expert answers right as the first thing that it says."""
    from experts.pocket.answering import load, replies

    said = replies(load(chosen.weights, name), [one.prompt for one in asked], begun=[one.begun for one in asked])
    first = [re.search(r"^Answer: (.*)$", reply.text, re.MULTILINE) for reply in said]
    return sum(match is not None and match[1] == one.answer for match, one in zip(first, asked, strict=True)) / len(
        asked
    )


def _write_results(
    path: Path,
    chosen: argparse.Namespace,
    matrix: dict[str, dict[str, float]],
    company: dict[str, float],
    wrong: list[Any],
    seconds: float,
) -> None:
    before: list[dict[str, Any]] = json.loads(path.read_text())["training"] if path.exists() else []
    timings = [chosen.work / f"{name}.timing.json" for name in PLAN]
    timed: list[dict[str, Any]] = [json.loads(file.read_text()) for file in timings if file.exists()]
    runs = {row["name"]: row for row in [*before, *timed]}
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
        "in_company": company,
        "summary": summary(matrix),
        "bars": BARS,
        "wrong_on_own_skill": wrong,
        "training": [runs[name] for name in PLAN if name in runs],
        "weights_bytes": {
            name: sum(file.stat().st_size for file in files if file.relative_to(chosen.weights).parts[0] == name)
            for name in MODELS
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "peft", "tokenizers")},
    }
    path.write_text(json.dumps(results, indent=1) + "\n")


def _write_outcomes(folder: Path, learned: list[Question], outcomes: dict[str, list[tuple[float, int]]]) -> None:
    write_rows(
        folder / "outcomes.jsonl.gz",
        [
            {
                "id": question.id,
                "task": question.skill,
                "split": question.split,
                "prompt": question.prompt,
                "scores": {name: graded[index][0] for name, graded in outcomes.items()},
                "tokens": {name: graded[index][1] for name, graded in outcomes.items()},
                "reference": question.answer,
            }
            for index, question in enumerate(learned)
        ],
    )
    models = {name: {"params_b": 0.002} for name in outcomes}
    (folder / "models.json").write_text(json.dumps(models, indent=1) + "\n")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Outcomes, a line each; the same rows make the same file."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        for row in rows:
            packed.write(json.dumps(row).encode() + b"\n")


if __name__ == "__main__":
    main()
