"""Questions of two skills on the pocket experts, live on vLLM: `make bench-pipeline`.

    python bench/pipeline.py [--n 200] [--url http://127.0.0.1:8100/v1] [--without samples] [--json pipeline.json]

Held-out wordings, names and combinations (`experts.pocket.compound`), exact answers. Compared are the best single
expert, query routing (what the route chooses, and an oracle that always chooses the best expert), `pipeline` and
`council`; then k samples of the best expert against k experts, both by plurality: does it help that experts differ, or
only that several answers are there? All experts answer greedily, so that query routing is read from the single
experts' own answers. Without `--url` it starts the server. `novel`: combinations that the planner never saw.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from math import sqrt
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

LONGEST = 160
AT_ONCE = 16
BARS = {"pipeline": (0.85, True), "routed, oracle": (0.30, False)}


@asynccontextmanager
async def served(url: str | None) -> AsyncIterator[str]:
    """The pocket server: the one at `url`, or one of its own."""
    if url:
        yield url
        return
    from experts.fleet.command import installed_engine
    from experts.fleet.fleet import Fleet
    from experts.fleet.placement import place
    from registry.load import load
    from router.cli.placing import POCKET_URL, pocket_folder, residences, server_task

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    manifests = load(pocket_folder() / "registry.yaml", environ={**os.environ, POCKET_URL: own})
    (server,) = place(residences(manifests))
    with tempfile.TemporaryDirectory() as logs:
        async with Fleet([server_task(server, installed_engine(), Path(logs))]) as fleet:
            await fleet.ready(540)
            yield own


async def measured(url: str, n: int, told: Callable[[str, dict[str, Any]], None], without: Sequence[str]) -> None:
    import orjson

    from experts.errors import ConsiliumError
    from experts.pocket.compound import compounds
    from experts.pocket.questions import SKILLS, final_answer
    from experts.protocols import silent
    from experts.wire import parse
    from router.cli.placing import POCKET_URL, pocket_folder
    from router.local import load_registry, open_router
    from router.run import Run
    from router.telemetry import Log, Telemetry

    os.environ[POCKET_URL] = url
    asked = compounds("test", n)
    gate = asyncio.Semaphore(AT_ONCE)
    folder = pocket_folder()
    async with open_router(
        load_registry(folder / "registry.yaml"), outcomes=folder / "outcomes.jsonl.gz",
        telemetry=Telemetry(Log(level="error")),
    ) as router:  # fmt: skip

        def query(model: str, text: str, more: dict[str, Any]) -> Any:
            body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0,
                    "max_tokens": LONGEST, **more}  # fmt: skip
            return parse("chat", orjson.dumps(body), "q")

        async def one(model: str, text: str, more: dict[str, Any]) -> tuple[str, int]:
            """The final answer, and the calls it took."""
            run = Run("q")
            async with gate:
                try:
                    answer = await router.answer(query(model, text, more), silent, run)
                except ConsiliumError as fault:
                    return f"error: {fault.message}", len(run.attempts)
            return final_answer(answer.text), len(run.attempts)

        async def every(model: str, **more: Any) -> tuple[list[str], dict[str, Any]]:
            found = await asyncio.gather(*(one(model, row.prompt, more) for row in asked))
            texts = [text for text, _ in found]
            return texts, score(texts, sum(calls for _, calls in found) / n)

        def score(texts: Sequence[str], calls: float) -> dict[str, Any]:
            rows = list(zip(texts, asked, strict=True))
            right = [text == row.answer for text, row in rows]
            kinds = {
                "novel": [ok for ok, (_, row) in zip(right, rows, strict=True) if row.novel],
                "chains": [ok for ok, (_, row) in zip(right, rows, strict=True) if row.parts[1].after],
                "side by side": [ok for ok, (_, row) in zip(right, rows, strict=True) if not row.parts[1].after],
            }
            share = sum(right) / len(right)
            ci = 1.96 * sqrt(share * (1 - share) / len(right))
            return {"n": len(right), "exact": round(share, 4), "ci95": round(ci, 4), "calls": round(calls, 2)} | {
                name: round(sum(some) / max(len(some), 1), 4) for name, some in kinds.items()
            }

        k = len(SKILLS)
        if "pipeline" not in without:
            told("pipeline", (await every("parts"))[1])
        alone = {skill: await every(f"pocket-{skill}") for skill in SKILLS}
        best = max(SKILLS, key=lambda skill: alone[skill][1]["exact"])
        told(f"best single (pocket-{best})", alone[best][1])
        oracle = [
            next((alone[skill][0][i] for skill in SKILLS if alone[skill][0][i] == row.answer), "")
            for i, row in enumerate(asked)
        ]
        plans = [(await router.plan(query("auto", row.prompt, {}), Run("q")))[0].expert for row in asked]
        told("routed", score([alone[name.removeprefix("pocket-")][0][i] for i, name in enumerate(plans)], 1))
        told("routed, oracle", score(oracle, 1))
        told(f"{k} experts, plurality", score(plurality([alone[skill][0] for skill in SKILLS]), k))
        if "samples" not in without:
            samples = [(await every(f"pocket-{best}", temperature=0.7, seed=seed))[0] for seed in range(k)]
            told(f"{k} samples of pocket-{best}, plurality", score(plurality(samples), k))
        if "council" not in without:
            told("council of 3", (await every("auto", consilium={"compose": "council"}))[1])


def plurality(answers: Sequence[Sequence[str]]) -> list[str]:
    """The most frequent answer to each question; of equally frequent ones the first that was given."""
    return [Counter(given).most_common(1)[0][0] for given in zip(*answers, strict=True)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n", type=int, default=200, help="questions (default: %(default)s)")
    options.add_argument("--url", help="a pocket server that runs, up to and including /v1")
    options.add_argument("--without", nargs="+", choices=("pipeline", "council", "samples"), default=[],
                         help="rows to leave out: each takes minutes on two cores")  # fmt: skip
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    rows: list[dict[str, Any]] = []
    kinds = ("novel", "chains", "side by side")
    print(f"  {'exact answers':36}{'all':>7}{'95 %':>9}{'calls':>7}" + "".join(f"{kind:>14}" for kind in kinds))

    def told(name: str, found: dict[str, Any]) -> None:
        rows.append({"policy": name, **found})
        bar, least = BARS.get(name, (None, True))
        met = bar is not None and (found["exact"] >= bar if least else found["exact"] < bar)
        verdict = "" if bar is None else f"   {'>=' if least else '<'} {bar:.0%}  {'met' if met else 'MISSED'}"
        apart = "".join(f"{found[kind]:14.1%}" for kind in kinds)
        print(f"  {name:36}{found['exact']:7.1%}{found['ci95']:9.1%}{found['calls']:7.2f}{apart}{verdict}", flush=True)
        if given.json:
            given.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")

    async def whole() -> None:
        async with served(given.url) as url:
            await measured(url, given.n, told, given.without)

    asyncio.run(whole())


if __name__ == "__main__":
    main()
