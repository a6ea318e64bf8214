"""The words that travel between the packages: what is asked, who can be asked, what comes back.

Everything here is frozen. `Query` keeps the caller's JSON fields as the bytes they came in (`msgspec.Raw`), so that
a field this project has never heard of reaches the expert untouched, and an 18 KB tools array is never re-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import msgspec
import orjson

Asked = Literal["chat", "completion", "embedding"]
"""What callers ask for."""

Api = Asked | Literal["classify"]
"""What experts are asked for: reward models are asked to classify."""


class Part(msgspec.Struct, frozen=True):
    """One part of a multi-part message; parts that are neither text nor media are kept only in the raw fields."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation, as far as a routing decision may know it."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.text)

    @property
    def modalities(self) -> frozenset[str]:
        if not isinstance(self.content, list):
            return frozenset()
        return frozenset(_MODALITIES[part.type] for part in self.content if part.type in _MODALITIES)


_MODALITIES = {"image_url": "image", "input_image": "image", "input_audio": "audio", "audio_url": "audio",
               "video_url": "video", "file": "file"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Needs:
    """What an expert must be able to do to be asked at all: hard constraints, never traded against quality."""

    tools: bool = False
    structured: bool = False
    modalities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Query:
    """One request to answer.

    `id` is also the decision id. `fields` are the body's top-level JSON values, raw. `max_tokens` is None where the
    caller set none. `stream` is what the caller asked for; `include_usage` whether a usage chunk was asked for.
    `extension` is the caller's `consilium` object, which never travels to an expert. `frame`: what was put before and
    after the last user turn, such as passages.
    """

    id: str
    api: Api
    model: str
    fields: Mapping[str, msgspec.Raw]
    messages: tuple[Message, ...] = ()
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    needs: Needs = Needs()
    extension: Mapping[str, Any] = field(default_factory=dict[str, Any])
    frame: tuple[str, str] = ("", "")

    def user_texts(self) -> list[str]:
        """Every user turn's text as the user said it, oldest first; all turns where none is the user's."""
        said = [m.text for m in self.messages if m.role == "user"] or [m.text for m in self.messages]
        before, after = self.frame
        return [*said[:-1], said[-1].removeprefix(before).removesuffix(after)] if said else []

    def prompt_chars(self) -> int:
        return sum(len(message.text) for message in self.messages)

    def with_fields(self, **values: Any) -> Query:
        """The same query with top-level JSON values replaced (None removes one)."""
        fields = dict(self.fields)
        for name, value in values.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = msgspec.Raw(orjson.dumps(value))
        return replace(self, fields=fields)


@dataclass(frozen=True, slots=True)
class Passage:
    """One document, or a piece of one, that a retriever found. `score`: higher is better, comparable only within one
    retriever; `retriever` and `corpus` name where it came from (a corpus may stand under several retrievers). `ways`:
    what each way of searching says of it, where that compares between corpora (`dense ENCODER`: cosine; `lexical`:
    BM25).
    """

    id: str
    text: str = ""
    title: str = ""
    score: float = 0.0
    retriever: str = ""
    corpus: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ways: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    input: float = 0.0
    output: float = 0.0

    def of(self, usage: Usage) -> float:
        """What these tokens cost, in USD."""
        return (usage.prompt_tokens * self.input + usage.completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class Card:
    """The part of an expert's manifest that a routing decision may know."""

    name: str
    description: str = ""
    skills: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    modalities: frozenset[str] = frozenset({"text"})
    tools: bool = True
    structured: bool = True
    context: int | None = None
    price: Price = Price()
    parameters_b: float | None = None
    tokenizer: str | None = None
    members: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Spoken(NamedTuple):
    """What one member of a fused model said in a row. `member`: its index; `tokens`: how many; `changed`: those of them
    that this member alone would not have said; `shift`: by how much the router moved it, 0 to 1 a token, summed.
    """

    member: int
    text: str
    tokens: int
    changed: int
    shift: float


class Delta(msgspec.Struct, frozen=True):
    """A piece of an answer: one or more whole server-sent events, as the expert sent them; `spoken`: by whom, where a
    fused model was asked for that."""

    events: bytes
    spoken: tuple[Spoken, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What one expert said, whole.

    `body` is the OpenAI JSON response of a call that did not stream (empty for one that did); `text` the first
    choice's text. `ttft_s` and `took_s` are seconds from the call to the first and to the last byte. `spoken`: who said
    what of a fused model's answer that did not stream, where that was asked for.
    """

    expert: str
    body: bytes = b""
    streamed_text: str = ""
    usage: Usage = Usage()
    finish: str | None = None
    endpoint: str = ""
    ttft_s: float = 0.0
    took_s: float = 0.0
    chunks: int = 0
    spoken: tuple[Spoken, ...] = ()

    @cached_property
    def text(self) -> str:
        if not self.body:
            return self.streamed_text
        choices: list[dict[str, Any]] = orjson.loads(self.body).get("choices") or [{}]
        first = choices[0]
        message: dict[str, Any] = first.get("message") or {}
        return message.get("content") or first.get("text") or ""


@dataclass(frozen=True, slots=True)
class Load:
    """How an expert stands right now: calls under way, and how many of its endpoints can be called."""

    in_flight: int = 0
    endpoints: int = 1
    up: int = 1

    @property
    def available(self) -> bool:
        return self.up > 0
