"""What fusing the pocket experts is worth: `make bench-fusion`.

    python bench/fusion.py [--n 500] [--single 100] [--json bench/fusion.json]

Greedy, float32, with transformers in this process. Questions of two skills have wordings, values and, half of them,
combinations of operations that training did not see. Keys of the JSON file that are not measured here stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

SYSTEMS = ("calc", "text", "units", "geo", "sql", "head-only", "fusionroute")
TWO_SKILLS, OF_THE_EXPERTS = 0.85, 0.90
"""The bars: right on questions of two skills, and on those of one as a share of what the experts themselves reach."""


def kept(file: Path, found: dict[str, Any]) -> None:
    """Put what was found beside what the file has already, down to the figures of each system."""
    whole: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for key, value in found.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(whole, indent=1) + "\n")
    partial.replace(file)


def measured(router: Path, tuned: Path, systems: Sequence[str], n: int, single: int) -> dict[str, Any]:
    from experts.pocket.fused import Members, measure
    from experts.pocket.questions import SKILLS
    from experts.pocket.train import WEIGHTS

    found = measure(Members.open(router, WEIGHTS, "cpu"), systems, n, single)
    accuracy, ones = found["accuracy"], found["single_skill"]
    if tuned.exists():
        alone = measure(Members.open(tuned, WEIGHTS, "cpu"), ["router"], n, single)
        accuracy["fine-tuned"], ones["fine-tuned"] = alone["accuracy"]["router"], alone["single_skill"]["router"]
    if all(skill in ones for skill in SKILLS):
        ones["experts"] = sum(ones[skill] for skill in SKILLS) / len(SKILLS)
    told = {"questions": n, "accuracy": accuracy, "single_skill": ones}
    return told | ({"kinds": found["kinds"]["fusionroute"]} if "fusionroute" in found["kinds"] else {})


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--n", type=int, default=500, help="questions of two skills (default: %(default)s)")
    words.add_argument("--single", type=int, default=100, help="questions of each single skill (default: %(default)s)")
    words.add_argument("--router", type=Path, default=ROOT / "experts/pocket/weights/fused", help="the trained router")
    words.add_argument("--tuned", type=Path, default=ROOT / "build/fused/fine-tuned",
                       help="a model trained without experts")  # fmt: skip
    words.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="measure only these")
    words.add_argument("--json", type=Path, default=ROOT / "bench/fusion.json")
    chosen = words.parse_args()
    found = measured(chosen.router, chosen.tuned, chosen.systems, chosen.n, chosen.single)
    kept(chosen.json, found)
    print(f"{'system':<14} {'two skills':>10} {'one skill':>10}")
    for system, share in found["accuracy"].items():
        ones = found["single_skill"].get(system)
        print(f"{system:<14} {share:>10.1%} {'' if ones is None else f'{ones:.1%}':>10}")
    accuracy, ones = found["accuracy"], found["single_skill"]
    if "fusionroute" in accuracy:
        two = accuracy["fusionroute"]
        print(f"two skills: {two:.1%}, bar {TWO_SKILLS:.0%}: {'passed' if two >= TWO_SKILLS else 'missed'}")
    if "fusionroute" in ones and "experts" in ones:
        ratio = ones["fusionroute"] / ones["experts"]
        print(f"one skill, of the experts' own: {ratio:.1%}, bar {OF_THE_EXPERTS:.0%}: "
              f"{'passed' if ratio >= OF_THE_EXPERTS else 'missed'}")  # fmt: skip


if __name__ == "__main__":
    main()
