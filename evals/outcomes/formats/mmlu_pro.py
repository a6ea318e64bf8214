"""`mmlu-pro`: MMLU-Pro's published model outputs, one archive or folder a model.

`eval_results/model_outputs_MODEL_5shots.zip`, each with JSON lists of `{question_id, question, options, answer,
category, model_outputs or pred}`, also unpacked: `MODEL/*_result.json` or `model_outputs_MODEL_5shots.json`. An answer
is scored by `pred` where there is one, else by the letter that the published rules find in the text; one that has none
counts as wrong (the published script guesses at random). A question is kept with whatever models answered it.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from evals.outcomes.loaded import Loaded, Row, read_models
from experts.errors import ConfigError

ANSWER = (
    re.compile(r"answer is \(?([A-J])\)?"),
    re.compile(r".*[aA]nswer:\s*([A-J])"),
    re.compile(r"([A-J])(?=[^A-J]*$)"),
)
LETTERS = "ABCDEFGHIJ"


def recognises(path: Path) -> bool:
    if path.is_file():
        return path.name.startswith("model_outputs_") and path.suffix in (".zip", ".json")
    return (
        any(path.glob("model_outputs_*.zip"))
        or any(path.glob("*/*_result.json"))
        or any(path.glob("model_outputs_*.json"))
    )


def read(path: Path, experts: Sequence[str] = ()) -> Loaded:
    table: dict[str, Row] = {}
    begun: list[tuple[str, int]] = []
    loaded = Loaded(models=read_models((path if path.is_dir() else path.parent) / "models.json"))
    empty = True
    for source, expert, raw in _parts(path):
        empty = False
        try:
            entries = orjson.loads(raw)
        except ValueError as fault:
            loaded.refuse(source, 0, f"not JSON: {fault}")
            continue
        if not isinstance(entries, list):
            continue  # a summary beside the results
        for number, entry in enumerate(cast(list[Any], entries), 1):
            try:
                _take(table, expert, entry)
            except (KeyError, TypeError, ValueError) as fault:
                what = f"{fault.args[0]}: missing" if isinstance(fault, KeyError) else str(fault)
                loaded.refuse(source, number, what)
            if len(table) > len(begun):
                begun.append((source, number))
    if empty:
        raise ConfigError(f"{path}: expected MMLU-Pro's model_outputs_*.zip or MODEL/*_result.json, found none")
    for (source, number), row in zip(begun, table.values(), strict=True):
        loaded.keep(source, number, row)
    return loaded


def _take(table: dict[str, Row], expert: str, entry: dict[str, Any]) -> None:
    key, options = str(entry["question_id"]), cast(list[str], entry["options"])
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    row = table.setdefault(key, {
        "id": f"mmlu_pro/{key}", "task": str(entry.get("category") or ""), "prompt": f"{entry['question']}\n{listed}",
        "scores": {}, "response_chars": {}, "reference": entry["answer"],
    })  # fmt: skip
    if expert in row["scores"]:
        raise ValueError(f"question {key} answered twice by {expert}")
    said = entry.get("model_outputs") or entry.get("generated_text") or ""
    said = said if isinstance(said, str) else "\n".join(map(str, said))
    predicted = entry.get("pred") if "pred" in entry else answer_in(said)
    row["scores"][expert] = float(predicted == entry["answer"])
    if said:
        row["response_chars"][expert] = len(said)


def answer_in(text: str) -> str | None:
    """The letter that a text gives as its answer, None where it gives none."""
    for pattern in ANSWER:
        if found := pattern.search(text):
            return found.group(1)
    return None


def _parts(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Every JSON file with the model that it is about."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in files:
        if file.suffix == ".zip" and file.name.startswith("model_outputs_"):
            try:
                with zipfile.ZipFile(file) as archive:
                    for name in sorted(archive.namelist()):
                        if name.endswith(".json") and "__MACOSX" not in name:
                            yield f"{file}:{name}", _model(file.stem), archive.read(name)
            except (zipfile.BadZipFile, zlib.error, EOFError) as fault:
                raise ConfigError(f"{file}: not a whole zip archive: {fault}") from fault
        elif file.name.startswith("model_outputs_") and file.suffix == ".json":
            yield str(file), _model(file.stem), file.read_bytes()
        elif file.name.endswith("_result.json"):
            yield str(file), file.parent.name, file.read_bytes()


def _model(stem: str) -> str:
    return re.sub(r"_\d+shots?$", "", stem.removeprefix("model_outputs_"))
