"""The relay through a real gateway, and over a real vLLM."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.integration.conftest import Start

SCRIPTED = """
kind: expert
name: {name}
provider: scripted
description: {name}
{script}
"""
ROUTE = "kind: route\nname: {name}\nexperts: [{experts}]\nestimator: prior\ndefault: {first}\ncomposer: {composer}\n"
TWO = "---".join([
    SCRIPTED.format(name="a", script="text: one two three\nunsure: {two: 0.2}"),
    SCRIPTED.format(name="b", script="text: un deux trois"),
    "\n" + ROUTE.format(name="auto", experts="a, b", first="a", composer="{name: relay, stretch: 1}"),
])  # fmt: skip


async def test_spans_come_on_request_and_are_counted(start: Start) -> None:
    served = await start(TWO)
    told = orjson.loads(await (await served.chat(consilium={"voices": True})).read())
    text = told["choices"][0]["message"]["content"]
    assert text == "one deux three"
    spans = [(s["expert"], text[s["start"] : s["end"]]) for s in told["consilium"]["spans"]]
    assert spans == [("a", "one "), ("b", "deux "), ("a", "three")]
    assert told["usage"]["completion_tokens"] >= 3
    assert "spans" not in orjson.loads(await (await served.chat(consilium=True)).read())["consilium"]
    metrics = await (await served.get(f"{served.url}/metrics")).text()
    assert 'consilium_spoken_tokens_total{expert="b"} 2.0' in metrics


async def test_a_stream_tells_the_speaker_before_the_words(start: Start) -> None:
    served = await start(TWO)
    reply = await served.chat(stream=True, consilium={"voices": True})
    events = [orjson.loads(line[6:]) for line in (await reply.text()).splitlines() if line.startswith("data: {")]
    said: list[str] = []
    for event in events:
        progress = (event.get("consilium") or {}).get("progress")
        said += [f"<{progress['expert']}>"] if progress and progress["event"] == "speaking" else []
        said += [choice["delta"].get("content") or "" for choice in event["choices"]]
    assert "".join(said) == "<a>one <b>deux <a>three"


VLLM = "kind: expert\nname: {name}\nprovider: vllm\nmodel: pocket-{name}\nendpoints: [{url}]\ndescription: {name}\n"
WEIGHTS = "weights: {geo: 9, text: 1}"


@pytest.mark.vllm
async def test_the_three_modes_over_one_vllm(start: Start, pocket_server: Any) -> None:
    modes = {"one": "{name: single}", "cold": "{name: relay, threshold: 0}", "warm": "{name: relay, threshold: 0.9}",
             "token": f"{{name: relay, mode: token, {WEIGHTS}}}",
             "verify": f"{{name: relay, mode: verify, {WEIGHTS}}}"}  # fmt: skip
    texts = [VLLM.format(name=name, url=pocket_server.url) for name in ("geo", "text")]
    texts += [ROUTE.format(name=n, experts="geo, text", first="geo", composer=c) for n, c in modes.items()]
    served = await start("---\n".join(texts))

    async def said(model: str, question: str) -> dict[str, Any]:
        reply = await served.chat(question, model=model, temperature=0, max_tokens=80, consilium={"voices": True})
        found = orjson.loads(await reply.read())
        assert reply.status == 200, found
        return {"text": found["choices"][0]["message"]["content"], **found["consilium"]}

    for question in ("What is the capital of Peru?", "Name the capital of Kenya."):
        alone, cold = await said("one", question), await said("cold", question)
        assert cold["text"] == alone["text"]
        assert cold["compose"]["hand_overs"] == 0
        token, verify = await said("token", question), await said("verify", question)
        assert (verify["text"], verify["spans"]) == (token["text"], token["spans"])
        assert verify["compose"]["rounds"] < token["compose"]["rounds"]
    beyond = await said("warm", "Reverse the word planet.")
    assert beyond["compose"]["hand_overs"] >= 1
    assert {span["expert"] for span in beyond["spans"]} == {"geo", "text"}
    assert beyond["spans"][-1]["end"] == len(beyond["text"])
