"""The fused pocket model: what its router is trained on, and what it is measured with.

python -m experts.pocket.fused data --out build/fused        writes build/fused/train.jsonl and says how to train
python -m experts.pocket.fused settle --router DIR           when the router speaks itself, by validation questions
python -m experts.pocket.fused pairs --router DIR --out …    preferences for stage 2, of what the router gets wrong
python -m experts.pocket.fused measure --router DIR          accuracy on held-out questions, as JSON
python -m experts.pocket.fused outcomes                      what a router of queries learns of it: outcomes.jsonl.gz
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers leave parts of their signatures untyped)

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from experts.errors import ConfigError
from experts.fusion.naming import ROUTER
from experts.pocket import compound, questions
from experts.pocket.lessons import by_itself, shared
from experts.pocket.measure import HERE, write_rows
from experts.pocket.questions import SKILLS, final_answer, right
from experts.pocket.skills.split import Split
from experts.pocket.train import WEIGHTS
from experts.pocket.vocabulary import END, IDS, PAD, decode, dialogue

SINGLE = 0.4
"""Share of the training questions that need one skill only."""
LONGEST = 400
"""Most characters of an answer."""
SEED = 0


def lessons(n: int, seed: int = 1) -> list[dict[str, Any]]:
    """Training questions with worked answers and who speaks where: of two skills, and `SINGLE` of one."""
    rng = Random(f"fused {seed}")
    rows: list[dict[str, Any]] = []
    for _ in range(n):
        if rng.random() < SINGLE:
            one = by_itself(rng)
            speakers = [(0, len(one.worked), one.skill)]
            rows.append({"prompt": one.prompt, "completion": one.worked, "speakers": speakers})
        else:
            both, given = shared(rng)
            rows.append(
                {"prompt": both.prompt, "completion": both.worked, "speakers": turns(both)}
                | ({"given": given} if given else {})
            )
    return rows


def turns(asked: compound.Compound) -> list[tuple[int, int, str]]:
    """Who speaks where in the worked answer: an expert its part and the line break that hands over, the router the
    rest; a part that is made up is nobody's."""
    spans: list[tuple[int, int, str]] = []
    before = 0
    for start, end, skill in asked.speakers:
        spans.append((before, start, ROUTER))
        before = min(end + 1, len(asked.worked)) if skill in SKILLS else end
        spans.append((start, before, skill))
    spans.append((before, len(asked.worked), ROUTER))
    return [span for span in spans if span[0] < span[1] and span[2] in (*SKILLS, ROUTER)]


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    partial.replace(file)


@dataclass(frozen=True, slots=True)
class Members:
    """The router and the experts, on one device."""

    router: Any
    experts: list[Any]

    @classmethod
    def open(cls, router: Path, weights: Path, device: str) -> Members:
        from experts.fusion import members

        found = [members.load(weights / skill, weights / "base").to(device).eval() for skill in SKILLS]
        return cls(members.open_router(router, len(SKILLS), weights / "base").to(device).eval(), found)

    def answers(self, prompts: Sequence[str], mode: str) -> list[str]:
        """What a system says: `fusionroute`, `head-only`, `router` (alone), or a skill (that expert alone)."""
        from experts.fusion import decoding

        if mode not in ("fusionroute", "head-only"):
            return alone(self.router if mode == "router" else self.experts[SKILLS.index(mode)], prompts)
        asked = [dialogue(prompt.strip())[0] for prompt in prompts]
        found = decoding.texts(
            self.router, self.experts, asked, end=IDS[END], pad=IDS[PAD], longest=LONGEST,
            mode="fusionroute" if mode == "fusionroute" else "head-only",
            batch=128 if self.router.device.type == "cpu" else 512,
        )  # fmt: skip
        return [decode(text.ids) for text in found]


def alone(model: Any, prompts: Sequence[str]) -> list[str]:
    """The greedy answers of one model."""
    from experts.pocket.answering import replies

    return [reply.text for reply in replies(model, prompts, longest=LONGEST)]


def measure(members: Members, modes: Sequence[str], n: int, single: int) -> dict[str, Any]:
    """`accuracy` on n held-out questions of two skills and `single_skill` on `single` of each skill, by system.

    `query-routing` picks, for each question, an expert that answers it right where there is one.
    """
    asked = compound.compounds("test", n, SEED)
    ones = [one for skill in SKILLS for one in questions.questions(skill, "test", single, SEED)] if single else []
    hits: dict[str, list[bool]] = {}
    accuracy: dict[str, float] = {}
    single_skill: dict[str, float] = {}
    by_kind: dict[str, dict[str, float]] = {}
    wrong: dict[str, list[dict[str, str]]] = {}
    for mode in modes:
        texts = members.answers([one.prompt for one in asked], mode)
        hits[mode] = [final_answer(text) == one.answer for one, text in zip(asked, texts, strict=True)]
        accuracy[mode] = sum(hits[mode]) / n
        by_kind[mode] = kinds(asked, hits[mode])
        wrong[mode] = [{"prompt": one.prompt, "combination": one.combination, "answer": one.answer, "text": text}
                       for one, text, hit in zip(asked, texts, hits[mode], strict=True) if not hit][:40]  # fmt: skip
        if ones:
            own = [one for one in ones if mode not in SKILLS or one.skill == mode]
            texts = members.answers([one.prompt for one in own], mode)
            scored = [right(one, text) for one, text in zip(own, texts, strict=True)]
            single_skill[mode] = sum(scored) / len(own)
    if all(skill in hits for skill in SKILLS):
        accuracy["query-routing"] = sum(any(found) for found in zip(*(hits[s] for s in SKILLS), strict=True)) / n
    return {"questions": n, "accuracy": accuracy, "single_skill": single_skill, "kinds": by_kind, "wrong": wrong}


def kinds(asked: Sequence[compound.Compound], hits: Sequence[bool]) -> dict[str, float]:
    """The share of right answers, of combinations that training has and of those that it has not."""
    return {
        kind: sum(hit for one, hit in zip(asked, hits, strict=True) if one.novel == novel)
        / max(1, sum(one.novel == novel for one in asked))
        for kind, novel in (("known combinations", False), ("novel combinations", True))
    }


def pairs(members: Members, n: int, seed: int) -> list[dict[str, Any]]:
    """Preferences for stage 2: worked answers of training questions over what the fused model says instead."""
    rows = lessons(n, seed)
    texts = members.answers([row["prompt"] for row in rows], "fusionroute")
    return [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": text}
            for row, text in zip(rows, texts, strict=True) if text != row["completion"]]  # fmt: skip


def outcomes(members: Members, file: Path) -> None:
    """Adds to the outcomes of `experts.pocket.measure`: the fused model on some of the questions of one skill that the
    experts were asked, and all six on questions of two skills, of training and validation wordings."""
    splits: tuple[tuple[Split, int, int], ...] = (("train", 30, 120), ("validation", 10, 40))
    ones = [one for skill in SKILLS for split, n, _ in splits for one in questions.questions(skill, split, n, SEED)]
    both = [one for split, _, n in splits for one in compound.compounds(split, n, SEED)]
    said = members.answers([one.prompt for one in (*ones, *both)], "fusionroute")
    texts = {f"pocket-{skill}": members.answers([one.prompt for one in both], skill) for skill in SKILLS}
    texts["pocket-fused"] = said[len(ones) :]
    with gzip.open(file, "rt") as lines:
        rows = {row["id"]: row for row in map(json.loads, lines) if row["task"] != "two skills"}
    for row in rows.values():
        row["scores"].pop("pocket-fused", None)
        row["tokens"].pop("pocket-fused", None)
    for one, text in zip(ones, said, strict=False):
        rows[one.id]["scores"]["pocket-fused"] = float(right(one, text))
        rows[one.id]["tokens"]["pocket-fused"] = len(text) + 1
    for place, one in enumerate(both):
        rows[one.id] = {
            "id": one.id, "task": "two skills", "split": one.split, "prompt": one.prompt,
            "scores": {name: float(final_answer(found[place]) == one.answer) for name, found in texts.items()},
            "tokens": {name: len(found[place]) + 1 for name, found in texts.items()},
            "reference": one.answer,
        }  # fmt: skip
    write_rows(file, rows.values())
    models = file.with_name("models.json")
    known: dict[str, Any] = json.loads(models.read_text()) | {"pocket-fused": {"params_b": 0.008}}
    models.write_text(json.dumps(known, indent=1) + "\n")


def train(chosen: argparse.Namespace) -> None:
    """One run of the trainer; the router in float16, with its head, goes to `OUT/NAME/`."""
    from rich.console import Console

    from experts.fusion import train as training
    from experts.fusion.progress import Bar

    out = chosen.out / chosen.objective
    out.mkdir(parents=True, exist_ok=True)
    plan = training.Plan(
        chosen.router, {skill: chosen.weights / skill for skill in SKILLS}, chosen.out / "train.jsonl", out,
        base=chosen.weights / "base", objective="fused" if chosen.objective == "fused" else "fusionroute",
        weight=0.0 if chosen.objective in ("told", "fine-tuned") else 1 / 3,
        told=0.0 if chosen.objective == "fine-tuned" else 1.0, steps=chosen.steps, batch=chosen.batch,
        rate=chosen.rate, bf16=chosen.bf16, every=100, workers=chosen.workers, scores=chosen.out / "scores",
    )  # fmt: skip
    with Bar(out / "journal.jsonl", Console(stderr=True)) as bar:
        training.train(plan, resume=chosen.resume, bar=bar)
    halved(out / "model.safetensors")


def settle(folder: Path, base: Path, n: int = 300) -> dict[str, float]:
    """Sets the head's bias for nobody by questions in validation wordings, n of one skill and n of two.

    At the first token the router poses a part anew, or an expert answers: whatever mistakes the fewest of the one kind
    for the other, as a share of each, the middle of the best shifts. Returns the shift and both shares.
    """
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file

    from experts.fusion import members

    router = members.open_router(folder, len(SKILLS), base).eval()
    head = getattr(router, members.HEAD)
    if head.out_features == len(SKILLS):
        raise ConfigError(f"{folder}: its routing head has no row for nobody; train it on data that name the router")
    each = -(-n // len(SKILLS))
    ones = [one.prompt for skill in SKILLS for one in questions.questions(skill, "validation", each, SEED)]
    twos = [two.prompt for two in compound.compounds("validation", n, SEED)]

    @torch.inference_mode()
    def margins(prompts: Sequence[str]) -> Any:
        found: list[float] = []
        for prompt in prompts:
            ids = torch.tensor([dialogue(prompt.strip())[0]])
            said = router(input_ids=ids, output_hidden_states=True, use_cache=False, logits_to_keep=1)
            scores = head(said.hidden_states[-1][0, -1].float())
            found.append(float(scores[-1] - scores[:-1].max()))
        return np.array(found)

    one, two = margins(ones), margins(twos)
    shifts = np.round(np.arange(-8, 8.05, 0.1), 1)
    wrong = np.array([(one > shift).mean() + (two < shift).mean() for shift in shifts])
    shift = float(np.median(shifts[wrong == wrong.min()]))
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights[f"{members.HEAD}.bias"][-1] -= shift
    partial = file.with_suffix(".partial")
    save_file(weights, partial, {"format": "pt"})
    partial.replace(file)
    return {"shift": shift, "one_wrong": float((one > shift).mean()), "two_wrong": float((two < shift).mean())}


def halved(file: Path) -> None:
    """Keeps weights in float16: rounding moves each by at most 2^-11 of itself, and halves the file."""
    from safetensors.torch import load_file, save_file

    partial = file.with_suffix(".partial")
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, partial, {"format": "pt"})
    partial.replace(file)


def main(arguments: list[str] | None = None) -> None:
    """Run one of the commands."""
    words = argparse.ArgumentParser(prog="python -m experts.pocket.fused", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    words.add_argument("what", choices=("data", "train", "settle", "pairs", "measure", "outcomes"))
    words.add_argument("--out", type=Path, default=Path("build/fused"), help="folder of what is written")
    words.add_argument("--router", type=Path, default=WEIGHTS / "fused", help="a trained router")
    words.add_argument("--weights", type=Path, default=WEIGHTS, help="the experts")
    words.add_argument("--n", type=int, help="questions (32,000 to train on, 4,000 for pairs, 500 to measure with)")
    words.add_argument("--seed", type=int, default=1, help="data: which questions are drawn")
    words.add_argument("--single", type=int, default=100, help="measure: questions of each single skill")
    words.add_argument("--systems", nargs="+", default=["fusionroute", "head-only", "router", *SKILLS])
    words.add_argument("--objective", choices=("told", "fused", "fusionroute", "fine-tuned"), default="fused",
                       help="train: what for; told hears no expert and learns who speaks where, and what nobody says; "
                       "fine-tuned is the router alone")  # fmt: skip
    words.add_argument("--steps", type=int, default=2400, help="train: steps")
    words.add_argument("--batch", type=int, default=64, help="train: questions a step")
    words.add_argument("--bf16", action="store_true", help="train: compute in bfloat16")
    words.add_argument("--rate", type=float, default=2e-3, help="train: peak learning rate")
    words.add_argument("--workers", type=int, default=0, help="train: processes that prepare batches")
    words.add_argument("--resume", action="store_true", help="train: go on after a kill")
    words.add_argument("--device", default="cpu", help="cpu, or cuda")
    chosen = words.parse_args(arguments)
    if chosen.what == "data":
        write(chosen.out / "train.jsonl", lessons(chosen.n or 32_000, chosen.seed))
        return
    if chosen.what == "train":
        train(chosen)
        return
    if chosen.what == "settle":
        print(json.dumps(settle(chosen.router, chosen.weights / "base")))
        return
    members = Members.open(chosen.router, chosen.weights, chosen.device)
    if chosen.what == "pairs":
        write(chosen.out / "pairs.jsonl", pairs(members, chosen.n or 4_000, seed=2))
        return
    if chosen.what == "outcomes":
        outcomes(members, HERE / "outcomes.jsonl.gz")
        return
    found = measure(members, chosen.systems, chosen.n or 500, chosen.single)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "measured.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "wrong"}))


if __name__ == "__main__":
    main()
