"""The losses of the fusion router against the rule that is decoded by, on small random distributions."""

from math import log
from pathlib import Path

import pytest
import torch

from experts.errors import ConfigError
from experts.fusion import losses, members, rule, samples, scores, train
from experts.fusion.losses import Heard
from experts.fusion.naming import named
from experts.fusion.samples import Sequenced
from experts.pocket.fused import settle
from experts.pocket.train import WEIGHTS

VOCABULARY, EXPERTS, LENGTH = 11, 3, 6


def heard(top: int, rows: int = 2, seed: int = 0, *, nobody: bool = False) -> tuple[Heard, torch.Tensor]:
    """A random batch, and the experts' whole distributions (batch, length, experts, vocabulary)."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, LENGTH, VOCABULARY, generator=random).requires_grad_()
    scores = torch.randn(rows, LENGTH, EXPERTS + nobody, generator=random).requires_grad_()
    theirs = (2 * torch.randn(rows, LENGTH, EXPERTS, VOCABULARY, generator=random)).log_softmax(-1)
    labels = torch.randint(VOCABULARY, (rows, LENGTH), generator=random)
    spoken = theirs.gather(-1, labels[..., None, None].expand(-1, -1, EXPERTS, 1))[..., 0]
    liked, ids = theirs.topk(top, dim=-1)
    mask = torch.ones(rows, LENGTH, dtype=torch.bool)
    mask[:, -1] = False
    named = torch.full((rows, LENGTH), -1)
    closing = torch.zeros(VOCABULARY, dtype=torch.int64)
    return Heard(logits, scores, labels, mask, spoken, ids, liked, named, named, closing), theirs


def collated(found: Sequenced) -> dict[str, torch.Tensor]:
    closing = samples.closing([found], 400, EXPERTS)
    return train.Collate([found], scores.unheard([found], EXPERTS), 0, closing)([[0]])


def test_together_is_what_the_decoding_rule_says() -> None:
    batch, theirs = heard(VOCABULARY)
    said = losses.together(batch)
    for expert in range(EXPERTS):
        chosen = torch.full((2, LENGTH), expert)
        ruled = rule.add(chosen, EXPERTS, batch.logits, theirs[:, :, expert]).logprobs
        wanted = ruled.gather(-1, batch.labels[..., None])[..., 0]
        torch.testing.assert_close(said[..., expert], wanted, atol=1e-4, rtol=0)


def test_together_is_near_with_the_likeliest_tokens_alone() -> None:
    exact, _ = heard(VOCABULARY)
    cut, _ = heard(6)
    assert (losses.together(exact) - losses.together(cut)).abs().max() < 0.35


def test_routing_counts_only_positions_where_the_experts_differ() -> None:
    batch, _ = heard(VOCABULARY)
    differ = losses.disputed(batch)
    total = 0.0
    for row, place in differ.nonzero().tolist():
        shares = batch.scores[row, place].detach().softmax(-1)
        total -= float((shares * batch.spoken[row, place].exp()).sum().log())
    assert float(losses.routing(batch).detach()) == pytest.approx(total / int(batch.mask.sum()), rel=1e-5)
    agreed = batch._replace(top=batch.top[:, :, :1].expand(-1, -1, EXPERTS, -1))
    assert float(losses.routing(agreed).detach()) == 0


def test_what_is_given_is_read_and_not_learned() -> None:
    tokenizer = members.tokenizer(WEIGHTS / "base", {}, WEIGHTS / "base")
    row = {"prompt": "Where?", "completion": "Answer: Oz\nAnd so on", "given": [(8, 10)]}
    (found,) = samples.sequences(tokenizer, [row], 1, 400)
    assert tokenizer.decode([found.ids[place] for place in found.given]).replace(" ", "") == "Oz"
    mask = collated(found)["mask"]
    assert int(mask.sum()) == found.spoken - 2


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ('"given": [3]', r"given: expected \[\[start, end\], …\], found \[3\]"),
        ('"given": [[0, 1, "geo"]]', r"given: expected \[\[start, end\], …\], found"),
        ('"speakers": [[0, 1]]', r"speakers: expected \[\[start, end, \"expert\"\], …\], found \[\[0, 1\]\]"),
        ('"speakers": [[0, 1, 2]]', "speakers: expected"),
    ],
)
def test_spans_that_are_none_are_named(tmp_path: Path, spans: str, told: str) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(f'{{"prompt": "a", "completion": "b", {spans}}}\n')
    with pytest.raises(ConfigError, match=f"train.jsonl:1: {told}"):
        samples.read(file, 1)


def test_speakers_that_the_data_name_reach_the_loss(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"prompt": "Where?", "completion": "Hm.\\nOz\\n", "speakers": [[4, 6, "geo"]]}\n')
    tokenizer = members.tokenizer(WEIGHTS / "base", {}, WEIGHTS / "base")
    (found,) = samples.sequences(tokenizer, samples.read(file, 1), 1, 400, ["calc", "geo", "sql"])
    named = collated(found)["named"]
    said = named[0][found.start - 1 : len(found.ids) - 1]
    assert said.tolist() == [-1] * 4 + [1, 1] + [-1] * 2
    with pytest.raises(ConfigError, match="sample 1: speakers: geo: expected one of the experts calc, sql, or router"):
        samples.sequences(tokenizer, samples.read(file, 1), 1, 400, ["calc", "sql"])


def test_a_span_that_reaches_the_end_has_the_end_mark_and_the_router_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    spans = '[[0, 4, "router"], [4, 6, "geo"]]'
    file.write_text(f'{{"prompt": "Where?", "completion": "Hm.\\nOz", "speakers": {spans}}}\n')
    tokenizer = members.tokenizer(WEIGHTS / "base", {}, WEIGHTS / "base")
    (found,) = samples.sequences(tokenizer, samples.read(file, 1), 1, 400, ["calc", "geo", "sql"])
    named = collated(found)["named"]
    assert named[0][found.start - 1 : len(found.ids) - 1].tolist() == [EXPERTS] * 4 + [1] * 3


def test_what_ends_a_stretch_is_known_at_each_of_its_tokens(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    spans = '[[0, 4, "geo"], [4, 6, "router"], [6, 8, "sql"], [8, 9, "geo"]]'
    file.write_text(f'{{"prompt": "Where?", "completion": "O\\nz\\nHm\\n1a", "speakers": {spans}}}\n')
    tokenizer = members.tokenizer(WEIGHTS / "base", {}, WEIGHTS / "base")
    (found,) = samples.sequences(tokenizer, samples.read(file, 1), 1, 400, ["calc", "geo", "sql"])
    said = found.ids[found.start :]
    line, end = said[1], said[-1]
    stretches = [(place - found.start, who, close) for place, who, close in found.stretches()]
    assert stretches == [(0, 1, line), (1, 1, line), (2, 1, line), (3, 1, line), (4, 3, said[5]), (5, 3, said[5]),
                         (6, 2, said[7]), (7, 2, said[7]), (8, 1, end), (9, 1, end)]  # fmt: skip
    assert collated(found)["closes"][0, found.start - 1 : len(found.ids) - 1].tolist() == [c for _, _, c in stretches]
    # A line break stands inside a stretch too; what the router's own stretch ends with is no matter.
    assert samples.closing([found], 400, 3).nonzero()[:, 0].tolist() == sorted({line, said[7], end})
    assert {token: int(samples.closing([found], 400, 3)[token]) for token in (line, said[7], end)} == {
        line: 1, said[7]: 2, end: 2,
    }  # fmt: skip


def test_a_token_of_two_stretches_is_the_later_one_s() -> None:
    """A line break that is one token for two of them lies in both spans; spans may come in any order."""
    found = Sequenced([7, 7, 11, 12, 13, 14], 2, (), ((4, 1), (5, 1), (2, 0), (3, 0), (4, 1)))
    assert found.stretches() == [(2, 0, 12), (3, 0, 12), (4, 1, 14), (5, 1, 14)]
    both = Sequenced([7, 7, 11, 12, 13], 2, (), ((2, 0), (3, 0), (3, 0), (4, 0)))
    assert both.stretches() == [(2, 0, 13), (3, 0, 13), (4, 0, 13)]
    assert samples.closing([both], 20, 2).nonzero()[:, 0].tolist() == [13]


LINE, MARK = 4, 9


def led(logits: torch.Tensor, close: int = LINE) -> Heard:
    """Two rows in which expert 2 speaks three tokens and ends with `close`; MARK only ever ends, LINE stands inside."""
    batch, _ = heard(VOCABULARY)
    named = torch.tensor([[2, 2, 2, -1, -1, -1]]).expand(2, -1)
    closing = torch.zeros(VOCABULARY, dtype=torch.int64)
    closing[LINE], closing[MARK] = 1, 2
    return batch._replace(logits=logits, named=named, closes=torch.where(named >= 0, close, -1), closing=closing)


def test_a_router_that_is_told_who_speaks_picks_it_and_adds_nothing() -> None:
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(2, LENGTH, VOCABULARY, generator=random).requires_grad_()
    batch = led(logits)
    losses.told(batch).backward()
    assert batch.scores.grad is not None
    assert logits.grad is not None
    assert (batch.scores.grad[:, :3, 2] < 0).all()
    assert logits.grad[:, 3:].abs().sum() == 0
    assert float(losses.told(batch).detach()) > 0.1
    yields = torch.zeros(2, LENGTH, VOCABULARY)
    yields[:, 2, MARK], yields[:, 2, LINE] = log(losses.LIKELY), -30
    sure = 30 * torch.nn.functional.one_hot(batch.named.clamp_min(0), 3)
    assert float(losses.told(led(yields, MARK)._replace(scores=sure))) == pytest.approx(0, abs=1e-5)
    alone = batch._replace(logits=logits.detach().requires_grad_())
    losses.next_token(alone).backward()
    assert alone.logits.grad is not None
    assert alone.logits.grad[:, :3].abs().sum() == 0
    assert (alone.logits.grad[:, 3:5].abs().sum(-1) > 0).all()
    assert losses.watch(batch).decided >= 6


def learned(close: int) -> torch.Tensor:
    """The router's distributions after it has learned to yield, freely at each token."""
    logits = torch.zeros(2, LENGTH, VOCABULARY, requires_grad=True)
    optimizer, batch = torch.optim.Adam([logits], lr=0.1), led(logits, close)
    for _ in range(300):
        optimizer.zero_grad()
        losses.yielding(batch).sum().backward()
        optimizer.step()
    return logits.detach().softmax(-1)[0]


def test_before_the_end_of_its_part_an_expert_is_disturbed_only_in_ending_it_wrongly() -> None:
    said = learned(LINE)
    others = [token for token in range(VOCABULARY) if token not in (LINE, MARK)]
    for place in (0, 1):
        torch.testing.assert_close(said[place, [LINE, *others]], torch.full((10,), 0.1), atol=5e-3, rtol=0)
        assert said[place, MARK] < 1e-2 * said[place, LINE]
    within = learned(MARK)
    torch.testing.assert_close(within[:2], torch.full((2, VOCABULARY), 1 / VOCABULARY), atol=5e-3, rtol=0)


@pytest.mark.parametrize(("close", "wrong"), [(LINE, MARK), (MARK, LINE)])
def test_at_the_end_of_a_part_the_right_end_is_expected_but_never_much(close: int, wrong: int) -> None:
    said = learned(close)[2]
    others = [token for token in range(VOCABULARY) if token not in (LINE, MARK)]
    assert said[wrong] < 1e-2 * said[close]
    torch.testing.assert_close(said[close] / said[others], torch.full((9,), float(losses.LIKELY)), rtol=0.05, atol=0)


def test_a_router_that_is_named_learns_to_pick_nobody_and_its_own_words() -> None:
    batch, _ = heard(VOCABULARY, nobody=True)
    named = torch.tensor([[2, 2, EXPERTS, EXPERTS, -1, -1]]).expand(2, -1)
    closing = torch.nn.functional.one_hot(torch.tensor(LINE), VOCABULARY)
    batch = batch._replace(named=named, closes=torch.where(named >= 0, LINE, -1), closing=closing)
    (losses.told(batch) + losses.next_token(batch)).backward()
    assert batch.scores.grad is not None
    assert batch.logits.grad is not None
    assert (batch.scores.grad[:, 2:4, EXPERTS] < 0).all()
    best = torch.nn.functional.one_hot(batch.labels, VOCABULARY).bool()
    assert (batch.logits.grad[:, 2:5][best[:, 2:5]] < 0).all()
    assert losses.watch(batch).picked.shape == (EXPERTS + 1,)
    # Nobody's words are the router's, in each of the losses.
    own = batch.logits.detach().log_softmax(-1).gather(-1, batch.labels[..., None])[..., 0]
    batch = batch._replace(logits=batch.logits.detach())
    sure = batch._replace(scores=60 * torch.nn.functional.one_hot(torch.full((2, LENGTH), EXPERTS), EXPERTS + 1))
    total = int(batch.mask.sum())
    assert float(losses.fused(sure)) == pytest.approx(-float((own * batch.mask).sum()) / total, rel=1e-4)
    differ = losses.disputed(batch)
    assert float(losses.routing(sure)) == pytest.approx(-float((own * differ).sum()) / total, rel=1e-4)
    assert losses.answers(sure)[1].abs().sum() == 0


def test_a_head_without_a_row_for_nobody_has_no_bias_to_settle() -> None:
    with pytest.raises(ConfigError, match="its routing head has no row for nobody; train it on data that name the"):
        settle(WEIGHTS / "base", WEIGHTS / "base")


def test_preferences_reach_the_router_s_logits_and_not_the_head() -> None:
    batch, _ = heard(VOCABULARY)
    loss, _ = losses.preference(batch, beta=0.1)
    loss.backward()
    assert batch.logits.grad is not None
    assert batch.logits.grad.abs().sum() > 0
    assert batch.scores.grad is None


def test_preference_weighs_the_picked_expert_s_part_with_beta() -> None:
    batch, _ = heard(VOCABULARY)
    own, theirs = losses.answers(batch)
    wanted = -torch.nn.functional.logsigmoid(own[0] - own[1] + 0.3 * (theirs[0] - theirs[1]))
    torch.testing.assert_close(losses.preference(batch, 0.3)[0], wanted)


def test_watch_counts_who_speaks_and_who_would_have_been_right() -> None:
    batch, _ = heard(VOCABULARY)
    sure = batch._replace(labels=batch.top[:, :, 1, 0], scores=torch.tensor([0.0, 1.0, 0.0]).expand(2, LENGTH, 3))
    seen = losses.watch(sure)
    assert seen.picked.tolist() == [0, int(batch.mask.sum()), 0]
    assert int(seen.right) == int(seen.decided) == int(losses.disputed(sure).sum())


def test_order_of_the_data_depends_on_seed_and_epoch_alone() -> None:
    items = train.Spoken([Sequenced([0] * (3 + index % 7), 1) for index in range(50)], 1)
    first, again, other = (train.Alike(items, 4, seed) for seed in (1, 1, 2))
    assert list(first) == list(again) != list(other)
    assert sorted(first) == list(range(50))
    again.set_epoch(1)
    assert list(first) != list(again)


def test_data_that_does_not_fit_the_stage_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a", "chosen": "b"}\n')
    with pytest.raises(ConfigError, match=r"pairs\.jsonl:2: stage 2 expects the texts prompt, chosen, rejected"):
        samples.read(file, 2)


@pytest.mark.parametrize("arguments", [["calc"], ["=x"], ["a=x", "a=y"]])
def test_experts_are_given_as_name_and_folder(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="--expert"):
        named(arguments)
