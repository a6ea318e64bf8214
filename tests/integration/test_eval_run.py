"""Live runs: killed and continued, in process and over HTTP; profiles; judging a policy before it ships."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from evals.journal import Answered, Scored, journal
from evals.profile import outcome_rows
from experts.errors import ConfigError
from router.outcomes import read_outcomes
from router.records import Recording
from tests.integration.conftest import Start, Upstream, listening

pytestmark = pytest.mark.integration

Upstreams = Callable[[], Awaitable[Upstream]]

PAIR = """
kind: expert
name: counter
provider: scripted
price: {input: 1, output: 2}
replies: [{match: plus, text: "Answer: 4"}]
text: no idea
---
kind: expert
name: traveller
provider: scripted
replies: [{match: capital, text: "Answer: Paris"}]
text: no idea
---
kind: route
name: auto
experts: [counter, traveller]
estimator: prior
explore: 0.5
"""


def suite(folder: Path, n: int = 40) -> Path:
    path = folder / "mine.jsonl"
    path.write_bytes(
        b"".join(
            orjson.dumps(
                {"id": f"m{i}", "prompt": f"2 plus 2? ({i})", "reference": "4", "task": "maths", "scorer": "numeric"}
                if i % 2
                else {"id": f"c{i}", "prompt": f"capital? ({i})", "reference": "Paris", "task": "cities"}
            )
            + b"\n"
            for i in range(n)
        )
    )
    return path


def lines(path: Path, kind: str) -> list[dict[str, Any]]:
    return [row[kind] for row in map(orjson.loads, path.read_bytes().splitlines()) if kind in row]


async def consilium(*words: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router.cli", *map(str, words), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, complained = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), complained.decode()


class Gate:
    """A server that gives `allowed` answers and then lets everybody wait; `held` is set when somebody does."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.allowed = 0
        self.held = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        text = (await request.json())["messages"][0]["content"]
        self.asked.append(text)
        if self.allowed <= 0:
            self.held.set()
            await asyncio.Event().wait()
        self.allowed -= 1
        said = "4" if "plus" in text else "Paris"
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": said}}]})


async def test_a_run_killed_in_the_middle_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    gate, out = Gate(), tmp_path / "run.jsonl"
    app = web.Application()
    app.router.add_post("/v1/chat/completions", gate.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    listener = listening()
    await web.SockSite(runner, listener).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    words = ("eval", "run", "-s", str(suite(tmp_path)), "-t", url, "--out", str(out), "-k", "4", "--json")
    try:
        for _ in range(3):
            gate.allowed = 9
            gate.held.clear()
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "router.cli", *words)
            await gate.held.wait()
            process.send_signal(signal.SIGKILL)
            await process.wait()
            out.write_bytes(out.read_bytes() + b'{"answer": {"id": "m1", "mod')
        answered = {row["id"] for row in whole_lines(out, "answer")}
        assert 10 < len(answered) <= 27
        gate.asked, gate.allowed = [], 100
        status, said, complained = await consilium(*words)
        assert status == 0, complained
        found = orjson.loads(said)
        assert (found["scored"], found["score"]) == (40, 1.0)
        assert len(gate.asked) == len(set(gate.asked)) == 40 - len(answered)
        assert set(Counter(row["id"] for row in lines(out, "answer")).values()) == {1}
        assert (await consilium(*words))[0] == 0
        assert len(gate.asked) == 40 - len(answered)
    finally:
        await runner.cleanup()


def whole_lines(path: Path, kind: str) -> list[dict[str, Any]]:
    data = path.read_bytes()
    found = [orjson.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return [row[kind] for row in found if kind in row]


async def test_a_run_in_process_scores_and_names_its_decisions(tmp_path: Path) -> None:
    registry, out, state = tmp_path / "r.yaml", tmp_path / "run.jsonl", tmp_path / "state"
    registry.write_text(PAIR)
    status, said, _ = await consilium(
        "eval", "run", "-s", suite(tmp_path), "-r", registry, "--out", out, "--state", state, "--json"
    )
    found = orjson.loads(said)
    assert (status, found["n"], found["errors"]) == (0, 40, 0)
    assert found["ci95"][0] <= found["score"] <= found["ci95"][1]
    assert sum(row["n"] for row in found["tasks"].values()) == 40
    answers = lines(out, "answer")
    kept = {one.id: one for one in Recording(state).open().decisions()}
    assert {row["decision_id"] for row in answers} == kept.keys()
    assert all(kept[row["decision_id"]].answered == row["expert"] for row in answers)
    status, said, _ = await consilium(
        "eval", "run", "-s", suite(tmp_path), "-r", registry, "--out", out, "-t", "counter"
    )
    assert status == 2


async def test_a_run_against_a_gateway_says_who_answered(start: Start, tmp_path: Path) -> None:
    served, out = await start(PAIR), tmp_path / "run.jsonl"
    status, said, _ = await consilium(
        "eval", "run", "-s", suite(tmp_path), "--url", served.url, "-t", "counter", "--out", out, "-n", 10, "--json"
    )
    found = orjson.loads(said)
    assert (status, found["score"], found["experts"]) == (0, 0.5, {"counter": 10})
    assert {row["decision_id"] for row in lines(out, "answer")} == {line["id"] for line in served.lines()}


async def test_experts_that_fail_are_counted_and_asked_again_by_the_next_run(
    tmp_path: Path, upstreams: Upstreams
) -> None:
    upstream, out = await upstreams(), tmp_path / "run.jsonl"
    upstream.status, upstream.reply = 400, b'{"error": {"message": "not today"}}'
    words = ("eval", "run", "-s", suite(tmp_path, 4), "-t", upstream.url, "--out", out, "--json")
    status, said, _ = await consilium(*words)
    assert (status, orjson.loads(said)["errors"]) == (4, 4)
    assert "not today" in orjson.loads(said)["first_errors"][0]
    upstream.status, upstream.reply = 200, None
    status, said, _ = await consilium(*words)
    assert (status, orjson.loads(said)["errors"], len(upstream.bodies)) == (0, 0, 8)


async def test_follow_ups_are_asked_in_the_same_conversation(tmp_path: Path, upstreams: Upstreams) -> None:
    upstream, own = await upstreams(), tmp_path / "mine.jsonl"
    own.write_bytes(
        orjson.dumps(
            {"id": 1, "prompt": "one", "follow_ups": ["two"], "reference": "Hello there", "scorer": "contains"}
        )
    )
    status, said, _ = await consilium(
        "eval", "run", "-s", own, "-t", upstream.url, "--out", tmp_path / "o.jsonl", "--json"
    )
    assert (status, orjson.loads(said)["score"]) == (0, 1.0)
    assert [turn["content"] for turn in upstream.bodies[1]["messages"]] == ["one", "Hello there.", "two"]


def test_a_journal_belongs_to_one_run_at_a_time_and_to_one_run(tmp_path: Path) -> None:
    path, run = tmp_path / "j.jsonl", {"suite": "a"}
    with journal(path, run) as first:
        first.answered(Answered("1", "m", "text", earlier=("x",)))
        first.failed(("2", "m"), "no")
        with pytest.raises(ConfigError, match="another run is writing"), journal(path, run):
            pass
    with (
        pytest.raises(ConfigError, match="holds a run with suite 'a', this one has 'b'"),
        journal(path, {"suite": "b"}),
    ):
        pass
    with path.open("ab") as torn:
        torn.write(b'{"score": {"id": "1", "mo')
    with journal(path, run) as again:
        assert again.answers == {("1", "m"): Answered("1", "m", "text", earlier=("x",))}
        assert again.errors == {("2", "m"): "no"}
        again.scored(("1", "m"), Scored(0.5, "half"))
    with journal(path, run) as third:
        assert third.scores == {("1", "m"): Scored(0.5, "half")}
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(ConfigError, match=r"j\.jsonl:5: not a line"), journal(path, run):
        pass


async def test_a_profile_becomes_outcomes_that_a_router_is_fitted_on(tmp_path: Path) -> None:
    registry, state, out = tmp_path / "r.yaml", tmp_path / "state", tmp_path / "out"
    registry.write_text(PAIR)
    words = ("profile", "-s", suite(tmp_path), "-r", registry, "--state", state, "--out", out, "--json")
    status, said, _ = await consilium(*words)
    found = orjson.loads(said)
    assert (status, found["n"], found["outcomes"], found["score"]) == (0, 80, 80, 0.5)
    rows = Recording(state).open().measured()
    read = read_outcomes(out)
    assert len(read) == 40
    assert {*read.splits} == {"train", "validation", "test"}
    assert sorted(row["id"] for row in outcome_rows(rows)) == sorted(read.ids)
    by_task = {(row.task, row.expert): row.score for row in rows}
    assert by_task == {
        ("maths", "counter"): 1,
        ("maths", "traveller"): 0,
        ("cities", "counter"): 0,
        ("cities", "traveller"): 1,
    }
    models = orjson.loads((out / "models.json").read_bytes())
    assert models["counter"]["usd_per_million"] == {"input": 1.0, "output": 2.0}
    assert (await consilium(*words))[0] == 0
    assert len(Recording(state).open().measured()) == 80
    status, said, complained = await consilium("fit", "-r", registry, "--state", state, "--json")
    assert status == 0, complained
    assert orjson.loads(said)["sources"] == [{"kind": "profile", "rows": 80}]


async def test_a_policy_is_judged_on_rated_decisions(start: Start, tmp_path: Path) -> None:
    """Travellers only: the logged half exploration earns 0.5 or so, the better expert 1."""
    recording = Recording(tmp_path / "state")
    served = await start(PAIR.replace("traveller]", "traveller]\ndefault: counter"), recording=recording)
    agreed = 0
    for number in range(120):
        reply = await served.chat(f"capital? ({number})")
        right = "Paris" in (await reply.json())["choices"][0]["message"]["content"]
        agreed += right
        said = await served.post(
            f"{served.url}/v1/feedback",
            json={"decision_id": reply.headers["x-consilium-decision-id"], "score": float(right)},
        )
        assert said.status == 200
    candidate = tmp_path / "candidate.yaml"
    candidate.write_text(
        PAIR.replace(
            "explore: 0.5", "explore: 0\npolicy: {name: threshold, strong: traveller, weak: counter, threshold: -1}"
        )
    )
    status, said, complained = await consilium("eval", "ope", "-r", candidate, "--state", tmp_path / "state", "--json")
    assert status == 0, complained
    found = orjson.loads(said)
    assert found["n"] == 120
    assert found["unsupported"] == 0
    assert found["snips"]["value"] == 1.0
    assert found["ips"]["value"] == pytest.approx(agreed / 120 / 0.25, abs=1e-3)
    assert found["ips"]["low"] < found["ips"]["value"] < found["ips"]["high"]
    assert found["logged"]["value"] == pytest.approx(agreed / 120, abs=1e-3)
    assert found["gain"]["low"] > 0.2
    worse = tmp_path / "worse.yaml"
    worse.write_text(
        candidate.read_text().replace("strong: traveller, weak: counter", "strong: counter, weak: traveller")
    )
    status, said, complained = await consilium("eval", "ope", "-r", worse, "--state", tmp_path / "state", "--json")
    assert (status, orjson.loads(said)["gain"]["value"] < 0) == (1, True), complained
