"""Running a gateway: bind, build, answer, reload, drain.

One process, one event loop (uvloop), uvicorn with httptools. Signals: the first SIGINT or SIGTERM stops listening and
lets requests under way finish for `drain_s`; the second stops at once.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter

import uvicorn
import uvloop

from experts.errors import ConfigError, RegistryError
from registry.watch import watch
from router.config import Config, check_exposure, is_loopback
from router.http.app import Gateway
from router.keys import read_keys
from router.local import load_registry, open_router
from router.pipeline import Router
from router.records import recording
from router.telemetry import Log, Telemetry

GC_THRESHOLDS = (50_000, 50, 50)
BACKLOG = 2048


def run(config: Config) -> None:
    """Serve until a signal says stop. Raises ConfigError or RegistryError before anything listens."""
    check_exposure(config)
    uvloop.run(_serve(config))


def settle() -> None:
    """Everything is built: the collector need not walk it again, nor stop the loop often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _serve(config: Config) -> None:
    started = perf_counter()
    log = Log(form=config.log_format, level=config.log_level)
    keys = read_keys(config)
    with _bound(config) as listener:
        registry = load_registry(config.registry)
        redis_url = config.redis_url.get_secret_value() if config.redis_url else None
        async with open_router(
            registry, outcomes=config.outcomes, redis_url=redis_url, telemetry=Telemetry(log),
            encoder_threads=config.encoder_threads, cache_size=config.cache_size, recording=recording(config),
            artifact=config.artifacts,
        ) as router:  # fmt: skip
            gateway = Gateway(
                router, router.ledger, keys, config.registry,
                config.admin_key.get_secret_value() if config.admin_key else None, config.rpm, config.concurrency,
                config.max_body_bytes, _hosts(config, keyed=bool(keys)),
            )  # fmt: skip
            router.assembly.endpoints.start()
            reloading = asyncio.create_task(_reload(router, config, log))
            try:
                await _answer(gateway, config, listener, log, started)
            finally:
                reloading.cancel()
                with suppress(asyncio.CancelledError):
                    await reloading


async def _answer(gateway: Gateway, config: Config, listener: socket.socket, log: Log, started: float) -> None:
    server = _Server(
        uvicorn.Config(
            gateway,
            http="httptools",
            ws="none",
            lifespan="off",
            loop="none",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(config.drain_s)),
            backlog=BACKLOG,
        )
    )

    def stop(name: str) -> None:
        server.force_exit = gateway.draining
        gateway.draining = server.should_exit = True
        log.info("stopping", signal=name)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)
    settle()
    listener.listen(BACKLOG)  # from here on connections wait rather than fail: "ready" is true when it is said
    host, port = listener.getsockname()[:2]
    snapshot = gateway.router.snapshot
    log.info(
        "ready", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", registry_version=snapshot.version,
        experts=len(snapshot.experts), routes=list(snapshot.routes), keys=len(gateway.keys),
        took_s=round(perf_counter() - started, 3),
    )  # fmt: skip
    log.flush()
    await server.serve(sockets=[listener])
    log.info("stopped")


async def _reload(router: Router, config: Config, log: Log) -> None:
    """Put each good edit of the registry in force; a bad one is said loudly and leaves the last good one."""
    reloads = router.telemetry.reloads
    async for found in watch(config.registry, lambda: load_registry(config.registry), router.snapshot.registry):
        try:
            if isinstance(found, RegistryError):
                raise found
            if found.version == router.snapshot.version and found.experts == router.snapshot.registry.experts:
                continue
            await router.adopt(found)
        except RegistryError as fault:
            reloads.labels("refused").inc()
            log.error("registry_refused", in_force=router.snapshot.version, problems=[str(p) for p in fault.problems])
        else:
            reloads.labels("adopted").inc()
            log.info("registry_adopted", registry_version=found.version, experts=len(found.experts))


class _Server(uvicorn.Server):
    """uvicorn, without its own signal handlers: it would raise the signal again after a clean stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _bound(config: Config) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host.strip("[]"), config.port))
    except OSError as fault:
        listener.close()
        raise ConfigError(
            f"port: cannot listen on {config.host}:{config.port} ({fault.strerror}); choose another with --port"
        ) from fault
    with listener:
        yield listener


def _hosts(config: Config, *, keyed: bool) -> frozenset[str] | None:
    """The host names that a gateway without keys answers to; None where keys keep strangers out."""
    if keyed or not is_loopback(config.host):
        return None
    return frozenset({"localhost", "127.0.0.1", "[::1]", config.host})
