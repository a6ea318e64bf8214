"""The losses of the fusion router against the rule that is decoded by, on small random distributions."""

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
    return Heard(logits, scores, labels, mask, spoken, ids, liked, named), theirs


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
    silent = scores.unheard([found], EXPERTS)
    mask = train.Collate([found], silent, 0)([[0]])["mask"]
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
    named = train.Collate([found], scores.unheard([found], EXPERTS), 0)([[0]])["named"]
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
    named = train.Collate([found], scores.unheard([found], EXPERTS), 0)([[0]])["named"]
    assert named[0][found.start - 1 : len(found.ids) - 1].tolist() == [EXPERTS] * 4 + [1] * 3


def test_a_router_that_is_told_who_speaks_picks_it_and_adds_nothing() -> None:
    batch, _ = heard(VOCABULARY)
    batch = batch._replace(named=torch.tensor([[2, 2, 2, -1, -1, -1]]).expand(2, -1))
    losses.told(batch).backward()
    assert batch.scores.grad is not None
    assert batch.logits.grad is not None
    assert (batch.scores.grad[:, :3, 2] < 0).all()
    assert batch.logits.grad[:, 2:].abs().sum() == 0  # at the last token of a span the router has its word
    silent = batch._replace(
        logits=torch.zeros(2, LENGTH, VOCABULARY), scores=30 * torch.nn.functional.one_hot(batch.named.clamp_min(0), 3)
    )
    assert float(losses.told(silent)) == pytest.approx(0, abs=1e-5)
    assert float(losses.told(batch).detach()) > 0.1
    alone = batch._replace(logits=batch.logits.detach().requires_grad_())
    losses.next_token(alone).backward()
    assert alone.logits.grad is not None
    assert alone.logits.grad[:, :2].abs().sum() == 0
    assert (alone.logits.grad[:, 2:5].abs().sum(-1) > 0).all()
    assert losses.watch(batch).decided >= 6


def test_a_router_that_is_named_learns_to_pick_nobody_and_its_own_words() -> None:
    batch, _ = heard(VOCABULARY, nobody=True)
    batch = batch._replace(named=torch.tensor([[2, 2, EXPERTS, EXPERTS, -1, -1]]).expand(2, -1))
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
