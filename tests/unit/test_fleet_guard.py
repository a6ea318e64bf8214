"""Nothing outlives its owner: guarded processes, their children, and every way to end them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experts.errors import ConfigError, ExpertDown
from experts.fleet import guard
from experts.fleet.fleet import Fleet, State
from experts.fleet.process import Task, check_port, start, tail

FAMILY = """
import os, signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
"""A process with a child that ignores SIGTERM; prints both pids once both are there."""

WEB = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *args): pass
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for burial does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def guarded(*words: str, grace: str = "0.2") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", guard.__file__, grace, "--", sys.executable, "-c", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    running = guarded(FAMILY, "stubborn")
    assert running.stdout is not None
    assert running.stdin is not None
    pids = [int(word) for word in running.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    yield running, pids
    running.kill()
    running.wait(10)
    running.stdout.close()
    if not running.stdin.closed:
        running.stdin.close()


def test_closing_the_pipe_ends_the_whole_family(family: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    running, pids = family
    assert running.stdin is not None
    running.stdin.close()
    assert running.wait(10) == 128 + signal.SIGKILL
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_whole_family(
    family: tuple[subprocess.Popen[bytes], list[int]], number: signal.Signals
) -> None:
    running, pids = family
    running.send_signal(number)
    running.wait(10)
    assert not any(alive(pid) for pid in pids)


def test_an_owner_killed_outright_leaves_nobody_behind() -> None:
    owner_code = (
        "import subprocess, sys\n"
        f"g = subprocess.Popen([sys.executable, '-P', {guard.__file__!r}, '0.2', '--', sys.executable, '-c', "
        f"{FAMILY!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "print(g.pid, g.stdout.readline().decode(), flush=True)\n"
        "g.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", owner_code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 3
        fds = [os.pidfd_open(pid) for pid in pids]
        owner.kill()
        owner.wait(10)
        for fd in fds:
            assert wait_for_end(fd, 10)
            os.close(fd)


def test_a_guard_killed_outright_takes_its_command_along() -> None:
    running = guarded("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    assert running.stdout is not None
    assert running.stdin is not None
    fd = os.pidfd_open(int(running.stdout.readline()))
    running.kill()
    assert wait_for_end(fd, 10)
    os.close(fd)
    running.wait(10)
    running.stdout.close()
    running.stdin.close()


def wait_for_end(fd: int, seconds: float) -> bool:
    import select

    return bool(select.select([fd], [], [], seconds)[0])


def test_a_command_that_ends_by_itself_passes_its_status_on_and_leaves_no_children() -> None:
    code = (
        "import subprocess, sys\n"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "child = subprocess.Popen(sleeper, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "sys.exit(7)\n"
    )
    running = guarded(code)
    assert running.stdin is not None
    assert running.stdout is not None
    child = int(running.stdout.readline())
    assert running.wait(10) == 7
    assert not alive(child)
    running.stdin.close()
    running.stdout.close()


def web(port: int, folder: Path, name: str = "web") -> Task:
    return Task(
        name, (sys.executable, "-c", WEB, str(port)), {}, f"http://127.0.0.1:{port}/health", folder / f"{name}.log"
    )


async def test_a_fleet_is_ready_when_every_task_answers_and_gone_when_the_block_ends(
    tmp_path: Path, free_port: int
) -> None:
    async with Fleet([web(free_port, tmp_path)]) as fleet:
        seen: list[State] = []
        await fleet.ready(30, lambda standings: seen.append(standings[0].state))
        assert seen[-1] is State.READY
        with pytest.raises(ConfigError, match=f"port {free_port} for the gateway is taken .*: use --port"):
            check_port("127.0.0.1", free_port, "the gateway", "use --port")
    check_port("127.0.0.1", free_port, "the gateway", "use --port")
    assert "listening" in tail(tmp_path / "web.log")


async def test_a_task_that_ends_at_start_is_shown_with_its_last_words(tmp_path: Path, free_port: int) -> None:
    code = "import sys; print('first'); print('no such weights: /w'); sys.exit(3)"
    task = Task("bad", (sys.executable, "-c", code), {}, f"http://127.0.0.1:{free_port}/", tmp_path / "bad.log")
    with pytest.raises(ExpertDown) as caught:
        async with Fleet([task]) as fleet:
            await fleet.ready(30)
    assert "bad ended with status 3" in caught.value.message
    assert "no such weights: /w" in caught.value.message
    assert str(tmp_path / "bad.log") in caught.value.message


async def test_a_task_that_is_never_ready_is_given_up_and_stopped(tmp_path: Path, free_port: int) -> None:
    said = tmp_path / "said"
    os.mkfifo(said)
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    task = Task(
        "slow", (sys.executable, "-c", code, str(said)), {}, f"http://127.0.0.1:{free_port}/", tmp_path / "slow.log"
    )
    async with Fleet([task]) as fleet:
        pid = int(await asyncio.to_thread(said.read_text))  # it runs, however long its start took
        with pytest.raises(ExpertDown, match=r"slow was not ready within 1 s \(GET http"):
            await fleet.ready(1)
    assert not alive(pid)


async def test_one_that_ends_later_is_told_apart(tmp_path: Path, free_port: int) -> None:
    async with Fleet([web(free_port, tmp_path)]) as fleet:
        await fleet.ready(30)
        (standing,) = fleet.standing()
        assert standing.state is State.READY
        waiting = asyncio.create_task(fleet.until_one_ends())
        os.kill(_command_of(fleet._processes[0].pid), signal.SIGKILL)  # pyright: ignore[reportPrivateUsage]
        ended = await asyncio.wait_for(waiting, 10)
        assert ended.status == 128 + signal.SIGKILL
        assert "web ended with status 137" in ended.failure().message


def _command_of(guard_pid: int) -> int:
    return int(Path(f"/proc/{guard_pid}/task/{guard_pid}/children").read_text().split()[0])


async def test_a_cancelled_wait_still_stops_everything(tmp_path: Path, free_port: int) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    task = Task("slow", (sys.executable, "-c", code), {}, f"http://127.0.0.1:{free_port}/", tmp_path / "slow.log")
    said = asyncio.Event()

    async def session() -> None:
        async with Fleet([task]) as fleet:
            await fleet.ready(60, lambda _: said.set() if tail(task.log).isdigit() else None)

    running = asyncio.create_task(session())
    await asyncio.wait_for(said.wait(), 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(int(tail(task.log)))


async def test_output_of_an_earlier_run_is_not_mistaken_for_this_ones(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "x.log").write_text("old\n")
    process = await start(
        Task("x", (sys.executable, "-c", "print('new')"), {}, f"http://127.0.0.1:{free_port}/", tmp_path / "x.log")
    )
    assert await process.ended() == 0
    await process.stop()
    assert tail(tmp_path / "x.log") == "new"
    assert tail(tmp_path / "none.log") == "(no output)"
