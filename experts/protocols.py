"""What a plug-in must be able to do: one or two methods each.

A module in `experts/kinds/` exports `Options` (pydantic, frozen, `extra="forbid"`) and
`build(name, options, parts) -> Expert`; its file name is the `provider` that a manifest names.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from experts.language import Answer, Delta, Load, Passage, Query

if TYPE_CHECKING:
    from experts.endpoints import Endpoints
    from experts.transport import Transport

Emit = Callable[[Delta], Awaitable[None]]
"""Takes one delta toward the client; awaiting it is the back-pressure."""

Vectors = NDArray[np.float32]
"""Shape (n, d), rows of unit length."""


async def silent(_: Delta) -> None:
    """The `emit` of a caller that wants only the finished answer."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte_s` ends with the first byte of the answer (of a call that does not stream: the answer).

    `total_s` is for asking an expert once, streamed or not, with all of its replicas that are tried.
    """

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    between_bytes_s: float = 60.0
    total_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What an expert kind may be built from, shared by all experts of a process."""

    transport: Transport
    endpoints: Endpoints
    timeouts: Timeouts = Timeouts()


class Expert(Protocol):
    """Anything that can be asked."""

    @property
    def name(self) -> str: ...

    async def answer(self, query: Query, emit: Emit) -> Answer:
        """Ask. Deltas of a streamed query are pushed through `emit`; the finished answer returns once.

        Raises ExpertError (and only its kinds) when the expert does not answer. Cancelling the task cancels the
        work on the expert's server.
        """
        ...

    def load(self) -> Load: ...

    async def close(self) -> None: ...


Top = Mapping[int, float]
"""Token ids with natural log-probabilities: the likeliest ones of one position, likeliest first."""


class Said(NamedTuple):
    """A token that an expert said: its text (empty for one that shows nothing), the likeliest of its place, and
    whether the answer ends with it (`end`: "stop"; "length" where the call may say no more)."""

    token: int
    text: str
    top: Top
    end: str | None = None


class TokenCall(Protocol):
    """One expert's part in one answer, by token ids. Every method raises ExpertError kinds only.

    `prompt` is the conversation under the expert's own template; `room` how many tokens fit after it. What follows the
    prompt may be anybody's words: an expert whose server caches prefixes reads only what is new to it.
    """

    @property
    def prompt(self) -> Sequence[int]: ...

    @property
    def room(self) -> int: ...

    def continued(
        self, answer: Sequence[int], *, most: int, top: int, sampling: Mapping[str, Any]
    ) -> AsyncGenerator[Said]:
        """Say at most `most` tokens after an answer so far, one by one, with `top` log-probabilities each. Closing the
        generator ends the work on the server."""
        ...

    async def drafted(self, answer: Sequence[int], most: int, top: int) -> list[Said]:
        """The likeliest continuation, at most `most` tokens, in one piece."""
        ...

    async def scored(self, answer: Sequence[int], draft: Sequence[int], top: int) -> list[Top]:
        """What the expert would have said at each place of a draft, in one pass: len(draft) + 1 rows, the last one for
        the place after it."""
        ...

    async def encoded(self, text: str) -> list[int]:
        """The tokens of a text, without special ones."""
        ...

    async def text(self, answer: Sequence[int]) -> str:
        """The text of tokens."""
        ...

    async def ends(self, token: int) -> bool:
        """Whether an answer ends with this token."""
        ...


@runtime_checkable
class TokenExpert(Protocol):
    """An expert that can also be asked token by token."""

    async def by_token(self, query: Query) -> TokenCall:
        """Begin an answer. Raises ExpertError."""
        ...

    async def tokenizer(self) -> str:
        """Equal for two experts whose tokenizers cut a probe text alike; asked for once. Raises ExpertError."""
        ...


class Encoder(Protocol):
    """Texts to unit vectors. `fingerprint` names model and runtime: vectors of two fingerprints never mix."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions), float32, unit rows. Blocking: callers on an event loop use a thread."""
        ...


class Hits(NamedTuple):
    """What many queries found, best first. `rows`: (n, k) int64 positions in the retriever's documents, -1 where there
    were fewer than k; `scores`: (n, k) float32, -inf there.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Retriever(Protocol):
    """Anything that can be searched: one corpus by one way of searching it.

    `corpus` names the documents: retrievers of one corpus (dense, lexical, under an adapter) share their ids, so
    that what they find can be merged. `encoder` is the fingerprint of the vectors that it takes, None where it takes
    the text alone. `size` is the number of documents that a search goes through.
    """

    @property
    def name(self) -> str: ...

    @property
    def corpus(self) -> str: ...

    @property
    def encoder(self) -> str | None: ...

    @property
    def size(self) -> int: ...

    async def search(self, text: str, vector: NDArray[np.float32] | None, k: int) -> list[Passage]:
        """The best k passages, best first; fewer where there are fewer. `vector`: (d,), unit length.

        Raises ExpertError (and only its kinds) when the retriever does not answer.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Piloted(Protocol):
    """A retriever whose corpus can tell how near a query is, before it is searched."""

    @property
    def pilots(self) -> Vectors | None:
        """(p, d) unit rows under the retriever's encoder; None where the corpus has no vectors."""
        ...

    def look_again(self) -> None:
        """Begins to make the pilots again where the corpus has changed, without waiting: it was not searched."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A retriever whose passages tell by what they were found, so that a ranker can put them into order."""

    @property
    def ways(self) -> tuple[str, ...]:
        """What `Passage.ways` of its passages has scores under."""
        ...


@runtime_checkable
class Adapting(Protocol):
    """A retriever that may move a query's vector before it searches: by a query-side adapter."""

    def adapted(self, vector: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """(d,), the vector as it is where there is no adapter. Raises ExpertBroke for None."""
        ...


class BatchRetriever(Protocol):
    """The batched form, for evaluation and fitting: blocking, over documents that are held here."""

    @property
    def ids(self) -> Sequence[str]:
        """The documents' ids, in the order of the rows."""
        ...

    def search_many(self, texts: Sequence[str], vectors: Vectors | None, k: int) -> Hits: ...
