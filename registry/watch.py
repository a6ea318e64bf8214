"""Hot reload: every change of a registry's files, loaded, as it happens.

The files' folder is watched rather than the files, because editors replace a file instead of writing to it. Once a
second the files are looked at anyway (names, sizes, times; nothing is read): that finds what no event tells of, such
as a link whose target changed, a network disk, or a folder that was moved away and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from experts.errors import RegistryError
from registry.load import Registry, registry_files

DEBOUNCE_MS = 100
LOOK_S = 1.0

Stamp = tuple[tuple[str, int, int, int], ...]
"""What a look at the files sees: path, inode, size and modification time in nanoseconds of each."""


async def watch(
    path: Path | str, load: Callable[[], Registry], known: Registry | None = None
) -> AsyncGenerator[Registry | RegistryError, None]:
    """Yields the registry, or what is wrong with it, within two seconds of each change; never ends by itself.

    `load` runs in a thread. `known` is the registry in force when the watch begins: whatever changed since it was
    loaded is yielded at once. A change that leaves the manifests as they were yields nothing, unless the last thing
    yielded was an error. Cancel the task, or close the generator, to stop.
    """
    path = Path(path)
    stamp: Stamp | None = None if known is not None else await asyncio.to_thread(_look, path)
    version = known.version if known is not None else ""
    async with aclosing(_ticks(path)) as ticks:
        async for _ in ticks:
            now = await asyncio.to_thread(_look, path)
            if now == stamp:
                continue
            stamp = now
            try:
                found: Registry | RegistryError = await asyncio.to_thread(load)
            except RegistryError as error:
                found = error
            if isinstance(found, Registry) and found.version == version:
                continue
            version = found.version if isinstance(found, Registry) else ""
            yield found


async def _ticks(path: Path) -> AsyncGenerator[None, None]:
    """One tick at once, one for each burst of events near the files, and one a second in any case."""
    from watchfiles import awatch

    yield
    while True:
        whole = await asyncio.to_thread(path.is_dir)
        folder = path if whole else path.parent
        events = awatch(
            folder, watch_filter=None, debounce=DEBOUNCE_MS, step=50, rust_timeout=int(LOOK_S * 1000),
            yield_on_timeout=True, recursive=whole,
        )  # fmt: skip
        try:
            async with aclosing(events):
                async for _ in events:
                    yield
                    if not await asyncio.to_thread(folder.is_dir):
                        break
        except OSError:  # The folder is not there, or the system's limit of watches is reached: looking will do.
            pass
        await asyncio.sleep(LOOK_S)
        yield


def _look(path: Path) -> Stamp:
    files = registry_files(path) if path.is_dir() else [path]
    seen: list[tuple[str, int, int, int]] = []
    for file in files:
        try:
            state = file.stat()
        except OSError:
            continue
        seen.append((str(file), state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(seen)
