"""The gateway over HTTP: what clients send, what they get back, what experts see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from time import time
from typing import Any

import aiohttp
import orjson
import pytest

from experts.errors import RegistryError
from router.keys import Key, Keys
from tests.integration.conftest import Start, Upstream

Upstreams = Callable[[], Awaitable[Upstream]]

pytestmark = pytest.mark.integration

TWO = """
kind: expert
name: poet
provider: scripted
text: Roses are red.
---
kind: expert
name: clerk
provider: scripted
text: Form 27b.
---
kind: route
name: auto
experts: [poet, clerk]
estimator: prior
"""


def vllm(name: str, *urls: str, model: str = "m", **more: Any) -> str:
    extra = "\n".join(f"{key}: {orjson.dumps(value).decode()}" for key, value in more.items())
    return f"kind: expert\nname: {name}\nprovider: vllm\nmodel: {model}\nendpoints: {list(urls)}\n{extra}\n"


def keyring(**keys: Key) -> Keys:
    return Keys((f"sha256:{sha256(token.encode()).hexdigest()}", key) for token, key in keys.items())


async def events(reply: aiohttp.ClientResponse) -> list[str]:
    text = (await reply.read()).decode()
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]


async def test_a_named_expert_answers_with_its_name_in_body_and_headers(start: Start, upstreams: Upstreams) -> None:
    upstream = await upstreams()
    served = await start(vllm("greeter", upstream.url))
    reply = await served.chat(model="greeter", consilium={"explain": False})
    body = await reply.json()
    assert reply.status == 200
    assert body["choices"][0]["message"]["content"] == "Hello there."
    assert body["model"] == "greeter"
    assert reply.headers["x-consilium-expert"] == "greeter"
    assert "x-consilium-route" not in reply.headers
    assert reply.headers["x-consilium-decision-id"] == upstream.headers[0]["x-request-id"]
    assert upstream.bodies[0]["model"] == "m"
    assert "consilium" not in upstream.bodies[0]


async def test_unknown_fields_travel_untouched_both_ways(start: Start, upstreams: Upstreams) -> None:
    upstream = await upstreams()
    served = await start(vllm("greeter", upstream.url))
    sent = {"priority": 3, "cache_salt": "s", "top_k": 5, "guided_json": {"b": 1, "a": [1.0, 2]}, "x_new": None,
            "chat_template_kwargs": {"thinking": True}, "logit_bias": {"5": -100}}  # fmt: skip
    body = await (await served.chat(model="greeter", **sent)).json()
    assert {key: upstream.bodies[0][key] for key in sent} == sent
    assert b'"guided_json":{"b":1,"a":[1.0,2]}' in upstream.raw[0].replace(b" ", b"")
    assert body["choices"][0]["message"]["reasoning"] == "greeting"
    assert body["choices"][0]["stop_reason"] is None


async def test_a_stream_is_relayed_event_by_event(start: Start, upstreams: Upstreams) -> None:
    upstream = await upstreams()
    served = await start(vllm("greeter", upstream.url))
    reply = await served.chat(model="greeter", stream=True)
    found = await events(reply)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert found[-1] == "[DONE]"
    chunks = [orjson.loads(event) for event in found[:-1]]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "Hello there."
    assert chunks[1]["choices"][0]["token_ids"] == [7]
    assert {chunk["model"] for chunk in chunks} == {"greeter"}
    assert not [chunk for chunk in chunks if "usage" in chunk], "usage was not asked for"
    assert upstream.bodies[0]["stream_options"] == {"include_usage": True}
    (line,) = served.lines()
    assert (line["prompt_tokens"], line["completion_tokens"]) == (3, 2)


async def test_usage_is_in_the_stream_when_asked_for(start: Start, upstreams: Upstreams) -> None:
    served = await start(vllm("greeter", (await upstreams()).url))
    found = await events(await served.chat(model="greeter", stream=True, stream_options={"include_usage": True}))
    last = orjson.loads(found[-2])
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 5


async def test_the_first_event_leaves_before_the_second_arrives(start: Start, upstreams: Upstreams) -> None:
    upstream = await upstreams()
    upstream.hold = asyncio.Event()
    served = await start(vllm("greeter", upstream.url))
    reply = await served.chat(model="greeter", stream=True)
    first = await reply.content.readuntil(b"\n\n")
    assert b"assistant" in first
    upstream.hold.set()
    assert b"[DONE]" in await reply.read()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_the_work(start: Start, upstreams: Upstreams, stream: bool) -> None:
    upstream = await upstreams()
    upstream.hold = asyncio.Event()
    served = await start(vllm("greeter", upstream.url))
    asking = asyncio.create_task(served.chat(model="greeter", stream=stream))
    await upstream.arrived.wait()
    if stream:
        reply = await asking
        await reply.content.readuntil(b"\n\n")
        reply.close()
    else:
        asking.cancel()
    async with asyncio.timeout(5):
        await upstream.gone.wait()
    in_flight = served.gateway.router.telemetry.in_flight
    async with asyncio.timeout(5):
        await served.get(f"{served.url}/healthz")  # a turn of the loop later the run is recorded
        while in_flight._value.get():  # pyright: ignore[reportPrivateUsage]
            await served.get(f"{served.url}/healthz")
    (line,) = served.lines()
    assert (line["status"], line["expert"], line["attempts"]) == (499, "greeter", 1)


async def test_the_explanation_comes_on_request(start: Start) -> None:
    served = await start(TWO)
    plain = await (await served.chat()).json()
    assert "consilium" not in plain
    body = await (await served.chat(consilium={"explain": True})).json()
    found = body["consilium"]
    assert found["route"] == "auto"
    assert found["expert"] == found["plan"]["seats"][0]["expert"]
    assert {row["expert"] for row in found["estimates"]} == {"poet", "clerk"}
    assert found["usage"].items() <= body["usage"].items()
    streamed = await events(await served.chat(stream=True, consilium=True))
    assert orjson.loads(streamed[-2])["consilium"]["route"] == "auto"


async def test_route_explains_and_asks_nobody(start: Start) -> None:
    served = await start(TWO)
    reply = await served.post(f"{served.url}/v1/route", json={"query": "a form, please"})
    found = await reply.json()
    assert found["route"] == "auto"
    assert found["plan"]["composer"] == "single"
    assert len(found["plan"]["seats"]) == 1
    assert set(found["estimates"][0]) >= {"expert", "quality", "uncertainty", "cost_usd", "latency_ms"}
    assert found["reason"]
    assert all(expert.load().in_flight == 0 for expert in served.gateway.router.snapshot.experts.values())
    assert not served.lines()


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ("[1]", 400, None),
        ('{"model": "auto"', 400, None),
        ('{"messages": []}', 400, "model"),
        ('{"model": "auto"}', 400, "messages"),
        ('{"model": "auto", "messages": []}', 400, "messages"),
        ('{"model": "auto", "messages": [{"content": "x"}]}', 400, "messages[0].role"),
        ('{"model": "auto", "messages": [{"role": "user", "content": 5}]}', 400, "messages[0].content"),
        ('{"model": "auto", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', 400, "temperature"),
        ('{"model": "auto", "messages": [{"role": "user", "content": "x"}], "max_tokens": -1}', 400, "max_tokens"),
        ('{"model": "auto", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}', 400, "stream"),
        ('{"model": "auto", "messages": [{"role": "user", "content": "x"}], "consilium": {"budgt": 1}}', 400,
         "consilium.budgt"),
        ('{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}', 404, "model"),
        ('{"model": "auto:tidy", "messages": [{"role": "user", "content": "x"}]}', 404, "model"),
    ],
)  # fmt: skip
async def test_a_bad_request_names_the_field(start: Start, body: str, status: int, param: str | None) -> None:
    served = await start(TWO)
    reply = await served.post(f"{served.url}/v1/chat/completions", data=body,
                                     headers={"content-type": "application/json"})  # fmt: skip
    error = (await reply.json())["error"]
    assert (reply.status, error["param"]) == (status, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["code"]


async def test_a_body_longer_than_the_bound_is_refused(start: Start) -> None:
    served = await start(TWO, max_body_bytes=2000)
    reply = await served.chat("x" * 5000)
    assert reply.status == 413

    async def pieces() -> Any:
        for _ in range(50):
            yield b"x" * 1000

    reply = await served.post(f"{served.url}/v1/chat/completions", data=pieces(),
                                     headers={"content-type": "application/json"})  # fmt: skip
    assert reply.status == 413
    assert (await reply.json())["error"]["code"] == "request_too_large"


async def test_endpoints_that_do_not_exist(start: Start) -> None:
    served = await start(TWO)
    missing = await served.get(f"{served.url}/v1/nothing")
    wrong = await served.get(f"{served.url}/v1/chat/completions")
    assert (missing.status, wrong.status) == (404, 405)
    assert (await wrong.json())["error"]["code"] == "method_not_allowed"


async def test_models_lists_routes_first_then_experts(start: Start) -> None:
    served = await start(TWO)
    listed = (await (await served.get(f"{served.url}/v1/models")).json())["data"]
    assert all(abs(time() - row["created"]) < 3600 for row in listed)
    assert [row["id"] for row in listed] == ["auto", "poet", "clerk"]
    one = await (await served.get(f"{served.url}/v1/models/poet")).json()
    assert one["id"] == "poet"
    preset = await (await served.get(f"{served.url}/v1/models/auto:cheap")).json()
    assert (preset["id"], preset["kind"]) == ("auto:cheap", "route")
    for name in ("nobody", "auto:fast"):
        assert (await served.get(f"{served.url}/v1/models/{name}")).status == 404


async def test_a_spare_answers_when_the_first_expert_is_down(start: Start, upstreams: Upstreams) -> None:
    good = await upstreams()
    text = "---\n".join([
        vllm("broken", "http://127.0.0.1:9/v1"), vllm("fine", good.url),
        "kind: route\nname: auto\nexperts: [broken, fine]\nestimator: prior\ndefault: broken\n",
    ])  # fmt: skip
    served = await start(text)
    for stream in (False, True):
        reply = await served.chat(stream=stream)
        assert reply.status == 200
        assert reply.headers["x-consilium-expert"] == "fine"
        await reply.read()


async def test_all_down_is_a_clean_error_that_names_each(start: Start) -> None:
    text = vllm("one", "http://127.0.0.1:9/v1") + "---\n" + vllm("two", "http://127.0.0.1:9/v1")
    served = await start(text + "---\nkind: route\nname: auto\nexperts: '*'\nestimator: prior\n")
    reply = await served.chat(stream=True)
    error = (await reply.json())["error"]
    assert reply.status == 503
    assert "one" in error["message"]
    assert "two" in error["message"]


async def test_a_stream_that_breaks_ends_in_an_error_event(start: Start, upstreams: Upstreams) -> None:
    upstream = await upstreams()
    upstream.cut = True
    upstream.events = [b'data: {"choices":[{"index":0,"delta":{"content":"He"},"finish_reason":null}]}\n\n']
    served = await start(vllm("greeter", upstream.url))
    reply = await served.chat(model="greeter", stream=True)
    found = await events(reply)
    assert reply.status == 200
    assert "error" in orjson.loads(found[-1])
    assert "[DONE]" not in found
    assert served.lines()[0]["status"] == 502


async def test_a_reward_model_alone_makes_no_gateway_ready(start: Start) -> None:
    text = vllm("one", "http://127.0.0.1:9/v1") + "---\n" + vllm("judge", "http://127.0.0.1:9/v1", reward=True)
    served = await start(text)
    ready = await served.get(f"{served.url}/readyz")
    assert (ready.status, await ready.json()) == (200, {"status": "ready", "experts_up": 1, "experts": 1})
    statuses = [(await served.chat(model="one")).status for _ in range(10)]
    assert set(statuses) == {503}
    unready = await served.get(f"{served.url}/readyz")
    assert (unready.status, "none of the 1 experts" in await unready.text()) == (503, True)


async def test_the_experts_own_refusal_reaches_the_caller(start: Start, upstreams: Upstreams) -> None:
    upstream = await upstreams()
    upstream.status, upstream.reply = 400, b'{"error":{"message":"too long","type":"BadRequestError","code":400}}'
    served = await start(vllm("greeter", upstream.url))
    reply = await served.chat(model="greeter")
    assert (reply.status, (await reply.json())["error"]["message"]) == (400, "too long")
    upstream.status, upstream.reply = 429, b'{"error":{"message":"busy"}}'
    upstream.reply_headers = {"retry-after": "7"}
    reply = await served.chat(model="greeter")
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    upstream.status, upstream.reply = 401, b'{"error":{"message":"bad key sk-secret"}}'
    reply = await served.chat(model="greeter")
    assert reply.status == 502
    assert "sk-secret" not in await reply.text()


async def test_keys_guard_every_endpoint_but_health(start: Start) -> None:
    served = await start(TWO, keys=keyring(good=Key("g")), admin_key="boss")
    for path in ("/v1/models", "/metrics", "/", "/v1/experts"):
        assert (await served.get(served.url + path)).status == 401
        ok = await served.get(served.url + path, headers={"authorization": "Bearer good"})
        assert ok.status == 200
    assert (await served.get(served.url + "/healthz")).status == 200
    assert (await served.get(served.url + "/readyz")).status == 200
    bad = await served.get(served.url + "/v1/models", headers={"authorization": "Bearer bad"})
    assert (await bad.json())["error"]["code"] == "invalid_api_key"
    assert bad.headers["www-authenticate"] == "Bearer"


async def test_a_key_reaches_only_its_routes_and_experts(start: Start) -> None:
    keys = keyring(narrow=Key("n", frozenset({"auto"}), frozenset({"clerk"})))
    served = await start(TWO, keys=keys, headers={"authorization": "Bearer narrow"})
    listed = (await (await served.get(f"{served.url}/v1/models")).json())["data"]
    assert [row["id"] for row in listed] == ["auto", "clerk"]
    assert listed[0]["experts"] == ["clerk"]
    assert (await served.chat(model="poet")).status == 403
    for model, hint in (("clerq", "did you mean 'clerk'"), ("poe", "GET /v1/models")):
        said = (await (await served.chat(model=model)).json())["error"]["message"]
        assert hint in said
        assert "poet" not in said
    reply = await served.chat("a poem")
    assert reply.headers["x-consilium-expert"] == "clerk"


async def test_whoever_is_turned_away_leaves_a_line_and_is_counted(start: Start) -> None:
    served = await start(TWO, keys=keyring(good=Key("g")))
    assert (await served.get(f"{served.url}/v1/models", headers={"authorization": "Bearer guess"})).status == 401
    assert (await served.get(f"{served.url}/v1/nothing")).status == 404
    metrics = await served.get(f"{served.url}/metrics", headers={"authorization": "Bearer good"})
    assert 'consilium_refused_total{code="invalid_api_key",status="401"} 1.0' in await metrics.text()
    lines = [(line["path"], line["status"], line["error"]) for line in served.lines("refused")]
    assert lines == [("/v1/models", 401, "invalid_api_key"), ("/v1/nothing", 404, "not_found")]
    assert "guess" not in served.log_text.getvalue()


async def test_embeddings_of_an_expert_are_logged_as_they_ended(start: Start) -> None:
    served = await start(TWO + "---\nkind: expert\nname: torn\nprovider: scripted\nfail: {at: status}\n")
    url = f"{served.url}/v1/embeddings"
    good = await served.post(url, json={"model": "poet", "input": "x"}, headers={"x-request-id": "mine"})
    bad = await served.post(url, json={"model": "torn", "input": "x"})
    assert (good.status, bad.status) == (200, 502)
    assert good.headers["x-request-id"] == "mine"
    lines = [(line["expert"], line["status"]) for line in served.lines()]
    assert lines == [("poet", 200), ("torn", 502)]
    assert served.lines("refused") == []


async def test_limits_of_a_key(start: Start) -> None:
    served = await start(TWO, keys=keyring(slow=Key("s", rpm=2)), headers={"authorization": "Bearer slow"})
    statuses = [(await served.chat()).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    reply = await served.chat()
    assert int(reply.headers["retry-after"]) >= 1
    assert (await reply.json())["error"]["type"] == "rate_limit_error"


async def test_without_keys_a_web_page_cannot_reach_the_gateway(start: Start) -> None:
    served = await start(TWO, allowed_hosts=frozenset({"127.0.0.1", "localhost"}))
    assert (await served.chat()).status == 200
    rebound = await served.get(f"{served.url}/v1/models", headers={"host": "evil.example"})
    assert rebound.status == 403
    form = await served.post(f"{served.url}/v1/chat/completions", data=b"{}",
                                    headers={"content-type": "text/plain"})  # fmt: skip
    assert form.status == 400


async def test_metrics_count_requests_and_tokens(start: Start, upstreams: Upstreams) -> None:
    served = await start(vllm("greeter", (await upstreams()).url, price={"input": 1.0, "output": 2.0}))
    await (await served.chat(model="greeter")).read()
    text = await (await served.get(f"{served.url}/metrics")).text()
    assert 'consilium_requests_total{expert="greeter",route="direct",status="200"} 1.0' in text
    assert 'consilium_tokens_total{expert="greeter",kind="completion"} 2.0' in text
    assert 'consilium_cost_usd_total{expert="greeter"} 7e-06' in text
    assert 'consilium_expert_endpoints_up{expert="greeter"} 1.0' in text


async def test_a_log_line_holds_no_text_of_the_conversation(start: Start) -> None:
    served = await start(TWO, keys=keyring(hush=Key("h")), headers={"authorization": "Bearer hush"})
    await (await served.chat("my password is swordfish")).read()
    (line,) = served.lines()
    assert line["caller"] == "h"
    assert line["id"].startswith("dec-")
    said = served.log_text.getvalue()
    assert "swordfish" not in said
    assert "hush" not in said
    assert "Roses" not in said


async def test_hard_constraints(start: Start, upstreams: Upstreams) -> None:
    plain, seeing = await upstreams(), await upstreams()
    text = "---\n".join([
        vllm("plain", plain.url, context=100, tools=False, structured=False),
        vllm("seeing", seeing.url, modalities=["text", "image"]),
        "kind: route\nname: auto\nexperts: '*'\nestimator: prior\ndefault: plain\n",
    ])  # fmt: skip
    served = await start(text)
    image = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;,"}}]
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    for more in (
        {"messages": [{"role": "user", "content": image}]}, {"tools": [tool]},
        {"response_format": {"type": "json_object"}}, {"messages": [{"role": "user", "content": "long " * 200}]},
        {"max_tokens": 90, "messages": [{"role": "user", "content": "x " * 40}]},
    ):  # fmt: skip
        assert (await served.chat(**more)).headers["x-consilium-expert"] == "seeing", more
    assert (await served.chat()).headers["x-consilium-expert"] == "plain"
    audio = [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]
    reply = await served.chat(messages=[{"role": "user", "content": audio}])
    error = (await reply.json())["error"]
    assert (reply.status, error["code"]) == (400, "no_candidate")
    assert "does not take audio" in error["message"]


async def test_a_remembered_decision_does_not_outgrow_an_experts_context(start: Start) -> None:
    """The system message is no part of what is routed on, and yet it has to fit."""
    served = await start(TWO.replace("text: Roses are red.", "text: Roses are red.\ncontext: 100"))
    for length, left in ((270, {}), (450, {"poet"}), (270, {})):
        told = [{"role": "system", "content": "x" * length}, {"role": "user", "content": "hello"}]
        reply = await served.post(f"{served.url}/v1/route", json={"messages": told, "max_tokens": 20})
        found = await reply.json()
        assert set(found["excluded"]) == set(left), length


async def test_an_expert_is_no_spare_for_itself(start: Start) -> None:
    served = await start(TWO.replace("estimator: prior", "estimator: prior\nspares: [poet, clerk]"))
    reply = await served.post(f"{served.url}/v1/route", json={"query": "hello"})
    plan = (await reply.json())["plan"]
    assert len(plan["spares"]) == 1
    assert plan["seats"][0]["expert"] not in plan["spares"]


async def test_a_policy_that_names_a_stranger_is_refused_at_the_start(start: Start) -> None:
    wrong = TWO.replace("estimator: prior", "estimator: prior\npolicy: {name: threshold, strong: poet, weak: nobody}")
    with pytest.raises(RegistryError, match=r"route auto: .*nobody"):
        await start(wrong)
