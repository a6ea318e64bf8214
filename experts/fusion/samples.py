"""What a router is trained on: JSON lines, and the token sequences made of them.

Stage 1 has `{"prompt": "…", "completion": "…"}` a line, stage 2 `{"prompt": "…", "chosen": "…", "rejected": "…"}`. The
prompt is put into the tokenizer's chat template; an answer ends with the end-of-sequence token. With
`"given": [[start, end], …]`, spans of characters of the completion, their tokens are read and not learned: what nobody
could know, such as a made-up fact. With `"speakers": [[start, end, "name"], …]`, that expert speaks the span alone: the
router learns to pick it and to add nothing; `"router"` speaks by itself. A span that reaches the end of the answer has
the end-of-sequence token too.
"""

# pyright: reportUnknownMemberType=false
# (transformers leaves parts of its signatures untyped)

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experts.errors import ConfigError
from experts.fusion.naming import ROUTER

STAGES: dict[int, tuple[str, ...]] = {1: ("completion",), 2: ("chosen", "rejected")}
"""Which answers a line has, by stage."""


class Sequenced(NamedTuple):
    """A prompt with one answer: token ids, of which those from `start` on are the answer; `given`: the places in `ids`
    of answer tokens that are not learned; `speakers`: places, each with the index of the expert that speaks there, the
    number of experts where the router does."""

    ids: list[int]
    start: int
    given: tuple[int, ...] = ()
    speakers: tuple[tuple[int, int], ...] = ()

    @property
    def spoken(self) -> int:
        return len(self.ids) - self.start

    def stretches(self) -> list[tuple[int, int, int]]:
        """`speakers` in order, each with the token that ends the stretch; of two that share a place, the last."""
        found: list[tuple[int, int, int]] = []
        close = after = -1
        for place, expert in sorted(dict(self.speakers).items(), reverse=True):
            if not found or after != place + 1 or found[-1][1] != expert:
                close = self.ids[place]
            found.append((place, expert, close))
            after = place
        return found[::-1]


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
            rows.append({key: found[key] for key in wanted} | (_spans(found, f"{file}:{number}") if stage == 1 else {}))
    if not rows:
        raise ConfigError(f"{file}: no line in it; stage {stage} expects {', '.join(wanted)} on each")
    return rows


def _spans(row: dict[str, Any], where: str) -> dict[str, list[Any]]:
    """The `given` and `speakers` spans of a line, none where it has none."""
    found: dict[str, list[Any]] = {}
    for key, expected in (("given", "[[start, end], …]"), ("speakers", '[[start, end, "expert"], …]')):
        try:
            found[key] = [(int(start), int(end), *map(_name, names)) for start, end, *names in row.get(key, [])]
            if any(len(span) != (2 if key == "given" else 3) for span in found[key]):
                raise ValueError
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: {key}: expected {expected}, found {row[key]!r}") from None
    return found


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def sequences(
    tokenizer: Any, rows: Sequence[dict[str, Any]], stage: int, longest: int, experts: Sequence[str] = ()
) -> list[Sequenced]:
    """Every answer of every row, in order (stage 2: chosen, rejected, chosen, …). `experts`: their names, in the order
    of the routing head's rows.

    Raises ConfigError for a sequence of more than `longest` tokens, as cutting it would teach answers without an end,
    and for a speaker that is neither an expert nor the router.
    """
    voices = [*experts, ROUTER]
    found: list[Sequenced] = []
    for number, row in enumerate(rows, 1):
        asked = [{"role": "user", "content": row["prompt"]}]
        text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        prompt: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        spans: list[tuple[int, int, str]] = row.get("speakers") or []
        unknown = sorted({name for _, _, name in spans} - set(voices))
        if unknown:
            raise ConfigError(
                f"sample {number}: speakers: {', '.join(unknown)}: expected one of the experts {', '.join(experts)}, "
                f"or {ROUTER}"
            )
        for key in STAGES[stage]:
            answer, places = _answer(tokenizer, row[key], bool(spans or row.get("given")))
            ids = [*prompt, *answer, int(tokenizer.eos_token_id)]
            if len(ids) > longest:
                raise ConfigError(f"sample {number}: {len(ids)} tokens, the members take {longest}; leave it out")
            given = _inside(places, row.get("given") or ())
            speakers = [
                (place, voices.index(name))
                for start, end, name in spans
                for place in [*_inside(places, [(start, end)]), *([len(answer)] if end >= len(row[key]) else [])]
            ]
            found.append(
                Sequenced(
                    ids,
                    len(prompt),
                    tuple(len(prompt) + place for place in given),
                    tuple((len(prompt) + place, expert) for place, expert in speakers),
                )
            )
    return found


def closing(sequences: Sequence[Sequenced], vocabulary: int, experts: int) -> torch.Tensor:
    """int8 (vocabulary,): 1 for tokens that end an expert's stretch, 2 for those of them that never stand inside."""
    ends: set[int] = set()
    inside: set[int] = set()
    for sequence in sequences:
        stretches = sequence.stretches()
        for here, after in zip(stretches, [*stretches[1:], (-1, -1, -1)], strict=False):
            if here[1] < experts:
                goes_on = after[:2] == (here[0] + 1, here[1])
                (inside if goes_on else ends).add(sequence.ids[here[0]])
    found = torch.zeros(vocabulary, dtype=torch.int8)
    found[sorted(ends)] = 1
    found[sorted(ends - inside)] = 2
    return found


def _answer(tokenizer: Any, text: str, placed: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids, and, where `placed`, the characters that each stands for."""
    if not placed:
        return tokenizer(text, add_special_tokens=False)["input_ids"], []
    if not tokenizer.is_fast:
        raise ConfigError("given, speakers: this tokenizer tells no places of its tokens; leave the spans out")
    said = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return said["input_ids"], said["offset_mapping"]


def _inside(places: Sequence[tuple[int, int]], spans: Sequence[Sequence[int]]) -> list[int]:
    """Which tokens have a character in one of the spans."""
    return [
        index
        for index, (start, end) in enumerate(places)
        if any(start < end and first < end and start < last for first, last in spans)
    ]
