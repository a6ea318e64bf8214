"""A cross-encoder from a folder puts what was found into its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError
from experts.language import Passage
from experts.retrieval.reranking import Reranked, load_cross_encoder

pytestmark = pytest.mark.integration

PASSAGES = [
    Passage(str(n), text, score=1.0 - n / 10) for n, text in enumerate(["oslo is here", "suva", "paris or oslo"])
]


class Held:
    """A retriever of three passages."""

    name, corpus, encoder, size = "held", "held", None, 3
    closed = False

    async def search(self, text: str, vector: object, k: int) -> list[Passage]:
        return PASSAGES[:k]

    async def close(self) -> None:
        self.closed = True


@pytest.mark.slow
async def test_a_cross_encoder_orders_what_was_found(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oslo", "suva", "paris", "is", "here", "or", "where"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, num_labels=1, initializer_range=1.0)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    held = Held()
    retriever = Reranked(held, load_cross_encoder(str(tmp_path)), 3, 60.0)
    found = await retriever.search("where is oslo", None, 2)
    scores = CrossEncoder(str(tmp_path), device="cpu").predict([("where is oslo", p.text) for p in PASSAGES])
    assert [passage.id for passage in found] == [str(n) for n in np.argsort(-scores)[:2]]
    assert found[0].score == pytest.approx(float(scores.max()), abs=1e-4)
    await retriever.close()
    assert held.closed


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigError, match="cannot load the cross-encoder"):
        load_cross_encoder(str(tmp_path))
