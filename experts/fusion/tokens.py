"""Whether two models have one tokenizer: only then can their token probabilities be added."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from experts.errors import ConfigError


def definition(folder: Path) -> dict[str, Any]:
    """What `tokenizer.json` says, without what does not change tokens. Raises ConfigError where there is none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ConfigError(
            f"{folder}: no tokenizer.json; fusion compares tokenizers in that form "
            "(AutoTokenizer.from_pretrained(…).save_pretrained(…) writes it for a fast tokenizer)"
        )
    said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in said.items() if key not in ("version", "truncation", "padding")}


def vocabulary(folder: Path) -> dict[str, int]:
    """Every token with its id, the added ones included."""
    from tokenizers import Tokenizer

    definition(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)


def fingerprint(folder: Path) -> str:
    """Equal for two folders exactly when their tokenizers make the same ids of every text."""
    said = definition(folder)
    said["vocabulary"] = sorted(vocabulary(folder).items())
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def differences(one: Path, other: Path, most: int = 8) -> str:
    """In what two tokenizers differ, in words, naming tokens; empty where they do not."""
    if fingerprint(one) == fingerprint(other):
        return ""
    here, there = vocabulary(one), vocabulary(other)
    tokens = sorted((token for token in here.keys() | there.keys() if here.get(token) != there.get(token)),
                    key=lambda token: (here.get(token, len(here)), token))  # fmt: skip
    if not tokens:
        parts = definition(one), definition(other)
        names = [key for key in sorted(parts[0].keys() | parts[1].keys()) if parts[0].get(key) != parts[1].get(key)]
        return f"the tokens are the same, but not their {', '.join(names)}"

    def place(vocabulary: dict[str, int], token: str) -> str:
        return f"id {vocabulary[token]}" if token in vocabulary else "absent"

    named = ", ".join(f"{token!r} ({place(here, token)} / {place(there, token)})" for token in tokens[:most])
    more = f" and {len(tokens) - most} more" if len(tokens) > most else ""
    return f"{len(tokens)} tokens differ: {named}{more}"
