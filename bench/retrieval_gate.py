"""Retrieval where it pays: never, always and the fitted gate, on an expert that knows half of the countries.

    python bench/retrieval_gate.py --adapter build/pocket/atlas

The expert is an adapter trained with `experts.pocket.atlas`: it has never seen a fact of the withheld countries, which
are in a small corpus instead. The gate is fitted on answers to questions in training wordings, with and without a
passage; what is printed is measured on questions in held-out wordings. Answers come from transformers, in process.
`auto` searches for every question and puts what it finds into the prompt where that pays (`retrieved`); `query-alone`
is the gate that has to decide before it searches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from random import Random

from experts.language import Passage
from experts.pocket import answering, atlas
from experts.pocket.questions import final_answer
from experts.pocket.skills.geo import Fact, facts
from experts.pocket.skills.split import Split
from experts.retrieval.corpus import Document, create_corpus
from experts.retrieval.encoders import open_encoder
from experts.retrieval.indexing import add, embedded_by
from experts.retrieval.kinds import RetrieverParts, module
from experts.retrieval.prompting import with_sources
from experts.transport import Transport
from router.gate import fit_gate, sighted

PRICE = 0.25
"""What a thousand tokens of passages must gain."""
TOKENS_A_PASSAGE = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--fit", type=int, default=390, help="questions that the gate is fitted on")
    parser.add_argument("--test", type=int, default=200, help="questions that are measured")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    encoder = open_encoder()
    model = _model(chosen.adapter)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        corpus = create_corpus(root / "atlas", embedded_by(encoder, "all-MiniLM-L6-v2", "onnx-int8"))
        add(corpus, [Document(p.id, "", (p.text,), {}) for p in atlas.documents()], encoder)
        corpus.close()
        kind = module("hybrid")
        options = kind.Options.model_validate({"index": str(root / "atlas")})
        retriever = kind.build("atlas", options, RetrieverParts(Transport(), encoder.fingerprint))

        async def found(texts: list[str]) -> list[list[Passage]]:
            vectors = encoder.encode(texts)
            return [await retriever.search(t, v, 1) for t, v in zip(texts, vectors, strict=True)]

        def both(asked: list[tuple[str, str, Fact]], passages: list[list[Passage]]) -> list[list[tuple[bool, int]]]:
            """For never and always: right or not, and tokens, of every question."""
            plain = [question for question, _, _ in asked]
            told = [with_sources(q, p, atlas.TEMPLATE) for q, p in zip(plain, passages, strict=True)]
            return [
                [
                    (final_answer(reply.text) == answer, len(prompt) + reply.tokens)
                    for reply, prompt, (_, answer, _) in zip(answering.replies(model, texts), texts, asked, strict=True)
                ]
                for texts in (plain, told)
            ]

        fitted, test = _asked(chosen.fit, "train", 1), _asked(chosen.test, "test", 2)
        fit_found, test_found = asyncio.run(_two(found, fitted, test))
        never, always = both(fitted, fit_found)
        lines = root / "gate.jsonl"
        rows = zip(fitted, never, always, strict=True)
        lines.write_text(
            "\n".join(json.dumps({"query": q, "without": int(a), "with": int(b)}) for (q, *_), (a, _), (b, _) in rows)
        )
        gate = fit_gate("auto", PRICE, TOKENS_A_PASSAGE, 0.7, lines, encoder)
        never, always = both(test, test_found)
        vectors = encoder.encode([q for q, *_ in test])
        looked = {"query-alone": [gate.decide(vector, None).retrieve for vector in vectors]}
        gate = sighted(gate, [next(iter(passages), None) for passages in fit_found])
        looked["auto"] = [
            gate.weigh(vector, next(iter(passages), None)).retrieve
            for vector, passages in zip(vectors, test_found, strict=True)
        ]
        systems = {"never": (never, 0.0), "always": (always, 1.0)} | {
            name: ([b if told else a for a, b, told in zip(never, always, by, strict=True)], sum(by) / len(by))
            for name, by in looked.items()
        }
        withheld = [atlas.withheld(fact.country) for *_, fact in test]
        told = {
            name: {
                "right": round(sum(right for right, _ in rows) / len(rows), 4),
                "right_known": _mean([r for (r, _), w in zip(rows, withheld, strict=True) if not w]),
                "right_withheld": _mean([r for (r, _), w in zip(rows, withheld, strict=True) if w]),
                "retrieved": round(share, 4), "tokens": round(sum(tokens for _, tokens in rows) / len(rows), 1),
            }
            for name, (rows, share) in systems.items()
        }  # fmt: skip
        told["found_right_passage"] = {
            "withheld": _mean([p[0].id == f.country.code for p, (*_, f) in zip(test_found, test, strict=True)
                               if p and atlas.withheld(f.country)])
        }  # fmt: skip
    print(json.dumps(told, indent=None if chosen.json else 2))


async def _two(found, fitted, test):
    return await found([q for q, *_ in fitted]), await found([q for q, *_ in test])


def _asked(number: int, split: Split, seed: int) -> list[tuple[str, str, Fact]]:
    rng = Random(seed)
    chosen = [rng.choice(facts()) for _ in range(number)] if split == "test" else rng.sample(facts(), number)
    return [(*atlas.question(fact, rng, split), fact) for fact in chosen]


def _model(adapter: Path):
    import torch
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    from experts.pocket.serve import WEIGHTS

    torch.set_num_threads(1)
    base = LlamaForCausalLM.from_pretrained(WEIGHTS / "base", dtype=torch.float32, attn_implementation="sdpa")
    return PeftModel.from_pretrained(base, adapter).merge_and_unload().eval()


def _mean(values: list[bool]) -> float:
    return round(sum(values) / max(len(values), 1), 4)


if __name__ == "__main__":
    main()
