"""Fit the threshold at which a `span` relay hands over, on outcomes with log-probabilities.

    python -m router.relay.threshold outcomes.jsonl [--json]

A line of the file is one question: `{"confidence": c, "primary": x, "other": y}`, where c is the least confidence of a
token in the primary's own answer (`consilium.compose.least_confidence` of a relay with `threshold: 0`, or exp of the
least log-probability of an answer), and x and y are the scores, 0 to 1, of the primary's and of the other's answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experts.errors import ConfigError


class Row(NamedTuple):
    confidence: float
    primary: float
    other: float


class Fitted(NamedTuple):
    """`score`: the mean where answers below `threshold` are the other's; `alone`: where none; `handed`: the share."""

    threshold: float
    score: float
    alone: float
    handed: float


def fit(rows: Sequence[Row]) -> Fitted:
    """The lowest threshold whose score is within one standard error of the best one's: hand-overs cost time, and must
    show that they pay. 0 (never hand over) where they do not. Raises ConfigError for no rows."""
    if not rows:
        raise ConfigError("the threshold of a relay: expected at least one outcome, got none")
    sure, primary, other = (np.array(column, float) for column in zip(*rows, strict=True))
    steps = [0.0, *sorted({float(np.nextafter(value, 2.0)) for value in sure})]
    gains = [np.where(sure < step, other - primary, 0.0) for step in steps]
    means = np.array([gain.mean() for gain in gains])
    best = int(means.argmax())
    error = gains[best].std() / len(rows) ** 0.5
    place = int(np.flatnonzero(means >= max(means[best] - error, 0.0))[0]) if means[best] > error else 0
    step = min(steps[place], 1.0)
    alone = float(primary.mean())
    return Fitted(step, alone + float(means[place]), alone, float((sure < steps[place]).mean()))


def read_rows(lines: Iterable[str], name: str) -> list[Row]:
    """Raises ConfigError naming the line that is wrong."""
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            rows.append(Row(float(found["confidence"]), float(found["primary"]), float(found["other"])))
        except (ValueError, KeyError, TypeError) as fault:
            raise ConfigError(
                f'{name}:{number}: expected {{"confidence": …, "primary": …, "other": …}}, all numbers ({fault!r})'
            ) from None
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    try:
        with asked.outcomes.open() as lines:
            found = fit(read_rows(lines, str(asked.outcomes)))
    except (ConfigError, OSError) as fault:
        sys.exit(str(fault))
    if asked.json:
        print(json.dumps(found._asdict()))
        return
    print(f"threshold: {found.threshold:.4g}")
    print(f"score {found.score:.3f}, the primary alone {found.alone:.3f}; {found.handed:.1%} handed over")


if __name__ == "__main__":
    main()
