"""`router.embedding` with an encoder that hashes: batches, the cache, cancellation and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from threading import Event

import numpy as np
import pytest

from experts.errors import NotReady
from experts.language import Message, Query
from experts.protocols import Vectors
from router.embedding import MOST_AT_ONCE, Embedding
from router.texts import LAST_TURN_WEIGHT, MOST_CHARS, routing_texts

DIMENSIONS = 8


def vector_of(text: str) -> Vectors:
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.linalg.norm(vector)


class HashEncoder:
    """A vector from each text's hash. Notes its batches; `gate`, while it is not set, holds it; "bad" is refused."""

    fingerprint = "hash"
    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = Event()
        self.gate.set()
        self.started = Event()

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(list(texts))
        self.started.set()
        assert self.gate.wait(30)
        if "bad" in texts:
            raise RuntimeError("cannot read this")
        return np.stack([vector_of(text) for text in texts])

    async def hold(self, embedding: Embedding) -> asyncio.Task[Vectors]:
        """Leaves the encoder busy with the text "first"."""
        self.gate.clear()
        self.started.clear()
        task = asyncio.create_task(embedding.embed(["first"], [1.0]))
        assert await asyncio.to_thread(self.started.wait, 30)
        return task


class ShortEncoder(HashEncoder):
    """Gives a row too few."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode(texts)[1:]


def query(*turns: str, roles: Sequence[str] = ()) -> Query:
    named = roles or ["user"] * len(turns)
    messages = tuple(Message(role, turn) for role, turn in zip(named, turns, strict=True))
    return Query(id="q", api="chat", model="auto", fields={}, messages=messages)


async def turn_of_the_loop() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_one_turn_is_exactly_its_text() -> None:
    assert routing_texts(query(" as typed \n")) == ([" as typed \n"], [1.0])
    assert routing_texts(query("x" * MOST_CHARS)) == (["x" * MOST_CHARS], [1.0])


def test_a_query_without_text_is_one_empty_text() -> None:
    assert routing_texts(query()) == ([""], [1.0])
    assert routing_texts(query("", "  ")) == ([""], [1.0])


def test_the_last_turn_weighs_most_and_nearer_turns_weigh_more() -> None:
    texts, weights = routing_texts(query("one", "two", "three"))
    assert texts == ["one", "two", "three"]
    assert weights == pytest.approx([0.1, 0.2, LAST_TURN_WEIGHT])


def test_only_what_the_user_said_counts() -> None:
    texts, _ = routing_texts(
        query("be brief", "hello", "hi!", "and now?", roles=["system", "user", "assistant", "user"])
    )
    assert texts == ["hello", "and now?"]


def test_an_empty_last_turn_leaves_the_word_to_the_one_before() -> None:
    assert routing_texts(query("what is this?", "")) == (["what is this?"], [1.0])


def test_a_long_turn_keeps_its_head_and_its_tail() -> None:
    texts, weights = routing_texts(query("Summarise this. " + "x" * 9_000 + " In French, please."))
    assert len(texts) == 2
    assert texts[-1].startswith("Summarise this.")
    assert texts[0].endswith("In French, please.")
    assert sum(len(text) for text in texts) == MOST_CHARS
    assert weights == [0.5, 0.5]


def test_a_long_conversation_is_bounded_and_its_weights_sum_to_one() -> None:
    texts, weights = routing_texts(query(*(f"turn {i} " + "y" * 5_000 for i in range(50))))
    assert len(texts) == 18
    assert sum(weights) == pytest.approx(1.0)
    assert sum(weights[-2:]) == pytest.approx(LAST_TURN_WEIGHT)


async def test_one_text_gets_exactly_the_encoders_vector() -> None:
    embedding = Embedding(HashEncoder())
    np.testing.assert_array_equal(await embedding.embed(["a"], [1.0]), vector_of("a"))
    embedding.close()


async def test_several_texts_are_averaged_by_weight_and_renormalised() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    found = await embedding.embed(["a", "b"], [0.25, 0.75])
    mean = 0.25 * vector_of("a") + 0.75 * vector_of("b")
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), rtol=1e-5)
    assert found.dtype == np.float32
    assert encoder.batches == [["a", "b"]]
    embedding.close()


async def test_texts_that_cancel_out_give_the_last_ones_vector() -> None:
    embedding = Embedding(HashEncoder())
    found = await embedding.embed(["a", "a"], [1.0, -1.0])
    np.testing.assert_array_equal(found, vector_of("a"))
    embedding.close()


@pytest.mark.parametrize(("texts", "weights"), [([], []), (["a"], []), (["a", "b"], [1.0])])
async def test_each_text_needs_a_weight(texts: list[str], weights: list[float]) -> None:
    embedding = Embedding(HashEncoder())
    with pytest.raises(ValueError, match="one weight a text"):
        await embedding.embed(texts, weights)
    embedding.close()


async def test_what_arrives_together_is_one_batch_even_when_idle() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    await asyncio.gather(*(embedding.embed([f"t{i}"], [1.0]) for i in range(5)))
    assert encoder.batches == [[f"t{i}" for i in range(5)]]
    embedding.close()


async def test_what_arrives_while_the_encoder_works_becomes_full_batches() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    first = await encoder.hold(embedding)
    texts = [f"t{i}" for i in range(MOST_AT_ONCE + 6)]
    tasks = [asyncio.create_task(embedding.embed([text], [1.0])) for text in texts]
    await turn_of_the_loop()
    assert embedding.stats()["waiting"] == len(texts)
    encoder.gate.set()
    for text, found in zip(texts, await asyncio.gather(*tasks), strict=True):
        np.testing.assert_array_equal(found, vector_of(text))
    await first
    assert [len(batch) for batch in encoder.batches] == [1, MOST_AT_ONCE, 6]
    assert embedding.stats()["encoded"] == len(texts) + 1
    embedding.close()


async def test_one_text_asked_for_by_many_at_once_is_encoded_once() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    first = await encoder.hold(embedding)
    again = [asyncio.create_task(embedding.embed([text], [1.0])) for text in ("first", "same", "same", "same")]
    await turn_of_the_loop()
    encoder.gate.set()
    await asyncio.gather(first, *again)
    assert encoder.batches == [["first"], ["same"]]
    assert (embedding.stats()["misses"], embedding.stats()["shared"]) == (2, 3)
    embedding.close()


async def test_a_remembered_text_is_not_encoded_again_and_the_oldest_is_forgotten() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder, cache_size=2)
    for text in ("a", "b", "a", "c", "a", "b"):  # c drops b, since a was used after it
        await embedding.embed([text], [1.0])
    assert encoder.batches == [["a"], ["b"], ["c"], ["b"]]
    assert (embedding.stats()["hits"], embedding.stats()["cached"]) == (2, 2)
    embedding.close()


async def test_no_cache_remembers_nothing() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder, cache_size=0)
    await embedding.embed(["a"], [1.0])
    await embedding.embed(["a"], [1.0])
    assert encoder.batches == [["a"], ["a"]]
    embedding.close()


async def test_a_remembered_vector_cannot_be_changed_by_its_reader() -> None:
    embedding = Embedding(HashEncoder())
    found = await embedding.embed(["a"], [1.0])
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1.0
    embedding.close()


async def test_a_cancelled_caller_leaves_the_others_of_its_batch_alone() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    first = await encoder.hold(embedding)
    leaves, stays, shares = (asyncio.create_task(embedding.embed([text], [1.0])) for text in ("a", "b", "a"))
    await turn_of_the_loop()
    leaves.cancel()
    encoder.gate.set()
    await asyncio.wait([leaves])
    assert leaves.cancelled()
    np.testing.assert_array_equal(await stays, vector_of("b"))
    np.testing.assert_array_equal(await shares, vector_of("a"))
    await first
    embedding.close()


async def test_a_caller_cancelled_during_its_own_batch_breaks_nothing() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    first = await encoder.hold(embedding)
    first.cancel()
    await asyncio.wait([first])
    encoder.gate.set()
    np.testing.assert_array_equal(await embedding.embed(["next"], [1.0]), vector_of("next"))
    await embedding.embed(["first"], [1.0])
    assert encoder.batches == [["first"], ["next"]]  # what was encoded for nobody is remembered all the same
    embedding.close()


async def test_a_text_that_nobody_waits_for_any_more_is_not_encoded() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    first = await encoder.hold(embedding)
    left = asyncio.create_task(embedding.embed(["left"], [1.0]))
    await turn_of_the_loop()
    left.cancel()
    await asyncio.wait([left])
    encoder.gate.set()
    await first
    np.testing.assert_array_equal(await embedding.embed(["left"], [1.0]), vector_of("left"))
    assert encoder.batches == [["first"], ["left"]]
    assert embedding.stats()["abandoned"] == 1
    embedding.close()


async def test_an_encoders_error_reaches_the_callers_of_its_batch_and_no_other() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    first = await encoder.hold(embedding)
    same_batch = [asyncio.create_task(embedding.embed([text], [1.0])) for text in ("bad", "beside")]
    await turn_of_the_loop()
    encoder.gate.set()
    found = await asyncio.gather(*same_batch, return_exceptions=True)
    assert [str(fault) for fault in found] == ["cannot read this"] * 2
    np.testing.assert_array_equal(await first, vector_of("first"))
    np.testing.assert_array_equal(await embedding.embed(["beside"], [1.0]), vector_of("beside"))
    assert embedding.stats()["errors"] == 1
    embedding.close()


async def test_vectors_of_a_wrong_shape_are_an_error_and_not_a_hang() -> None:
    embedding = Embedding(ShortEncoder())
    with pytest.raises(ValueError, match=r"encoder hash: expected shape \(2, 8\), got \(1, 8\)"):
        await embedding.embed(["a", "b"], [0.5, 0.5])
    embedding.close()


async def test_closing_ends_who_waits_in_line_and_keeps_what_is_under_way() -> None:
    encoder = HashEncoder()
    embedding = Embedding(encoder)
    first = await encoder.hold(embedding)
    waits = asyncio.create_task(embedding.embed(["waits"], [1.0]))
    await turn_of_the_loop()
    encoder.gate.set()
    embedding.close()
    with pytest.raises(NotReady, match="stopping"):
        await waits
    np.testing.assert_array_equal(await first, vector_of("first"))
    with pytest.raises(NotReady, match="stopping"):
        await embedding.embed(["late"], [1.0])
    np.testing.assert_array_equal(await embedding.embed(["first"], [1.0]), vector_of("first"))


def test_nothing_is_tied_to_an_event_loop_before_it_is_used() -> None:
    embedding = Embedding(HashEncoder())
    for text in ("a", "b"):
        np.testing.assert_array_equal(asyncio.run(embedding.embed([text], [1.0])), vector_of(text))
    embedding.close()
