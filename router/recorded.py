"""What recorded answers come to, beside a table of outcomes: which experts said the same, question by question.

`responses.jsonl(.gz)` beside the outcomes holds `{id, model, response}`, whole texts; without it, an outcome's own
`answers: {expert: final answer}` are read. Answers are read and compared by the extractors that a vote uses, which
solves equations and runs code: what was found is kept on disk.
"""

from __future__ import annotations

import asyncio
import gzip
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from experts.cache import cache_root
from experts.errors import ConfigError
from router.answers import open_extractor
from router.answers._reading import Extractor, Reading, grouped
from router.answers.auto import picked
from router.confidence import flaw
from router.outcomes import Outcomes, outcomes_file, read_rows

MADE = b"1"
"""Changes with what this module makes of a text."""
ASKED_OF_A_PERSON = frozenset({"number", "boxed", "choice"})
"""Kinds that are read without running anything."""

Texts = Mapping[tuple[str, str], str]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Rows follow the outcomes. `kinds` (n,): what kind of answer each question asks for, empty where answers cannot
    be compared or none was recorded; `groups` (n, e): equal numbers said the same, -1 nothing."""

    kinds: tuple[str, ...]
    groups: Ints

    def take(self, rows: Iterable[int]) -> Recorded:
        index = [int(row) for row in rows]
        return Recorded(tuple(self.kinds[row] for row in index), self.groups[index])


def recorded_texts(path: Path) -> Texts:
    """Texts by (id, expert); empty where none were recorded. Raises ConfigError for a file that is something else."""
    folder = outcomes_file(path).parent
    for name in ("responses.jsonl.gz", "responses.jsonl"):
        file = folder / name
        if file.exists():
            return dict(_responses(file))
    found: dict[tuple[str, str], str] = {}
    for row in read_rows(path)[0]:
        answers: dict[str, Any] = row.get("answers") or {}
        found |= {(str(row["id"]), expert): f"\\boxed{{{answer}}}" for expert, answer in answers.items() if answer}
    return found


def _responses(file: Path) -> Iterable[tuple[tuple[str, str], str]]:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row: dict[str, Any] = orjson.loads(line)
                yield (str(row["id"]), str(row["model"])), str(row["response"] or "")
            except (ValueError, KeyError, TypeError) as fault:
                raise ConfigError(f"{file}:{number}: expected {{id, model, response}}, got {fault!r}") from fault


def read(
    outcomes: Outcomes, texts: Texts, *, quick: bool = False, cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Recorded:  # fmt: skip
    """Read every question's recorded answers. `quick`: no code is run, and expressions are compared as they are
    spelled. An unwritable cache costs the time, not the answer."""
    digest = blake2b(MADE + (b"q" if quick else b"w"), digest_size=16)
    for text in (*outcomes.experts, *outcomes.texts):
        digest.update(text.encode(errors="surrogatepass") + b"\0")
    for key, text in sorted(texts.items()):
        digest.update("\0".join((*key, text)).encode(errors="surrogatepass") + b"\0")
    path = (cache or cache_root() / "answers") / f"{digest.hexdigest()}.npz"
    try:
        with np.load(path, allow_pickle=False) as found:
            return Recorded(tuple(str(kind) for kind in found["kinds"]), found["groups"].astype(np.int64))
    except (OSError, ValueError, KeyError, EOFError):
        pass  # not there, or cut short: read again below
    made = asyncio.run(_read(outcomes, texts, quick, progress))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.savez(file, kinds=np.array(made.kinds, dtype=str), groups=made.groups.astype(np.int16))
        Path(file.name).replace(path)
    except OSError:
        pass  # a read-only or full disk
    return made


def flaws(outcomes: Outcomes, texts: Texts) -> NDArray[np.bool_]:
    """Which recorded answers show by themselves that they are wrong, (n, e); False where none was recorded."""
    return np.array(
        [[(key := (name, expert)) in texts and bool(flaw(texts[key])) for expert in outcomes.experts]
         for name in outcomes.ids], np.bool_,
    ).reshape(len(outcomes), len(outcomes.experts))  # fmt: skip


async def _read(outcomes: Outcomes, texts: Texts, quick: bool, progress: Callable[[int, int], None]) -> Recorded:
    extractor = open_extractor("auto", {})
    kinds, groups = list[str](), np.full((len(outcomes), len(outcomes.experts)), -1, np.int64)
    try:
        for row, (name, question) in enumerate(zip(outcomes.ids, outcomes.texts, strict=True)):
            said = [texts.get((name, expert), "") for expert in outcomes.experts]
            kind = picked(question) if any(said) else ""
            if quick and kind not in ASKED_OF_A_PERSON:
                kind = ""
            kinds.append(kind)
            if kind:
                found = await asyncio.gather(*(_one(extractor, question, text) for text in said))
                groups[row] = _spelled(found) if quick else await grouped(extractor, standing(found))
            progress(row + 1, len(outcomes))
    finally:
        await extractor.close()
    return Recorded(tuple(kinds), groups)


async def _one(extractor: Extractor, question: str, text: str) -> Reading | None:
    return await extractor.read(question, text) if text.strip() else None


def standing(readings: Iterable[Reading | None]) -> list[Reading | None]:
    """What stands after the question's own tests: where an answer passed them, those that failed say nothing."""
    found = list(readings)
    if any(one is not None and one.checked for one in found):
        return [None if one is not None and one.checked is False else one for one in found]
    return found


def _spelled(readings: Iterable[Reading | None]) -> list[int]:
    known: dict[str, int] = {}
    return [-1 if one is None else known.setdefault(one.key, len(known)) for one in readings]
