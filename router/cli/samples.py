"""Questions that a fresh gateway is asked, to show that it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.load import Registry

if TYPE_CHECKING:
    from router.cli.client import Client

MOST = 3


class Sample(NamedTuple):
    """A question, who should answer it, and what the answer must end with (None: any answer will do)."""

    question: str
    expert: str
    answer: str | None = None


class Reply(NamedTuple):
    """What came back. `expert` is what the response's header says; `confidence` what its `consilium` object says."""

    sample: Sample
    expert: str
    confidence: float | None
    text: str
    took_s: float

    @property
    def right(self) -> bool:
        wanted = self.sample.answer
        said = conclusion(self.text).casefold().rstrip(".")
        return self.expert == self.sample.expert and (bool(said) if wanted is None else said == wanted.casefold())

    def json(self) -> dict[str, Any]:
        return {
            "question": self.sample.question, "expert": self.expert, "confidence": self.confidence,
            "answer": conclusion(self.text), "right": self.right, "took_ms": round(self.took_s * 1e3, 1),
        }  # fmt: skip


POCKET = (
    Sample("What is 347 + 589?", "pocket-calc", "936"),
    Sample("What is the capital of Australia?", "pocket-geo", "Canberra"),
    Sample("Reverse the word planet", "pocket-text", "tenalp"),
)


def of_registry(registry: Registry) -> tuple[Sample, ...]:
    """The first example of the first experts that have one."""
    found = (Sample(manifest.examples[0], name) for name, manifest in registry.experts.items() if manifest.examples)
    return tuple(found)[:MOST]


def conclusion(text: str) -> str:
    """The last line of an answer, without the word that introduces it: experts may show their work first."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Answer:").strip() if lines else ""


async def asked(client: Client, samples: Sequence[Sample], route: str) -> AsyncIterator[Reply]:
    """Asks one after the other. Raises Unreachable or GatewayRefused."""
    import orjson

    for sample in samples:
        started = perf_counter()
        body = {"model": route, "messages": [{"role": "user", "content": sample.question}], "consilium": True,
                "temperature": 0}  # fmt: skip
        async with client.call("POST", "/v1/chat/completions", body) as response:
            said: dict[str, Any] = orjson.loads(await response.read())
            expert = response.headers.get("x-consilium-expert", "")
        text = said["choices"][0]["message"].get("content") or ""
        yield Reply(sample, expert, said["consilium"].get("confidence"), text, perf_counter() - started)
