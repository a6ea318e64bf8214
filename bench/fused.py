"""The fused pocket model as vLLM serves it: right, fast, and how large? `make bench-fusion`.

    python bench/fused.py [--prompts 500] [--rounds 7] [--json bench/fusion.json] [--only parity|accuracy|speed]

parity: greedy answers to questions of one and of two skills, 32 at a time, against the plain reference (`parity.py`);
`rounding`, where the type is not float32: how far the reference in that type is from itself in float32.
accuracy: greedy answers to held-out questions, 500 of two skills and 40 of each one, from the fused model; and to 100
of two skills from all five experts over a relay (`span`, `verify`).
speed: tokens a second at batch 1 and 16 (128 tokens each, none ends early), medians of rounds in which the systems take
turns, on three vLLM servers: the fused model; the pocket experts as adapters; and `plain`, the pocket base without
adapters, which is what each of the six members costs when it is served alone (one architecture, one size). The relay's
figures come from `bench/relay.py` in the same run. memory: the numbers in the weights, and the KV cache of a token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

SPOKEN = 128
"""Tokens of each answer whose speed is measured."""
BATCHES = (1, 16)
MEMBERS = 6


def asked(n: int) -> list[str]:
    """Held-out questions, three of two skills to two of one."""
    from experts.pocket import compound, questions

    both = [one.prompt for one in compound.compounds("test", n - 2 * n // 5, 5)]
    each = -(-(n - len(both)) // len(questions.SKILLS))
    ones = [one.prompt for skill in questions.SKILLS for one in questions.questions(skill, "test", each, 5)]
    return (both + ones)[:n]


def parity(url: str, folder: Path, n: int, dtype: str) -> dict[str, Any]:
    import torch

    from experts.fusion import parity as compared
    from experts.fusion.reference import Reference

    reference = Reference(folder, getattr(torch, dtype))
    told = compared.ask_all(url, "pocket-fused", asked(n), reference.vocabulary, 300, 32)
    found = compared.summary([compared.compare(reference, one) for one in told])
    if dtype != "float32":  # what rounding alone does: one piece of code in both
        exact = Reference(folder)
        rounded = [one._replace(logprobs=compared.logprobs(reference, one)) for one in told]
        said = compared.summary([compared.compare(exact, one) for one in rounded])
        found["rounding"] = {key: said[key] for key in ("logprob_difference", "within_close")}
    return found


def accuracy(url: str, two: int = 500, one: int = 40) -> dict[str, Any]:
    """The share of right answers of the fused model, in the shape of `bench/fusion.py`."""
    from experts.fusion.parity import post
    from experts.pocket import compound, questions
    from experts.pocket.fused import kinds
    from experts.pocket.questions import SKILLS, final_answer, right

    both = compound.compounds("test", two)
    ones = [asked for skill in SKILLS for asked in questions.questions(skill, "test", one)]

    def said(prompt: str) -> str:
        body = {"model": "pocket-fused", "messages": [{"role": "user", "content": prompt}], "temperature": 0,
                "max_tokens": 400}  # fmt: skip
        return str(post(url, "/chat/completions", body)["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(said, [asked.prompt for asked in (*both, *ones)]))
    hits = [final_answer(text) == asked.answer for asked, text in zip(both, texts[:two], strict=True)]
    single = [right(asked, text) for asked, text in zip(ones, texts[two:], strict=True)]
    return {"questions": two, "accuracy": {"fusionroute": sum(hits) / two}, "kinds": kinds(both, hits),
            "single_skill": {"fusionroute": sum(single) / len(single)}}  # fmt: skip


def rate(url: str, model: str, batch: int, turn: int) -> float:
    """Tokens a second of `batch` answers at once."""
    from experts.fusion.parity import post

    def one(number: int) -> int:
        prompt = f"{turn} {number}: " + "What is the capital of Peru spelled backwards?"
        body = {"model": model, "prompt": prompt, "max_tokens": SPOKEN, "ignore_eos": True, "temperature": 0}
        return int(post(url, "/completions", body)["usage"]["completion_tokens"])

    with ThreadPoolExecutor(batch) as pool:
        started = perf_counter()
        tokens = sum(pool.map(one, range(batch)))
        return tokens / (perf_counter() - started)


def speeds(systems: dict[str, tuple[str, str]], rounds: int) -> dict[str, dict[str, float]]:
    """`systems`: name to url and model. The first turn of each only warms it."""
    found: dict[tuple[str, int], list[float]] = {}
    for turn in range(rounds + 1):
        for name, (url, model) in systems.items():
            for batch in BATCHES:
                measured = rate(url, model, batch, turn)
                if turn:
                    found.setdefault((name, batch), []).append(measured)
    return {name: {str(b): round(statistics.median(found[name, b]), 1) for b in BATCHES} for name in systems}


def cache_bytes(url: str) -> int:
    """Bytes of KV cache that a token takes, by what the server says of its cache of one GiB."""
    with urlopen(url.removesuffix("/v1") + "/metrics", timeout=60) as reply:
        text = reply.read().decode()
    line = next(line for line in text.splitlines() if line.startswith("vllm:cache_config_info"))
    blocks, size = (int(re.search(rf'{key}="(\d+)"', line)[1]) for key in ("num_gpu_blocks", "block_size"))  # type: ignore[index]
    return int(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")) * 2**30 // (blocks * size)


def memory(folder: Path, fused: str, plain: str) -> dict[str, Any]:
    """What the fused model holds, and what its members would hold if each were served alone."""
    from experts.fusion.checkpoint import read_config, stored
    from experts.fusion.config import place

    sizes: dict[str, int] = {}
    shared = 0
    for key, tensor in stored(folder):
        where, _, rest = key.partition(".")
        sizes[where] = sizes.get(where, 0) + tensor.numel()
        shared += tensor.numel() if rest.startswith("base.") else 0
    listed = read_config(folder).listed()
    borrowing = sum(member.shares not in ("", member.name) for member in listed)
    alone = sum(sizes[place(index)] for index in range(len(listed))) + borrowing * shared
    return {"parameters": sum(sizes.values()), "members_parameters": alone, "cache_bytes": cache_bytes(fused),
            "members_cache_bytes": MEMBERS * cache_bytes(plain)}  # fmt: skip


async def served(stack: AsyncExitStack, logs: Path, folder: Path, names: list[str], dtype: str) -> dict[str, str]:
    """Start the servers of `names` (fused, pocket, plain); their URLs."""
    from dataclasses import replace

    from experts.fleet.command import installed_engine
    from experts.fleet.fleet import Fleet
    from experts.fleet.placement import Server, place
    from registry.load import load
    from router.cli.placing import FUSED, FUSED_URL, POCKET_URL, pocket_folder, residences, server_task

    ports: dict[str, int] = {}
    for name in ("fused", "pocket", "plain"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports[name] = probe.getsockname()[1]
    urls = {name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()}
    environ = {**os.environ, FUSED: str(folder), FUSED_URL: urls["fused"], POCKET_URL: urls["pocket"]}
    servers = {one.name.replace("pocket-", ""): one for one in
               place(residences(load(pocket_folder() / "registry.yaml", environ=environ), fused=True))}  # fmt: skip
    args = [word if word != "float32" else dtype for word in servers["fused"].args]
    servers["fused"] = replace(servers["fused"], args=tuple(args))
    servers["plain"] = Server("plain", servers["pocket"].model, ("plain",), ports["plain"], args=servers["fused"].args)
    for name in names:  # one after the other: starting is what takes a processor
        fleet = await stack.enter_async_context(Fleet([server_task(servers[name], installed_engine(), logs)]))
        await fleet.ready(900)
    return {name: urls[name] for name in names}


async def measured(only: str | None, prompts: int, rounds: int, dtype: str) -> dict[str, Any]:
    import relay

    from experts.pocket.questions import SKILLS
    from router.cli.placing import fused_checkpoint

    found: dict[str, Any] = {}
    names = {"parity": ["fused"], "accuracy": ["fused", "pocket"]}.get(only or "", ["fused", "plain", "pocket"])
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = fused_checkpoint(logs)
        urls = await served(stack, logs, folder, names, dtype)
        if only in (None, "parity"):
            key = "parity" if dtype == "float32" else f"parity_{dtype}"
            found[key] = await asyncio.to_thread(parity, urls["fused"], folder, prompts, dtype)
            print(json.dumps(found), flush=True)
        if only in (None, "accuracy"):
            found |= await asyncio.to_thread(accuracy, urls["fused"])
            found["accuracy"] |= await relay.right(urls["pocket"], 100)
            print(json.dumps(found), flush=True)
        if only in (None, "speed"):
            systems = {"fused": (urls["fused"], "pocket-fused"), "plain": (urls["plain"], "plain")}
            systems |= {skill: (urls["pocket"], f"pocket-{skill}") for skill in SKILLS}
            rates = await asyncio.to_thread(speeds, systems, rounds)
            over = await relay.measured(urls["pocket"], max(rounds, 2))
            over.pop("members")
            alone = {"router": rates["plain"], **{skill: rates[skill] for skill in SKILLS}}
            found["tokens_per_s"] = {
                "fused": rates["fused"], "members": alone, "plain": rates["plain"], **over
            }  # fmt: skip
            found["memory"] = memory(folder, urls["fused"], urls["plain"])
    return found


def bars(known: dict[str, Any]) -> list[tuple[str, float, float, bool]]:
    """What is asked of the figures: name, figure, bar, and whether at most (else at least) that."""
    rows: list[tuple[str, float, float, bool]] = []
    for key, close in (("parity", 1e-4), ("parity_bfloat16", 2e-2)):
        if said := known.get(key):
            rows.append((f"{key}: prompts that part at a tie", said["ties"] / said["prompts"], 0.01, True))
            rows.append((f"{key}: prompts that differ", said["differ"], 0, True))
            rows.append((f"{key}: largest difference of a log-probability", said["logprob_difference"], close, True))
    if rates := known.get("tokens_per_s"):
        for batch in map(str, BATCHES):
            rows.append((f"batch {batch}: fused, of six members alone without adapters",
                         rates["fused"][batch] * MEMBERS / rates["plain"][batch], 1.0, False))  # fmt: skip
            seconds = sum(1 / member[batch] for member in rates["members"].values())
            rows.append((f"batch {batch}: fused, of its members as they are served", rates["fused"][batch] * seconds,
                         1.0, False))  # fmt: skip
        rows += [("fused / token relay of the same five experts", rates["fused"]["1"] / rates["token_all"], 4.0, False),
                 ("fused / token relay of two of them", rates["fused"]["1"] / rates["token"], 4.0, False),
                 ("verify / token relay", rates["verify"] / rates["token"], 2.0, False),
                 ("span without hand-overs / single", rates["span_cold"] / rates["single"], 0.95, False)]  # fmt: skip
    if held := known.get("memory"):
        for what in ("parameters", "cache_bytes"):
            rows.append((f"{what}, of the members' sum", held[what] / held[f"members_{what}"], 1.1, True))
    return rows


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--prompts", type=int, default=500, help="answers that are compared (default: %(default)s)")
    words.add_argument("--rounds", type=int, default=7, help="rounds of each speed (default: %(default)s)")
    words.add_argument("--only", choices=("parity", "accuracy", "speed"), help="measure only this")
    words.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the fused model")
    words.add_argument("--json", type=Path, default=ROOT / "bench/fusion.json", help="file whose keys are written")
    chosen = words.parse_args()
    from fusion import kept

    found = asyncio.run(measured(chosen.only, chosen.prompts, chosen.rounds, chosen.dtype))
    kept(chosen.json, found)
    print(json.dumps(found, indent=1))
    for name, figure, bar, most in bars(found):
        met = figure <= bar if most else figure >= bar
        print(f"{name:62}{figure:10.4g}  {'<=' if most else '>='} {bar:g}  {'passed' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
