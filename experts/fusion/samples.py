"""What a router is trained on: JSON lines, and the token sequences made of them.

Stage 1 has `{"prompt": "…", "completion": "…"}` a line, stage 2 `{"prompt": "…", "chosen": "…", "rejected": "…"}`. The
prompt is put into the tokenizer's chat template; an answer ends with the end-of-sequence token. With
`"given": [[start, end], …]`, spans of characters of the completion, their tokens are read and not learned: what nobody
could know, such as a made-up fact.
"""

# pyright: reportUnknownMemberType=false
# (transformers leaves parts of its signatures untyped)

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experts.errors import ConfigError

STAGES: dict[int, tuple[str, ...]] = {1: ("completion",), 2: ("chosen", "rejected")}
"""Which answers a line has, by stage."""


class Sequenced(NamedTuple):
    """A prompt with one answer: token ids, of which those from `start` on are the answer; `given`: the places in `ids`
    of answer tokens that are not learned."""

    ids: list[int]
    start: int
    given: tuple[int, ...] = ()

    @property
    def spoken(self) -> int:
        return len(self.ids) - self.start


def read(file: Path, stage: int) -> list[dict[str, Any]]:
    """The lines of a data file. Raises ConfigError naming the line that is not what the stage needs."""
    wanted = ("prompt", *STAGES[stage])
    rows: list[dict[str, Any]] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as fault:
                raise ConfigError(f"{file}:{number}: not JSON ({fault.msg})") from None
            if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in wanted):
                raise ConfigError(f"{file}:{number}: stage {stage} expects the texts {', '.join(wanted)} on each line")
            found: dict[str, Any] = row  # pyright: ignore[reportUnknownVariableType]
            rows.append(
                {key: found[key] for key in wanted} | {"given": _spans(found, f"{file}:{number}") if stage == 1 else []}
            )
    if not rows:
        raise ConfigError(f"{file}: no line in it; stage {stage} expects {', '.join(wanted)} on each")
    return rows


def _spans(row: dict[str, Any], where: str) -> list[tuple[int, int]]:
    """The `given` spans of a line, none where it has none."""
    try:
        return [(int(start), int(end)) for start, end in row.get("given", [])]
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: given: expected [[start, end], …], found {row['given']!r}") from None


def sequences(tokenizer: Any, rows: Sequence[dict[str, Any]], stage: int, longest: int) -> list[Sequenced]:
    """Every answer of every row, in order (stage 2: chosen, rejected, chosen, …).

    Raises ConfigError for a sequence of more than `longest` tokens: cutting it would teach answers without an end.
    """
    found: list[Sequenced] = []
    for number, row in enumerate(rows, 1):
        asked = [{"role": "user", "content": row["prompt"]}]
        text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        prompt: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        for key in STAGES[stage]:
            answer, given = _answer(tokenizer, row[key], row.get("given") or ())
            ids = [*prompt, *answer, int(tokenizer.eos_token_id)]
            if len(ids) > longest:
                raise ConfigError(f"sample {number}: {len(ids)} tokens, the members take {longest}; leave it out")
            found.append(Sequenced(ids, len(prompt), tuple(len(prompt) + place for place in given)))
    return found


def _answer(tokenizer: Any, text: str, given: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Token ids, and the places of those that lie in a given span."""
    if not given:
        return tokenizer(text, add_special_tokens=False)["input_ids"], []
    if not tokenizer.is_fast:
        raise ConfigError("given: this tokenizer tells no places of its tokens; leave the spans out")
    said = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    inside = [any(start < end and first < end and start < last for first, last in given)
              for start, end in said["offset_mapping"]]  # fmt: skip
    return said["input_ids"], [place for place, within in enumerate(inside) if within]
