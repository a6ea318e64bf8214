"""What a gateway tells the world about its work: Prometheus metrics and one log line a request."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter, time
from typing import Any, Literal, NamedTuple, TextIO

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from experts.language import Passage
from router.passages import Found, tokens_of
from router.run import Run

LogFormat = Literal["json", "text"]
_FLUSH_EVERY_S = 0.2
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Log:
    """Structured lines on one stream, written in small batches so that a line costs a few microseconds.

    Lines of level warning and above are written at once. Never holds a message's text, a key or a header.
    """

    def __init__(self, stream: TextIO | None = None, form: LogFormat = "json", level: str = "info") -> None:
        self._stream = stream
        self._form = form
        self._quiet = level in ("warning", "error")
        self._lines: list[bytes] = []
        self._flush_due = False

    def info(self, event: str, **fields: Any) -> None:
        if not self._quiet:
            self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)
        self.flush()

    def error(self, event: str, **fields: Any) -> None:
        self._write("error", event, fields)
        self.flush()

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if self._form == "json":
            self._lines.append(orjson.dumps({"ts": round(time(), 3), "level": level, "event": event, **fields}))
        else:
            clock = datetime.now(UTC).strftime("%H:%M:%S")
            rest = " ".join(f"{key}={value}" for key, value in fields.items() if value not in (None, ""))
            self._lines.append(f"{clock} {level:<7} {event} {rest}".encode())
        if not self._flush_due:
            try:
                asyncio.get_running_loop().call_later(_FLUSH_EVERY_S, self.flush)
                self._flush_due = True
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        self._flush_due = False
        if self._lines:
            stream = self._stream or sys.stderr
            stream.write((b"\n".join(self._lines) + b"\n").decode())
            stream.flush()
            self._lines.clear()


class _Children(NamedTuple):
    """The metric children of one (route, expert, status), looked up once."""

    requests: Counter
    seconds: Histogram
    first: Histogram
    prompt: Counter
    completion: Counter
    cost: Counter


class Telemetry:
    """Metrics of one gateway process, in a registry of its own."""

    def __init__(self, log: Log | None = None) -> None:
        self.log = log or Log()
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"consilium_{name}", text, labels, registry=self.registry)

        self._requests = counter("requests", "Requests answered.", "route", "expert", "status")
        self._refused = counter("refused", "Requests refused at the door: no key, no such endpoint.", "status", "code")
        self._tokens = counter("tokens", "Tokens, as experts reported them.", "expert", "kind")
        self._cost = counter("cost_usd", "USD spent, by the prices of the cards.", "expert")
        self._spoken = counter("spoken_tokens", "Tokens of answers that several experts wrote, by speaker.", "expert")
        self.failures = counter("expert_failures", "Calls to experts that failed.", "expert", "code")
        self.reloads = counter("registry_reloads", "Registry reloads.", "result")
        self.decisions = counter("decisions", "Routing decisions.", "route", "expert", "cached")
        self._retrieved = counter("retrievals", "Lookups of passages.", "result")
        self._passage_tokens = counter("passage_tokens", "Tokens of passages in prompts, estimated.")
        self._lookup = Histogram("consilium_retrieval_seconds", "Searching for passages.", buckets=(0.001, *_SECONDS),
                                 registry=self.registry)  # fmt: skip
        self._searches = counter("retriever_failures", "Retrievers that were down, slow or broken.", "retriever")
        self._seconds = Histogram("consilium_request_seconds", "From request to last byte.", ("route", "expert"),
                                  buckets=_SECONDS, registry=self.registry)  # fmt: skip
        self._first = Histogram("consilium_first_token_seconds", "From request to first byte.", ("route", "expert"),
                                buckets=_SECONDS, registry=self.registry)  # fmt: skip
        self.decide_seconds = Histogram("consilium_decide_seconds", "Embed, estimate and decide.", ("route",),
                                        buckets=(0.0001, 0.0005, *_SECONDS), registry=self.registry)  # fmt: skip
        self.in_flight = Gauge("consilium_in_flight", "Requests under way.", registry=self.registry)
        self.expert_up = Gauge("consilium_expert_endpoints_up", "Endpoints that can be called.", ("expert",),
                               registry=self.registry)  # fmt: skip
        self.expert_in_flight = Gauge("consilium_expert_in_flight", "Calls under way.", ("expert",),
                                      registry=self.registry)  # fmt: skip
        self._embedding = Gauge("consilium_embedding", "Embedding cache and batcher.", ("encoder", "figure"),
                                registry=self.registry)  # fmt: skip
        self._records = Gauge("consilium_decision_log", "Decisions written, waiting and lost.", ("figure",),
                              registry=self.registry)  # fmt: skip
        self._children: dict[tuple[str, str, int], _Children] = {}
        self._decided: dict[tuple[str, str, bool], tuple[Counter, Histogram]] = {}
        self._before_scrape: list[Callable[[Telemetry], None]] = []

    def retrieved(self, found: Found, passages: Sequence[Passage]) -> None:
        """A lookup is over."""
        self._retrieved.labels("found" if passages else "failed" if found.failed else "nothing").inc()
        self._passage_tokens.inc(tokens_of(passages))
        self._lookup.observe(found.took_s)
        for name in found.failed:
            self._searches.labels(name).inc()

    def before_scrape(self, refresh: Callable[[Telemetry], None]) -> None:
        """`refresh` sets gauges from state that lives elsewhere, each time metrics are read."""
        self._before_scrape.append(refresh)

    def set_embedding(self, encoder: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._embedding.labels(encoder, name).set(value)

    def set_records(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._records.labels(name).set(value)

    def scrape(self) -> bytes:
        for refresh in self._before_scrape:
            refresh(self)
        return generate_latest(self.registry)

    def decided(self, route: str, expert: str, cached: bool, seconds: float) -> None:
        key = (route, expert, cached)
        children = self._decided.get(key)
        if children is None:
            children = self._decided[key] = (
                self.decisions.labels(route, expert, "yes" if cached else "no"), self.decide_seconds.labels(route),
            )  # fmt: skip
        children[0].inc()
        children[1].observe(seconds)

    def refused(self, method: str, path: str, status: int, code: str) -> None:
        """Count a request that came to no decision, and write its line."""
        self._refused.labels(str(status), code).inc()
        self.log.info("refused", method=method, path=path[:200], status=status, error=code)

    def finished(self, run: Run) -> None:
        """Count one request and write its line."""
        took = perf_counter() - run.started
        plan, answer = run.plan, run.answer
        route = (plan.route or "direct") if plan else ""
        expert = answer.expert if answer else (run.speaking or (plan.expert if plan else ""))
        key = (route, expert, run.status)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = _Children(
                self._requests.labels(route, expert, str(run.status)), self._seconds.labels(route, expert),
                self._first.labels(route, expert), self._tokens.labels(expert, "prompt"),
                self._tokens.labels(expert, "completion"), self._cost.labels(expert),
            )  # fmt: skip
        children.requests.inc()
        children.seconds.observe(took)
        for speaker, tokens in run.spans.tokens.items():
            self._spoken.labels(speaker).inc(tokens)
        usage, cost, ttft_ms = run.usage, run.cost_usd, None
        if answer is not None:
            children.first.observe(answer.ttft_s)
            children.prompt.inc(usage.prompt_tokens)
            children.completion.inc(usage.completion_tokens)
            children.cost.inc(cost)
            ttft_ms = round(answer.ttft_s * 1e3, 2)
        self.log.info(
            "request", id=run.id, request_id=run.request_id, caller=run.caller, model=run.model, route=route,
            expert=expert, status=run.status, stream=run.stream, cached=run.cached, attempts=len(run.attempts),
            prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, cost_usd=round(cost, 9),
            decide_ms=round(run.decide_s * 1e3, 3), ttft_ms=ttft_ms, took_ms=round(took * 1e3, 2), error=run.error,
        )  # fmt: skip
