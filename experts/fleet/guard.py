"""Runs a command so that nothing of it outlives whoever asked for it.

    python guard.py GRACE_S -- COMMAND...

The guard's standard input is a pipe that its owner holds open. When the owner closes it, or dies in whatever way
(`kill -9` closes pipes too), or the guard gets SIGTERM, every process of the command is asked to stop, and killed
after GRACE_S seconds. That includes grandchildren that would survive their parent, as inference engines do: the
command runs in a process group of its own, and its orphans become the guard's (PR_SET_CHILD_SUBREAPER, Linux).
The exit status is the command's. Standard library only: it runs beside every server.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); does nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Has the kernel send this signal to the calling process when its parent ends. Linux only."""
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def end_with_guard() -> None:
    end_with_parent(signal.SIGKILL)


def guard(command: Sequence[str], grace_s: float) -> int:
    """Runs the command until it ends, standard input closes or a signal comes; returns its exit status.

    A command that a signal ended gives 128 plus the signal's number, as in a shell.
    """
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # The guard has one thread, so code between fork and exec is safe here.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=end_with_guard,  # noqa: PLW1509
    )

    status: int | None = None
    while status is None and not stopping:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
        if 0 in readable and not os.read(0, 4096):
            stopping = True
        status = reap(child.pid)
    ended = end_group(child.pid, grace_s, woken)
    return next((known for known in (status, ended) if known is not None), 128 + signal.SIGKILL)


def reap(pid: int) -> int | None:
    """Buries every child that has ended; the exit status of `pid` when it is among them."""
    status = None
    while True:
        try:
            found, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if found == 0:
            return status
        if found == pid:
            code = os.waitstatus_to_exitcode(how)
            status = code if code >= 0 else 128 - code


def end_group(group: int, grace_s: float, woken: int) -> int | None:
    """Stops every process of the group, and buries them. The exit status of its leader, when it ended here."""
    status: int | None = None
    for number, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        try:
            os.killpg(group, number)
            while True:
                ended = reap(group)
                status = ended if ended is not None else status
                os.killpg(group, 0)
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                # A process of the group that is no child of ours ends without a SIGCHLD: look again soon.
                if select.select([woken], [], [], min(left, 0.05))[0]:
                    os.read(woken, 4096)
        except ProcessLookupError:
            return status
    return status


def main(arguments: list[str]) -> int:
    grace_s, dashes, *command = arguments
    if dashes != "--" or not command:
        raise SystemExit(__doc__)
    return guard(command, float(grace_s))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
