"""What every test may use, and what no test may do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType

import hypothesis
import pytest
import pytest_asyncio

from experts.errors import ConfigError

hypothesis.settings.register_profile("busy", deadline=None)  # the machine may be busy: no test depends on its speed
hypothesis.settings.load_profile("busy")
ROOT = Path(__file__).resolve().parent.parent
LOCAL_NAMES = frozenset({"", "localhost", "0.0.0.0", "::"})


def data_folder_path() -> Path:
    return Path(os.environ.get("CONSILIUM_DATA") or ROOT.parent / "shared" / "data")


def _no_vllm() -> str:
    from experts.fleet.command import installed_engine

    try:
        installed_engine()
    except ConfigError as fault:
        return fault.message
    return ""


def _no_redis() -> str:
    return "" if shutil.which("redis-server") else "redis-server is not installed"


def _no_data() -> str:
    return "" if data_folder_path().is_dir() else f"{data_folder_path()} is not there (CONSILIUM_DATA names the folder)"


def _no_browser() -> str:
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""


LACKING: Mapping[str, Callable[[], str]] = MappingProxyType(
    {"vllm": _no_vllm, "redis": _no_redis, "data": _no_data, "browser": _no_browser}
)
"""For each marker of an optional part: what this machine lacks for it, in words; empty where it lacks nothing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder in ("integration", "e2e"):
            if folder in item.path.relative_to(ROOT).parts:
                item.add_marker(folder)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """An optional part that is not here skips a test on a laptop, and fails it where CONSILIUM_REQUIRE=all."""
    for marker, lacking in LACKING.items():
        if item.get_closest_marker(marker) is None:
            continue
        reason = lacking()
        if reason and os.environ.get("CONSILIUM_REQUIRE") == "all":
            pytest.fail(f"{reason}, and with CONSILIUM_REQUIRE=all nothing may be skipped", pytrace=False)
        if reason:
            pytest.skip(reason)


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or host in LOCAL_NAMES:
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _only_this_machine(event: str, args: tuple[object, ...]) -> None:
    """An audit hook: a test that reaches for another machine fails, instead of depending on the weather."""
    host: object = None
    match event, args:
        case "socket.getaddrinfo", (asked, *_):
            host = asked
        case "socket.connect", (socket.socket() as used, (asked, *_)) if used.type != socket.SOCK_DGRAM:
            host = asked
        case _:
            return
    if not _is_local(host):
        pytest.fail(f"a test reached for {host!r}: only this machine may be called")


def pytest_configure() -> None:
    sys.addaudithook(_only_this_machine)


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The shared data. Tests that use it carry the marker `data`."""
    return data_folder_path()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis that keeps nothing. Tests that use it carry the marker `redis`."""
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        while "eady to accept connections" not in (line := server.stdout.readline()):
            assert line, "redis-server ended before it was ready"
        yield f"unix://{path}"
        server.terminate()


@dataclass(frozen=True)
class PocketServer:
    """The pocket experts on a real vLLM. `url` ends in /v1; `models` are the names it serves."""

    url: str
    models: tuple[str, ...]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pocket_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PocketServer]:
    """One vLLM for all tests, ready. Tests that use it carry the marker `vllm`."""
    from experts.fleet.command import installed_engine
    from experts.fleet.fleet import Fleet
    from experts.fleet.placement import place
    from registry.load import load
    from router.cli.placing import POCKET_URL, pocket_folder, residences, server_task

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    registry = load(pocket_folder() / "registry.yaml", environ={**os.environ, POCKET_URL: url})
    (server,) = place(residences(registry))
    async with Fleet([server_task(server, installed_engine(), tmp_path_factory.mktemp("pocket"))]) as fleet:
        await fleet.ready(540)
        yield PocketServer(url, tuple(name for name, _ in server.adapters))


@dataclass(frozen=True)
class FusedServer:
    """The fused pocket model on a real vLLM. `url` ends in /v1; `folder` is the checkpoint that it serves."""

    url: str
    model: str
    folder: Path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fused_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FusedServer]:
    """One vLLM for all tests of fusion. It cuts prompts into chunks of 32 tokens, and caches prefixes by 32."""
    from experts.fleet.command import installed_engine
    from experts.fleet.fleet import Fleet
    from experts.fleet.placement import place
    from registry.load import load
    from router.cli.placing import FUSED, FUSED_URL, fused_checkpoint, pocket_folder, residences, server_task

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    logs = tmp_path_factory.mktemp("fused")
    folder = fused_checkpoint(logs)
    registry = load(pocket_folder() / "registry.yaml", environ={**os.environ, FUSED: str(folder), FUSED_URL: url})
    server = next(one for one in place(residences(registry, fused=True)) if one.model == str(folder))
    more = ("--max-num-batched-tokens", "32", "--max-num-seqs", "16", "--block-size", "32",
            "--enable-prompt-tokens-details")  # fmt: skip
    server = replace(server, args=(*server.args, *more))
    async with Fleet([server_task(server, installed_engine(), logs)]) as fleet:
        await fleet.ready(540)
        yield FusedServer(url, server.served_as[0], folder)
