"""Profiles: skill words, who aggregates best, and what a council makes of both; over the commands as they are typed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson

from experts.protocols import silent
from experts.wire import parse
from router.explain import plan_json
from router.local import load_registry, open_router
from router.records import Recording
from router.run import Run
from router.telemetry import Log, Telemetry
from tests.integration.conftest import Start
from tests.integration.test_eval_run import consilium

ABLE = """
kind: expert
name: solver
provider: scripted
replies: [{match: Several experts, text: "Answer: 5"}, {match: Name the skills, text: "addition, sums"}]
text: "Answer: 4"
---
kind: expert
name: reader
provider: scripted
replies: [{match: Several experts, text: "Answer: 4"}]
text: "Answer: 6"
---
kind: expert
name: guesser
provider: scripted
text: "Answer: 7"
---
kind: expert
name: judge
provider: vllm
model: judge
reward: true
endpoints: [http://127.0.0.1:9/v1]
---
kind: route
name: auto
experts: "*"
estimator: {name: skills, named: 1}
composer: {name: council, k: 3}
"""


async def said(*words: object) -> str:
    status, text, complained = await consilium(*words)
    assert status == 0, complained
    return text


async def test_profiles_find_skills_and_who_aggregates_best_and_a_council_goes_by_them(
    tmp_path: Path, start: Start
) -> None:
    registry, state = tmp_path / "able.yaml", tmp_path / "var"
    registry.write_text(ABLE)
    path = tmp_path / "sums.jsonl"
    path.write_bytes(
        b"".join(
            orjson.dumps({"id": f"s{n}", "prompt": f"2 plus 2 ({n})?", "reference": "4", "scorer": "numeric",
                          "split": "test" if n > 9 else "validation"}) + b"\n"
            for n in range(12)
        )
    )  # fmt: skip
    words = ("profile", "-s", path, "-r", registry, "--state", state, "--skills-by", "solver", "--aggregators")
    found = orjson.loads(await said(*words, "--json"))
    assert found["panels"] == 10
    assert found["aggregation"] == {"solver": 0.0, "reader": 1.0, "guesser": 0.0}
    assert orjson.loads(await said(*words, "--json"))["panels"] == 10  # all from its journal

    shown = orjson.loads(await said("experts", "show", "solver", "--registry", registry, "--state", state, "--json"))
    assert shown["profile"]["skills"] == {"addition": {"net": 12.0, "asked": 12}, "sums": {"net": 12.0, "asked": 12}}
    assert (shown["profile"]["competence"], shown["profile"]["aggregation"]) == (1.0, 0.0)
    text = await said("experts", "show", "reader", "--registry", registry, "--state", state)
    assert "right on 100% of 10 panels" in text
    assert "-12" in text

    served = await start(ABLE, recording=Recording(state))
    asked = ("experts", "show", "reader", "--url", served.url)
    assert await said(*asked) == text
    assert orjson.loads(await said(*asked, "--json"))["profile"]["competence"] == 0.0

    fitted = orjson.loads(await said("fit", "-r", registry, "--state", state, "--json"))
    assert fitted["routes"]["auto"]["abilities"]["reader"] > 0.6
    async with open_router(load_registry(registry), artifact=state / "artifacts",
                           telemetry=Telemetry(Log(level="warning"))) as router:  # fmt: skip
        run = Run("d")
        query = parse("chat", b'{"model": "auto", "messages": [{"role": "user", "content": "9 plus 9?"}]}', "d")
        plan, _ = await router.plan(query, run)
        assert plan.skills
        assert set(plan.skills) <= {"addition", "sums"}
        shown = plan_json(plan)
        assert shown["skills"] == list(plan.skills)
        assert max(shown["estimates"], key=lambda row: row["suitability"])["expert"] == "solver"
        assert [seat.expert for seat in plan.seats] == ["solver"] * 3
        tripled = replace(query, extension={"compose": "best-of"})
        assert (await router.answer(tripled, silent, Run("e"))).text == "Answer: 4"
        assert router.snapshot.abilities_of("auto")["reader"] > 0.6
