"""The command line, as a process: what it prints, and with which status it ends."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from router.cli.app import app
from router.keys import hash_of

HEAVY = ("torch", "vllm", "faiss", "onnxruntime", "litellm", "aiohttp", "numpy", "uvicorn")
COMMANDS = ("up", "serve", "ask", "route", "experts", "check", "keys", "encoder", "index", "version")


def consilium(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router.cli", *words],
        capture_output=True, text=True, timeout=120, env={**os.environ, "TERM": "dumb", **env}, check=False,
    )  # fmt: skip


@dataclass
class Ended:
    status: int
    out: str
    err: str


async def consilium_async(*words: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router.cli", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_itself(command: str) -> None:
    said = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"})
    assert said.exit_code == 0
    assert "Usage:" in said.output


def test_every_command_is_listed() -> None:
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"})
    assert all(re.search(rf"│ {command} ", said.output) for command in COMMANDS)


@pytest.mark.parametrize("words", [("--help",), ("serve", "--help"), ("version", "--json"), ("keys", "new", "x")])
def test_looking_at_the_command_line_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from router.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"


def test_an_unknown_command_and_an_unknown_flag_are_wrong_usage() -> None:
    assert consilium("frobnicate").returncode == 2
    assert consilium("serve", "--prot", "1").returncode == 2


def test_a_wrong_setting_is_explained_without_a_traceback(tmp_path: Path) -> None:
    ended = consilium("serve", "--registry", str(tmp_path), CONSILIUM_PORT="eighty")
    assert ended.returncode == 2
    assert "CONSILIUM_PORT: " in ended.stderr
    assert "'eighty'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_version_says_what_is_installed() -> None:
    found = json.loads(consilium("version", "--json").stdout)
    assert found["consilium"] == "0.1.0"
    assert found["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert "onnxruntime" in consilium("version").stdout


def test_a_new_key_comes_with_the_entry_that_admits_it() -> None:
    made = json.loads(consilium("keys", "new", "ci", "--json").stdout)
    assert made["entry"]["hash"] == hash_of(made["key"])
    shown = consilium("keys", "new", "ci")
    key = shown.stderr.splitlines()[1]
    assert f"  hash: {hash_of(key)}" in shown.stdout
    assert shown.stdout.startswith("- name: ci"), "what goes to a keys file is the entry alone"
    assert key not in shown.stdout


def test_only_what_needs_an_export_is_exported() -> None:
    ended = consilium("encoder", "export", "--runtime", "torch")
    assert ended.returncode == 2
    assert "--runtime: expected onnx-int8 or onnx, got 'torch'" in ended.stderr


def test_a_gateway_that_is_not_there_has_a_status_of_its_own(free_port: int) -> None:
    ended = consilium("ask", "--url", f"http://127.0.0.1:{free_port}", "hello")
    assert ended.returncode == 3
    assert "start one with `consilium up`" in ended.stderr
    assert consilium("ask", "--url", "ftp://127.0.0.1", "hello").returncode == 2


def test_a_command_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    info = tmp_path / "extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[consilium.commands]\ngreet = extra_app:app\nlost = extra_none:app\n")
    (tmp_path / "extra_app.py").write_text(
        "import typer\napp = typer.Typer()\n@app.command()\ndef hello(name: str) -> None:\n"
        "    '''Say hello.'''\n    print('hello', name)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert consilium("greet", "you", PYTHONPATH=path).stdout == "hello you\n"
    listed = consilium("--help", PYTHONPATH=path, COLUMNS="120").stdout
    assert "Say hello." in listed
    assert "not usable here" in listed
    assert consilium("lost", PYTHONPATH=path).returncode == 2


Say = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Gateway:
    """A server that takes what the command line sends, and says what the test wants."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    keys: list[str | None] = field(default_factory=list[str | None])
    say: Say | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        assert self.say is not None
        return await self.say(request)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    found = Gateway()
    site = web.Application()
    site.router.add_post("/v1/chat/completions", found.answer)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


def stream(*events: str) -> Say:
    async def say(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(f"data: {event}\n\n".encode())
        return response

    return say


def piece(text: str) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})


async def test_ask_streams_the_answer_and_says_who_gave_it(gateway: Gateway) -> None:
    decided = json.dumps({"choices": [], "consilium": {"expert": "calc", "route": "auto", "confidence": 0.972}})
    gateway.say = stream(piece("17 * 23 "), piece("= 391"), decided, "[DONE]")
    ended = await consilium_async(
        "ask", "--url", gateway.url, "--key", "k", "--max-tokens", "9", "-s", "be brief", "17*23?"
    )
    assert (ended.status, ended.out) == (0, "17 * 23 = 391\n")
    assert "calc, by route auto (confidence 0.97)" in ended.err
    (body,) = gateway.bodies
    assert body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "17*23?"}]
    assert (body["model"], body["stream"], body["max_tokens"]) == ("auto", True, 9)
    assert "temperature" not in body
    assert gateway.keys == ["Bearer k"]


async def test_ask_json_prints_the_response_as_it_came(gateway: Gateway) -> None:
    async def say(request: web.Request) -> web.Response:
        return web.json_response({"id": "x", "consilium": {"expert": "calc"}})

    gateway.say = say
    ended = await consilium_async("ask", "--json", "--model", "calc", "--url", gateway.url, "hi")
    assert json.loads(ended.out) == {"id": "x", "consilium": {"expert": "calc"}}
    assert gateway.bodies[0]["model"] == "calc"


async def test_an_error_of_the_gateway_is_shown_and_has_a_status_of_its_own(gateway: Gateway) -> None:
    async def say(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "model 'x' [is] not known", "type": "t"}}, status=404)

    gateway.say = say
    ended = await consilium_async("ask", "--url", gateway.url, "--model", "x", "hi")
    assert ended.status == 4
    assert "the gateway answered 404: model 'x' [is] not known" in ended.err


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(gateway: Gateway) -> None:
    gateway.say = stream(piece("17 *"))
    broken = await consilium_async("ask", "--url", gateway.url, "hi")
    assert broken.status == 3
    gateway.say = stream(piece("17 *"), json.dumps({"error": {"message": "expert gone"}}))
    failed = await consilium_async("ask", "--url", gateway.url, "hi")
    assert failed.status == 4
    assert "expert gone" in failed.err
