"""Running a program that a model wrote: a child process with limits, in an empty folder, without a network.

What holds everywhere: `python -I` in a fresh temporary folder with an empty environment; limits of the system on CPU
seconds, memory, file size, open files and processes; a wall clock after which the whole process group is killed.
Where the system allows it (`unshare` of util-linux, as root or with user namespaces): a network namespace without any
interface, and a process namespace whose every process dies with the first. Where it does not, `Isolation.network` says
so, and the network is not cut. Under root the program runs as nobody (`setpriv`), who can write nowhere else; where
nobody cannot read this Python, it is let read every file. Files that can be read stay readable: this keeps accidents
and careless programs in, not an attacker; run strangers' models in a container.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

NOBODY = 65534
MOST_OUTPUT = 64 * 1024
MOST_FILE = 16 * 2**20

PRELUDE = """
import os, resource, sys
for what, most in (("RLIMIT_CPU", {cpu}), ("RLIMIT_AS", {memory}), ("RLIMIT_FSIZE", {file}), ("RLIMIT_NOFILE", 64),
                   ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", {processes})):
    kind = getattr(resource, what)
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))
source = sys.stdin.buffer.read().decode("utf-8")
sys.stdin = open(os.devnull)
exec(compile(source, "answer.py", "exec"), {{"__name__": "__main__", "__builtins__": __builtins__}})
"""


class Limits(NamedTuple):
    """`wall_s` and `cpu_s` in seconds, `memory` in bytes."""

    wall_s: float = 10.0
    cpu_s: int = 10
    memory: int = 1024 * 2**20
    processes: int = 32


class Isolation(NamedTuple):
    """What this machine allows: the command that runs a program apart, whether it makes it nobody, and whether it cuts
    the network."""

    command: tuple[str, ...]
    drop: bool
    network: bool


class Ran(NamedTuple):
    """`status` is None where the time ran out; `output` the end of what was printed, both streams."""

    status: int | None
    output: str


async def isolation() -> Isolation:
    """The strongest that works here, found by trying."""
    apart = ("--net", "--pid", "--fork", "--kill-child")
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    cut = [(unshare, *apart), (unshare, "--user", "--map-root-user", *apart), ()] if unshare else [()]
    tried: list[Isolation] = []
    if os.geteuid() == 0:
        become = [_nobody(setpriv, caps) for caps in ("-all", "-all,+dac_read_search")] if setpriv else []
        tried += [Isolation((*first, *then), True, bool(first)) for first in cut for then in become]
    tried += [Isolation(first, False, bool(first)) for first in cut]
    for one in tried:
        ran = await run("import json, decimal, typing\nprint('fine')", one, Limits(wall_s=20))
        if ran.status == 0 and ran.output.strip() == "fine":
            return one
    return Isolation((), False, False)


def _nobody(setpriv: str, caps: str) -> tuple[str, ...]:
    who = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
    return (setpriv, *who, f"--inh-caps={caps}", f"--ambient-caps={caps}", f"--bounding-set={caps}")


async def run(program: str, apart: Isolation, limits: Limits) -> Ran:
    """Runs a Python program to its end, or to the end of its time; nothing that it started is left."""
    folder = Path(tempfile.mkdtemp(prefix="answer-"))
    try:
        if apart.drop:
            os.chown(folder, NOBODY, NOBODY)
        prelude = PRELUDE.format(cpu=limits.cpu_s, memory=limits.memory, file=MOST_FILE, processes=limits.processes)
        return await _run([*apart.command, sys.executable, "-I", "-B", "-c", prelude], program, folder, limits.wall_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(command: Sequence[str], program: str, folder: Path, wall_s: float) -> Ran:
    child = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONHASHSEED": "0"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    tail = bytearray()
    try:
        async with asyncio.timeout(wall_s):
            with suppress(BrokenPipeError, ConnectionResetError):
                child.stdin.write(program.encode("utf-8", "replace"))
                await child.stdin.drain()
                child.stdin.close()
            while piece := await child.stdout.read(65_536):
                tail += piece
                del tail[:-MOST_OUTPUT]
            status: int | None = await child.wait()
    except TimeoutError:
        status = None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
    return Ran(status, tail.decode("utf-8", "replace"))
