"""Building a fused checkpoint of small random models, and the plain reference on it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch, transformers and peft leave parts of their signatures untyped)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from experts.errors import ConfigError
from experts.fusion import members, plugin
from experts.fusion.average import average
from experts.fusion.checkpoint import build, read_config
from experts.fusion.config import place
from experts.fusion.members import HEAD
from experts.fusion.reference import Reference
from experts.fusion.rule import Head, fuse
from experts.pocket.vocabulary import IDS, write_tokenizer
from router.cli.fusion import app as cli

PROMPT = [1, 4, 30, 31, 32, 5]


def model(seed: int, width: int = 16) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(IDS), hidden_size=width, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def saved(folder: Path, made: Any, head: torch.nn.Linear | None = None) -> Path:
    if head is not None:
        made.add_module(HEAD, head)
    made.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def silent_router(folder: Path) -> Path:
    """One that finds every token equally likely."""
    made = model(0)
    with torch.no_grad():
        made.lm_head.weight.zero_()
    return saved(folder, made)


def test_routers_of_one_kind_are_averaged_and_others_refused(tmp_path: Path) -> None:
    folders = [saved(tmp_path / name, model(seed), torch.nn.Linear(16, 3)) for name, seed in (("a", 1), ("b", 2))]
    average(folders, tmp_path / "mean")
    first, second, mean = (members.open_router(folder, 2) for folder in (*folders, tmp_path / "mean"))
    for name, weight in mean.state_dict().items():
        expected = (first.state_dict()[name] + second.state_dict()[name]) / 2
        assert torch.allclose(weight, expected, atol=1e-6), name
    assert members.tokenizer(tmp_path / "mean", {}).vocab_size == len(IDS)
    said = CliRunner().invoke(cli, ["average", str(folders[0]), str(folders[1]), "--out", str(tmp_path / "again")])
    assert said.exit_code == 0, said.output
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "mean/model.safetensors").read_bytes()
    wider = saved(tmp_path / "wider", model(3, width=32), torch.nn.Linear(32, 3))
    for routers, out, said in (
        ([folders[0]], "x", "two routers or more"),
        ([folders[0], wider], "x", "differ from those of .* in name or shape, such as"),
        ([folders[0], tmp_path], "x", "no .*safetensors in it"),
        (folders, "mean", "is there already"),
    ):
        with pytest.raises(ConfigError, match=said):
            average(routers, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "again", "b", "mean", "wider"]


@given(st.integers(1, 4), st.integers(2, 9), st.integers(0, 2**31))
def test_the_rule_picks_adds_and_normalises(n: int, vocabulary: int, seed: int) -> None:
    torch.manual_seed(seed)
    scores, router, experts = torch.randn(3, n), torch.randn(3, vocabulary), torch.randn(n, 3, vocabulary)
    found = fuse(scores, router, experts)
    for row in range(3):
        chosen = int(scores[row].argmax())
        expected = router[row].softmax(-1) * experts[chosen, row].softmax(-1)
        assert torch.allclose(found.logprobs[row].exp(), expected / expected.sum(), atol=1e-5)
        assert (int(found.expert[row]), int(found.own[row])) == (chosen, int(experts[chosen, row].argmax()))
        assert -1e-6 <= float(found.shift[row]) <= 1 + 1e-6
    alone = fuse(scores, torch.zeros(3, vocabulary), experts)
    assert torch.allclose(alone.shift, torch.zeros(3), atol=1e-5)
    assert torch.equal(Head.zeros(n, 5, always=n - 1).scores(torch.randn(3, 5)).argmax(-1), torch.full((3,), n - 1))


@given(st.integers(1, 4), st.integers(2, 9), st.integers(0, 2**31))
def test_a_row_more_lets_the_router_speak_by_itself(n: int, vocabulary: int, seed: int) -> None:
    torch.manual_seed(seed)
    scores, router, experts = torch.randn(5, n + 1), torch.randn(5, vocabulary), torch.randn(n, 5, vocabulary)
    found, without = fuse(scores, router, experts), fuse(scores[:, :n], router, experts)
    for row in range(5):
        if int(scores[row].argmax()) < n:
            assert torch.equal(found.logprobs[row], without.logprobs[row])
            continue
        assert torch.allclose(found.logprobs[row], router[row].log_softmax(-1), atol=1e-6)
        assert int(found.expert[row]) == n
        assert (int(found.own[row]), float(found.shift[row])) == (int(router[row].argmax()), 0.0)


def test_a_head_with_a_row_more_is_built_and_one_with_two_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(5)
    folders = {name: saved(tmp_path / name, model(seed)) for name, seed in (("a", 1), ("b", 2))}
    head = torch.nn.Linear(16, 3)
    head.bias.data = torch.tensor([0.0, 0.0, 50.0])
    router = saved(tmp_path / "router", model(0), head)
    built = build(router, folders, tmp_path / "fused")
    assert read_config(built.folder).nobody
    found = Reference(built.folder).step(PROMPT)
    with torch.inference_mode():
        wanted = model(0)(input_ids=torch.tensor([PROMPT])).logits[0].log_softmax(-1)
    assert torch.allclose(found.logprobs, wanted, atol=1e-5)
    assert set(found.expert.tolist()) == {2}
    wide = saved(tmp_path / "wide", model(0), torch.nn.Linear(16, 4))
    with pytest.raises(ConfigError, match=r"shape \(4, 16\), expected \(2, 16\): experts, width; or a row more"):
        build(wide, folders, tmp_path / "never")
    with pytest.raises(ConfigError, match="its routing head is for 4 experts"):
        members.open_router(wide, 2)
    grown = members.open_router(saved(tmp_path / "two", model(0), torch.nn.Linear(16, 2)), 2, nobody=True)
    assert grown.routing_head.weight.shape == (3, 16)
    assert grown.routing_head.weight[2].abs().sum() == 0


def test_with_a_silent_router_it_is_the_expert_that_always_speaks(tmp_path: Path) -> None:
    router = silent_router(tmp_path / "router")
    experts = {name: model(seed) for name, seed in (("a", 1), ("b", 2))}
    folders = {name: saved(tmp_path / name, made) for name, made in experts.items()}
    for always, expert in experts.items():
        built = build(router, folders, tmp_path / f"only-{always}", always=always)
        with torch.inference_mode():
            alone = expert(input_ids=torch.tensor([PROMPT])).logits[0].log_softmax(-1)
        found = Reference(built.folder).step(PROMPT)
        assert torch.allclose(found.logprobs, alone, atol=1e-5)
        assert set(found.expert.tolist()) == {list(experts).index(always)}


def test_the_trained_head_of_the_router_decides(tmp_path: Path) -> None:
    head = torch.nn.Linear(16, 2)
    torch.nn.init.normal_(head.weight)
    router = saved(tmp_path / "router", model(0), head)
    folders = {name: saved(tmp_path / name, model(seed, width)) for name, seed, width in (("a", 1, 16), ("b", 2, 24))}
    built = build(router, folders, tmp_path / "fused")
    reference = Reference(built.folder)
    assert torch.equal(reference.head.weight, head.weight)
    said, logprobs, spoke = reference.greedy(PROMPT, 4, stop=-1)
    assert (len(said), len(logprobs), set(spoke) <= {0, 1}) == (4, 4, True)
    assert float(reference.step([*PROMPT, *said]).logprobs[len(PROMPT) - 1, said[0]]) == pytest.approx(logprobs[0])
    config = read_config(built.folder)
    assert [member.name for member in config.listed()] == ["router", "a", "b"]
    assert (config.vocabulary, config.vocab_size) == (len(IDS), len(IDS) + 3)


def test_adapters_share_their_base_and_say_the_same_as_merged_ones(tmp_path: Path) -> None:
    base, router = saved(tmp_path / "base", model(3)), silent_router(tmp_path / "router")
    folders: dict[str, Path] = {}
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        lora = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(model(3), lora).save_pretrained(str(tmp_path / name))
        folders[name] = tmp_path / name
    shared = build(router, folders, tmp_path / "shared", base=base, always="b")
    merged = build(router, folders, tmp_path / "merged", base=base, always="b", merge=True)
    assert shared.parameters["b"] < 0.2 * merged.parameters["b"]
    assert [member.shares for member in shared.members] == ["", "a", "a"]
    one, other = (Reference(built.folder).step(PROMPT).logprobs for built in (shared, merged))
    assert torch.allclose(one, other, atol=1e-5)


def test_what_cannot_be_fused_is_refused_and_named(tmp_path: Path) -> None:
    router, expert = silent_router(tmp_path / "router"), saved(tmp_path / "a", model(1))
    with pytest.raises(ConfigError, match=r"no routing head .*--always"):
        build(router, {"a": expert}, tmp_path / "out")
    file = expert / "tokenizer.json"
    said = json.loads(file.read_text())
    said["model"]["vocab"]["~"], said["model"]["vocab"]["}"] = IDS["}"], IDS["~"]
    file.write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=r"a \(.*\): its tokenizer is not the router's: 2 tokens differ: '}'.*'~'"):
        build(router, {"a": expert}, tmp_path / "out", always="a")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="consilium fusion build"):
        read_config(tmp_path)


def test_places_hold_no_integer_and_are_all_different() -> None:
    places = [place(index) for index in range(800)]
    assert len(set(places)) == 800
    assert not any(character.isdigit() for name in places for character in name)


def test_a_vllm_that_cannot_serve_it_is_told_so() -> None:
    assert "0.20 or newer, and this is 0.11.2" in plugin.unfit("0.11.2")
    assert not plugin.unfit("0.32.0+cpu")
