"""What a relay costs on ordinary servers: `make bench-fusion`.

    python bench/relay.py [--url http://127.0.0.1:8100/v1] [--rounds 20] [--json bench/fusion.json]

Against a vLLM with the pocket experts, which it starts unless `--url` names one that runs. Two of them, geo and text,
on questions of geography; tokens a second of answers at batch 1, medians, all in one run, the systems in turn. `verify`
and `token` have the weights 9 to 1, as a router gives them that knows who knows: with equal weights two experts of
different skills agree on little, and drafts are short. `span_cold` has a threshold of 0, so nobody is ever doubted.
`token_all` is `token` with all five experts, as many as the fused model has. Only the key `tokens_per_s` of the JSON
file is written; its other keys stay as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

EXPERT = "kind: expert\nname: {name}\nprovider: vllm\nmodel: pocket-{name}\nendpoints: [{url}]\ndescription: {name}\n"
ROUTE = "kind: route\nname: {name}\nexperts: [{experts}]\nestimator: prior\ndefault: geo\ncomposer: {composer}\n"
WEIGHTS = "weights: {geo: 9, text: 1}"
SYSTEMS = {
    "single": "{name: single}", "span": "{name: relay, mode: span}", "span_cold": "{name: relay, threshold: 0}",
    "verify": f"{{name: relay, mode: verify, {WEIGHTS}}}", "token": f"{{name: relay, mode: token, {WEIGHTS}}}",
    "token_all": "{name: relay, mode: token, k: 5, weights: {geo: 36, text: 1, calc: 1, units: 1, sql: 1}}",
}  # fmt: skip
PAIR = ("geo", "text")
COUNTRIES = ("Peru", "Kenya", "Japan", "Norway", "Chile", "Mongolia", "Hungary", "Ghana", "Spain", "Vietnam")
JOINT = ("span", "verify")
BARS = {("span_cold", "single"): 0.95, ("verify", "token"): 2.0}


async def measured(url: str, rounds: int) -> dict[str, Any]:
    import orjson

    from experts.pocket.questions import SKILLS
    from experts.protocols import silent
    from experts.wire import parse
    from router.local import load_registry, open_router
    from router.run import Run
    from router.telemetry import Log, Telemetry

    texts = [EXPERT.format(name=name, url=url) for name in SKILLS]
    texts += [
        ROUTE.format(name=f"r-{name}", composer=composer, experts=", ".join(SKILLS if name == "token_all" else PAIR))
        for name, composer in SYSTEMS.items()
    ]
    rates: dict[str, list[float]] = {name: [] for name in (*SYSTEMS, "text")}
    answers: dict[tuple[str, str], str] = {}
    handed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.yaml"
        path.write_text("---\n".join(texts))
        async with open_router(load_registry(path), telemetry=Telemetry(Log(level="warning"))) as router:
            for number in range(rounds):
                country = COUNTRIES[number % len(COUNTRIES)]
                for name in rates:
                    asked = f"What is the capital of {country}?" if name != "text" else "Reverse the word planet."
                    model = name if name == "text" else f"r-{name}"
                    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": asked}],
                                            "temperature": 0, "stream": True}  # fmt: skip
                    run = Run(f"q{number}")
                    started = perf_counter()
                    answer = await router.answer(parse("chat", orjson.dumps(body), run.id), silent, run)
                    took = perf_counter() - started
                    tokens = sum(run.spans.tokens.values()) or answer.usage.completion_tokens or answer.chunks
                    answers[name, country] = answer.text
                    handed += int(run.notes.get("hand_overs", 0)) if name == "span_cold" else 0
                    if number:  # the first round warms connections and prefixes
                        rates[name].append(tokens / took)
    found: dict[str, Any] = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    members = {"geo": found.pop("single"), "text": found.pop("text")}
    equal = [answers["verify", country] == answers["token", country] for country in COUNTRIES[:rounds]]
    return {**found, "single": members["geo"], "members": {name: {"1": rate} for name, rate in members.items()},
            "verify_equals_token": f"{sum(equal)}/{len(equal)}", "hand_overs_cold": handed}  # fmt: skip


async def right(url: str, n: int) -> dict[str, float]:
    """Of n held-out questions of two skills, the share that all five experts answer right over a relay, by mode."""
    import orjson

    from experts.errors import ConsiliumError
    from experts.pocket.compound import compounds
    from experts.pocket.questions import SKILLS, final_answer
    from experts.protocols import silent
    from experts.wire import parse
    from router.cli.placing import pocket_folder
    from router.local import load_registry, open_router
    from router.run import Run
    from router.telemetry import Log, Telemetry

    names = [f"pocket-{skill}" for skill in SKILLS]
    texts = [EXPERT.format(name=name, url=url).replace("model: pocket-", "model: ") for name in names]
    texts += [f"kind: route\nname: {mode}\nexperts: [{', '.join(names)}]\npolicy: balanced\n"
              f"composer: {{name: relay, mode: {mode}, k: {len(names)}}}\n" for mode in JOINT]  # fmt: skip
    asked = compounds("test", n)
    gate = asyncio.Semaphore(8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.yaml"
        path.write_text("---\n".join(texts))
        async with open_router(
            load_registry(path), outcomes=pocket_folder() / "outcomes.jsonl.gz", telemetry=Telemetry(Log(level="error"))
        ) as router:

            async def hit(mode: str, prompt: str, answer: str) -> bool:
                body = {"model": mode, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
                        "max_tokens": 320}  # fmt: skip
                async with gate:
                    try:
                        said = await router.answer(parse("chat", orjson.dumps(body), "q"), silent, Run("q"))
                    except ConsiliumError:
                        return False
                return final_answer(said.text) == answer

            return {
                mode: sum(await asyncio.gather(*(hit(mode, one.prompt, one.answer) for one in asked))) / n
                for mode in JOINT
            }


async def with_server(url: str | None, rounds: int) -> dict[str, Any]:
    """Measured against the server at `url`, or one that is started for it and stopped afterwards."""
    if url is not None:
        return await measured(url, rounds)
    from experts.fleet.command import installed_engine
    from experts.fleet.fleet import Fleet
    from experts.fleet.placement import place
    from registry.load import load
    from router.cli.placing import POCKET_URL, pocket_folder, residences, server_task

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    registry = load(pocket_folder() / "registry.yaml", environ={**os.environ, POCKET_URL: url})
    (server,) = place(residences(registry))
    with tempfile.TemporaryDirectory() as logs:
        async with Fleet([server_task(server, installed_engine(), Path(logs))]) as fleet:
            await fleet.ready(540)
            return await measured(url, rounds)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", help="of a running server of the pocket experts; default: start one")
    options.add_argument("--rounds", type=int, default=20, help="questions of each system, at least 2")
    options.add_argument("--json", type=Path, help="file whose key tokens_per_s is written")
    asked = options.parse_args()
    found = asyncio.run(with_server(asked.url, max(asked.rounds, 2)))
    for key, value in found.items():
        print(f"  {key:22}{value}")
    for (one, other), least in BARS.items():
        ratio = found[one] / found[other]
        print(f"  {one} / {other:14}{ratio:8.2f}   >= {least}  {'met' if ratio >= least else 'MISSED'}")
    if asked.json:
        known: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json.exists() else {}
        speeds: dict[str, Any] = known.setdefault("tokens_per_s", {})
        for name, rate in found.pop("members").items():
            speeds.setdefault("members", {}).setdefault(name, {}).update(rate)
        speeds.update(found)
        asked.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
