"""Changing the registry of a running gateway: by editing files, and over REST."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from tests.integration.conftest import Start

pytestmark = pytest.mark.integration

POET = "kind: expert\nname: poet\nprovider: scripted\ntext: Roses.\n"
CLERK = "kind: expert\nname: clerk\nprovider: scripted\ntext: Form 27b.\nper_token_s: 0.05\n"
ROUTE = "kind: route\nname: auto\nexperts: '*'\nestimator: prior\n"


class Process:
    """`consilium serve` as a person runs it; lines of its log as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def line(self, event: str) -> dict[str, Any]:
        """The next log line of this kind."""
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while raw := await self.process.stderr.readline():
                if raw.startswith(b"{") and (found := orjson.loads(raw))["event"] == event:
                    return found
        raise AssertionError(f"the gateway ended before it said {event}")


@asynccontextmanager
async def serving(registry: Path, *flags: str, env: dict[str, str] | None = None) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router.cli", "serve", "--registry", str(registry), "--port", "0", *flags,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, **(env or {})},
    )  # fmt: skip
    served = Process(process)
    try:
        served.url = (await served.line("ready"))["url"]
        yield served
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0


async def ask(client: aiohttp.ClientSession, url: str, model: str) -> aiohttp.ClientResponse:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    reply = await client.post(f"{url}/v1/chat/completions", json=body)
    await reply.read()
    return reply


async def test_edits_of_files_take_force_without_losing_a_request(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "clerk.yaml").write_text(CLERK)
    async with serving(folder) as served, aiohttp.ClientSession() as client:
        assert (await ask(client, served.url, "poet")).status == 404
        under_way = asyncio.create_task(ask(client, served.url, "clerk"))
        (folder / "poet.yaml").write_text(POET)
        assert (await served.line("registry_adopted"))["experts"] == 2
        assert (await ask(client, served.url, "poet")).status == 200
        assert (await under_way).status == 200
        (folder / "poet.yaml").write_text(POET + "colour: red\n")
        refused = await served.line("registry_refused")
        assert any(re.search(r"poet\.yaml:5.*colour", problem) for problem in refused["problems"]), refused
        assert (await ask(client, served.url, "poet")).status == 200
        (folder / "poet.yaml").unlink()
        await served.line("registry_adopted")
        assert (await ask(client, served.url, "poet")).status == 404


async def test_experts_come_and_go_over_rest_and_stay_on_disk(start: Start) -> None:
    served = await start(POET + "---\n" + ROUTE, admin_key="boss")
    url, boss = f"{served.url}/v1/experts", {"authorization": "Bearer boss"}
    added = await served.post(url, data=CLERK, headers={**boss, "content-type": "application/yaml"})
    assert added.status == 201, await added.text()
    assert (await served.chat(model="clerk")).status == 200
    as_json = {"kind": "expert", "name": "third", "provider": "scripted", "text": "Three."}
    assert (await served.post(url, json=as_json, headers=boss)).status == 201
    again = await served.post(url, json=as_json, headers=boss)
    assert again.status == 422
    assert "already declared" in (await again.json())["error"]["message"]
    changed = await served.post(f"{url}?replace=true", json={**as_json, "text": "Four."}, headers=boss)
    assert changed.status == 201
    assert (await (await served.chat(model="third")).json())["choices"][0]["message"]["content"] == "Four."
    names = [document["name"] for document in yaml.safe_load_all(served.path.read_text())]
    assert names == ["poet", "auto", "clerk", "third"]
    gone = await served.client.delete(f"{url}/third", headers=boss)
    await gone.read()
    assert gone.status == 200
    assert (await served.chat(model="third")).status == 404


async def test_rest_edits_want_the_admin_key_and_cannot_run_or_read_anything(start: Start) -> None:
    closed = await start(POET)
    assert (await closed.post(f"{closed.url}/v1/experts", data=CLERK)).status == 403
    served = await start(POET, admin_key="boss")
    url, boss = f"{served.url}/v1/experts", {"authorization": "Bearer boss"}
    assert (await served.post(url, data=CLERK)).status == 403
    async with served.client.delete(f"{url}/poet") as refused:
        assert refused.status == 403
    before = served.path.read_text()
    for more in ("serve: {model: ./x}\n", "description: ${HOME}\n", "price: {input: -1}\n"):
        refused = await served.post(url, data=CLERK + more, headers=boss)
        assert refused.status == 422, more
        assert str(Path.home()) not in await refused.text()
    thief = {"kind": "expert", "name": "thief", "provider": "litellm", "model": "openai/x", "api_base": "http://x/v1"}
    assert (await served.post(url, json=thief, headers=boss)).status == 400
    assert served.path.read_text() == before


async def test_a_secret_never_leaves(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERT_KEY", "sk-very-secret")
    text = (
        "kind: expert\nname: far\nprovider: vllm\nmodel: m\nendpoints: [http://127.0.0.1:9/v1]\n"
        "api_key: ${EXPERT_KEY}\nheaders: {x-team: '${EXPERT_KEY}'}\n"
    )
    served = await start(text, admin_key="boss")
    seen = await (await served.get(f"{served.url}/v1/experts")).text()
    seen += await (await served.chat(model="far")).text()
    seen += await (await served.get(f"{served.url}/metrics")).text()
    served.gateway.router.telemetry.log.flush()
    assert "sk-very-secret" not in seen + served.log_text.getvalue()
    assert "far" in seen
