"""The gate, the merge, the budget and the prompt of passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from experts.errors import ConfigError
from experts.language import Passage
from experts.retrieval.prompting import cited, with_sources
from experts.wire import parse
from router.composers._seats import extended
from router.gate import arithmetic, fit_gate, read_outcomes, sighted
from router.passages import Pace, citations, informed, within
from router.retrieval.choosing import Choice, merged
from tests.integration.test_retrieval_index import Letters


def outcomes(folder: Path, rows: list[tuple[str, float, float]]) -> Path:
    path = folder / "gate.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"query": q, "without": a, "with": b}) for q, a, b in rows))
    return path


def test_a_fitted_gate_looks_up_where_passages_gained(tmp_path: Path) -> None:
    rows = [(f"aaa{c}", 1.0, 1.0) for c in "bcdefg"] + [(f"zzz{c}", 0.0, 1.0) for c in "bcdefg"]
    gate = fit_gate("auto", 0.1, 500, 0.7, outcomes(tmp_path, rows), Letters())
    known, unknown = Letters().encode(["aaah", "zzzh"])
    assert not gate.decide(known, 0.1).retrieve
    verdict = gate.decide(unknown, 0.9)
    assert verdict.retrieve
    assert verdict.without is not None
    assert verdict.without < 0.3
    assert gate.share == pytest.approx(0.5)


def passage(cosine: float) -> Passage:
    return Passage("p", "text", ways={"dense": cosine})


def test_what_is_found_decides_where_the_query_does_not_tell(tmp_path: Path) -> None:
    """Every second query has something about it in the corpus, which no query tells."""
    rows = [(f"a{'bcdefghij'[n % 9]}{n}", float(n % 2), float(1 - n % 2)) for n in range(40)]
    gate = fit_gate("auto", 0.1, 500, 0.7, outcomes(tmp_path, rows), Letters())
    best = [passage(0.3 + 0.01 * (n % 5) if n % 2 else 0.7 + 0.01 * (n % 5)) for n in range(40)]
    seeing = sighted(gate, best)
    assert seeing.sight is not None
    assert seeing.share == pytest.approx(0.5)
    (asked,) = Letters().encode(["abz"])
    there, nowhere = seeing.weigh(asked, passage(0.72)), seeing.weigh(asked, passage(0.31))
    assert (there.retrieve, nowhere.retrieve) == (True, False)
    assert there.using is not None
    assert there.using > 0.8
    assert "by what was found, expected gain +" in there.reason
    assert not seeing.weigh(asked, None).retrieve
    assert not seeing.weigh(asked, Passage("p", "text")).retrieve


def test_what_is_found_is_ignored_where_it_tells_nothing_more(tmp_path: Path) -> None:
    rows = [(f"aaa{c}", 1.0, 0.0) for c in "bcdefg"] + [(f"zzz{c}", 0.0, 1.0) for c in "bcdefg"]
    gate = fit_gate("auto", 0.1, 500, 0.7, outcomes(tmp_path, rows), Letters())
    same = sighted(gate, [passage(0.5)] * 12)
    assert same.sight is None or same.weigh(Letters().encode(["aaah"])[0], passage(0.5)).retrieve is False
    assert sighted(gate, [None] * 12).sight is None
    assert sighted(gate, [*[None] * 7, *[passage(0.5)] * 5]).sight is None
    assert sighted(gate, [Passage("p", "text")] * 12).sight is None


def test_no_gain_above_the_price_means_no_passages(tmp_path: Path) -> None:
    rows = [("zzz", 0.5, 0.6), ("zzy", 0.5, 0.6)]
    vector = Letters().encode(["zzz"])[0]
    cheap, dear = (fit_gate("auto", price, 1000, 0.7, outcomes(tmp_path, rows), Letters()) for price in (0.05, 0.2))
    assert cheap.decide(vector, None).retrieve
    assert not dear.decide(vector, None).retrieve


def test_without_outcomes_the_expected_quality_decides() -> None:
    gate = fit_gate("auto", 0.02, 500, 0.7, None, None)
    assert [gate.decide(None, quality).retrieve for quality in (None, 0.5, 0.8)] == [True, True, False]


def test_the_arithmetic_of_never_always_and_the_gate(tmp_path: Path) -> None:
    gate = fit_gate("always", 0.02, 500, 0.7, None, None)
    verdict = gate.decide(None, None)._replace(share=0.25)
    told = arithmetic(verdict, 0.001, 100, 400, [2.0], 3.0, 20.0)
    assert told["prompt_tokens"] == {"never": 100, "always": 500, "gate": 200}
    assert told["cost_usd"] == pytest.approx({"never": 0.001, "always": 0.0018, "gate": 0.0012})
    assert told["ms"] == {"never": 0.0, "always": 20.0, "gate": 8.0}
    three = arithmetic(verdict, 0.001, 100, 400, [2.0, 1.0, 0.0], 3.0, 20.0, sighted=True)
    assert (three["experts"], three["prompt_tokens"]["gate"]) == (3, 600)
    assert three["cost_usd"]["always"] == pytest.approx(0.001 + 400 * 3 / 1e6)
    assert three["ms"]["gate"] == 23.0


def test_the_time_of_a_search_has_a_price(tmp_path: Path) -> None:
    rows = [("zzz", 0.5, 0.6), ("zzy", 0.5, 0.6)]
    vector = Letters().encode(["zzz"])[0]
    gate = fit_gate("auto", 0.05, 1000, 0.7, outcomes(tmp_path, rows), Letters())
    assert gate.decide(vector, None, 0.02).retrieve
    slow = gate.decide(vector, None, 0.2)
    assert (slow.retrieve, slow.price) == (False, pytest.approx(0.25))


def test_a_pace_follows_the_latest_searches() -> None:
    now = [1000.0]
    pace = Pace(lambda: now[0])
    assert pace.expected_s == 0.0
    pace.took(1.0)
    assert pace.expected_s == 1.0
    for _ in range(200):
        pace.took(0.1)
    assert pace.expected_s == pytest.approx(0.1, abs=0.01)
    now[0] += 180.0  # nobody searched for three minutes
    assert pace.expected_s == pytest.approx(0.1 / 8, abs=0.002)


def test_outcomes_name_the_wrong_line(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    path.write_text('{"query": "a", "without": 0, "with": 1}\n{"query": "b"}\n')
    with pytest.raises(ConfigError, match=r"gate\.jsonl:2: expected"):
        read_outcomes(path)


def test_what_two_retrievers_find_is_merged_by_rank() -> None:
    one = [Passage("a", corpus="c"), Passage("b", corpus="c")]
    two = [Passage("b", corpus="c"), Passage("a", corpus="other")]
    assert [(p.id, p.corpus) for p in merged([one, two], Choice((), {}, ()), None)] == [
        ("b", "c"), ("a", "c"), ("a", "other"),
    ]  # fmt: skip


def test_a_list_counts_by_the_belief_in_its_corpus() -> None:
    one = [Passage("a", corpus="near"), Passage("b", corpus="near")]
    two = [Passage("x", corpus="far"), Passage("y", corpus="far")]
    order = merged([two, one], Choice((), {"near": 0.9, "far": 0.1}, ()), None)
    assert [p.id for p in order] == ["a", "b", "x", "y"]
    close = merged([two, one], Choice((), {"near": 0.52, "far": 0.48}, ()), None)
    assert [p.id for p in close] == ["a", "x", "b", "y"]
    blind = [Passage(str(n), corpus="remote") for n in range(5)]
    assert merged([blind, one], Choice((), {"near": 0.6, "far": 0.4}, ()), None)[0].id == "a"


def test_the_budget_cuts_at_a_word() -> None:
    passages = [Passage("a", "word " * 100), Passage("b", "x" * 40)]
    (only,) = within(passages, 20)
    assert len(only.text) <= 80
    assert only.text.endswith("word")
    assert len(within(passages, 1000)) == 2


def test_only_sources_that_exist_count_as_cited() -> None:
    assert cited("As [1] and [3, 9] say; [0], [12].", 3) == {1, 3}
    assert [row["cited"] for row in citations([Passage("a"), Passage("b")], "see [2]")] == [False, True]


PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}


@pytest.mark.parametrize(
    "template", ["{sources}\n{question}", "{question}\nSources:\n{sources}\nEnd", "Look: {sources} {question}!"]
)
@pytest.mark.parametrize(
    "content",
    ["why?", [{"type": "text", "text": "why?"}], [PICTURE, {"type": "text", "text": "why?"}],
     [{"type": "text", "text": "why?"}, {"type": "text", "text": "and how?"}]],
)  # fmt: skip
def test_who_reads_the_question_reads_what_the_user_said(content: Any, template: str) -> None:
    turns = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "yes"},
             {"role": "user", "content": content}]  # fmt: skip
    plain = parse("chat", orjson.dumps({"model": "auto", "messages": turns}), "q")
    told = informed(plain, [Passage("a", "a fact", "Title")], template)
    assert told.user_texts() == plain.user_texts()
    assert "a fact" in told.messages[-1].text
    sent = orjson.loads(bytes(told.fields["messages"]))
    assert "a fact" in orjson.dumps(sent[-1]).decode()
    assert sent[:-1] == turns[:-1]
    further = extended(told, [("assistant", "no"), ("user", "again, please\nEnd")])
    assert further.user_texts()[-1] == "again, please\nEnd"


def test_a_completion_s_prompt_is_framed_like_a_question() -> None:
    plain = parse("completion", orjson.dumps({"model": "auto", "prompt": "Once upon"}), "q")
    told = informed(plain, [Passage("a", "a fact")], "{sources}\n{question}")
    assert told.user_texts() == ["Once upon"]
    assert orjson.loads(bytes(told.fields["prompt"])) == "<source 1>\na fact\n</source 1>\nOnce upon"


def test_braces_in_texts_are_texts() -> None:
    told = with_sources("what is {sources}?", [Passage("a", "{question} %s")], "{sources}\n{question}")
    assert told == "<source 1>\n{question} %s\n</source 1>\nwhat is {sources}?"
