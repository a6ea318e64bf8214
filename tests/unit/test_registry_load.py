"""Reading manifests: what is understood, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from experts.errors import RegistryError
from experts.language import Price
from registry.load import Names, Registry, Terms, load, parse_text

EXPERT = """
kind: expert
name: {name}
provider: scripted
text: hello
"""


def problems(text: str, terms: Terms | None = None) -> list[str]:
    with pytest.raises(RegistryError) as caught:
        parse_text(text, terms or Terms(environ={}))
    return [str(problem).removeprefix("registry.yaml:") for problem in caught.value.problems]


def only(text: str) -> Registry:
    return parse_text(text, Terms(environ={}))


def test_five_lines_are_a_registry() -> None:
    registry = only("kind: expert\nname: a\nprovider: vllm\nmodel: M\nendpoints: [http://10.0.0.5:8000/v1]\n")
    expert = registry.experts["a"]
    assert expert.options.model_dump()["endpoints"] == ["http://10.0.0.5:8000/v1"]
    assert registry.routes["auto"].experts.of(registry.experts) == ("a",)
    assert registry.encoders["default"].runtime == "onnx-int8"
    assert (registry.source("a"), registry.source("auto")) == ("registry.yaml:1", "")


def test_a_card_knows_what_a_decision_may_know() -> None:
    card = only(
        EXPERT.format(name="a")
        + "skills: [algebra]\nexamples: ['1 + 1?']\nlanguages: [no, en]\nmodalities: [text, image]\ntools: false\n"
        "context: 4096\nprice: {input: 0.1, output: 2}\nparameters_b: 7\nlabels: {tier: 1}\ntokenizer: t\n"
    ).card("a")
    assert (card.skills, card.examples, card.languages) == (("algebra",), ("1 + 1?",), ("no", "en"))
    assert (card.modalities, card.tools, card.structured) == (frozenset({"text", "image"}), False, True)
    assert (card.context, card.price, card.parameters_b) == (4096, Price(0.1, 2.0), 7.0)
    assert (card.labels, card.tokenizer) == ({"tier": "1"}, "t")


def test_every_problem_of_every_file_is_reported_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(EXPERT.format(name="a") + "price:\n  output: -1\ncontxt: 5\n")
    (tmp_path / "b.yaml").write_text("kind: route\nname: auto\nexperts: [b]\n---\nkind: rout\nname: x\n")
    (tmp_path / "c.yml").write_text("kind: [\n")
    (tmp_path / ".hidden.yaml").write_text("nonsense")
    with pytest.raises(RegistryError) as caught:
        load(tmp_path, environ={})
    found = [(Path(p.file).name, p.line, p.path, p.message) for p in caught.value.problems]
    assert found[:4] == [
        ("a.yaml", 7, "price.output", "must be >= 0, got -1"),
        ("a.yaml", 8, "contxt", "unknown key; did you mean 'context'?"),
        ("b.yaml", 3, "experts[0]", "there is no expert 'b'; known: a"),
        ("b.yaml", 5, "kind", "expected one of expert, route, encoder, retriever, got 'rout'; did you mean 'route'?"),
    ]
    assert found[4][0] == "c.yml"
    assert "cannot be read as YAML" in found[4][3]
    assert f"{tmp_path}/a.yaml:7: price.output: must be >= 0, got -1" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("context: many", "6: context: expected a whole number, got 'many'"),
        ("context: 0", "6: context: must be >= 1, got 0"),
        ("price: {input: true}", "6: price.input: expected a number, got true"),
        ("price: {input: .nan}", "6: price.input: expected a finite number, got nan"),
        ("price: 3", "6: price: expected a map, got 3"),
        ("tools: 'maybe'", "6: tools: expected true or false, got 'maybe'"),
        ("skills: algebra", "6: skills: expected a list, got 'algebra'"),
        ("skills: ['']", "6: skills[0]: must not be empty"),
        ("skills: [{a: 1}]", "6: skills[0]: expected text, got a map"),
        ("modalities: [smell]", "6: modalities[0]: expected one of text, image, audio, video, file, got 'smell'"),
        ("timeouts: {totl_s: 1}", "6: timeouts.totl_s: unknown key; did you mean 'total_s'?"),
        ("limits: {concurrency: 0}", "6: limits.concurrency: must be >= 1, got 0"),
        ("serve: {port: 70000}", "6: serve.port: must be <= 65535, got 70000"),
        ("description:", "6: description: expected text, got nothing"),
        ("text: 5", "6: text: written twice; first in line 5"),
        ("1: x", '6: expected keys to be text; quote the key: "1", "true"'),
        ("labels: !set {a}", "6: labels: expected a plain map, got one with a tag; remove the tag"),
    ],
)
def test_a_problem_says_what_was_expected_and_found(keys: str, said: str) -> None:
    assert said in problems(EXPERT.format(name="a") + keys + "\n")


@pytest.mark.parametrize("name", ["Bad", "auto:cheap", "", "-a", "a" * 64, "a b", "../x", "a\n"])
def test_names_are_narrow(name: str) -> None:
    (said,) = problems(f"kind: expert\nname: {name!r}\nprovider: scripted\n".replace("'", '"'))
    assert said.startswith("2: name: expected lower-case letters")


def test_an_unknown_provider_names_the_known_and_the_nearest() -> None:
    (said,) = problems("kind: expert\nname: a\nprovider: vlm\n")
    assert said.startswith("3: provider: expected one of litellm, scripted, vllm")
    assert said.endswith("got 'vlm'; did you mean 'vllm'?")


def test_a_misspelt_provider_is_named_as_what_it_was_meant_to_be() -> None:
    said = problems("kind: expert\nname: a\nprovder: vllm\nendpoints: [x]\n")
    assert said == [
        "1: provider: required, but missing: What kind of client asks it: `vllm`, `litellm`, `scripted`, or one that "
        "is installed",
        "3: provder: unknown key; did you mean 'provider'?",
    ]


def test_missing_keys_say_what_they_are_for() -> None:
    said = problems("kind: expert\nprovider: vllm\n")
    assert any(line.startswith("1: name: required, but missing: What others call it by: lower-case") for line in said)
    assert any(line.startswith("1: endpoints: required, but missing: ") for line in said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected at least one document of kind expert, found none"),
        ("---\n---\n# nothing\n", "expected at least one document of kind expert, found none"),
        ("- a\n", "1: expected a map with a kind and a name, got a list of 1"),
        ("just text", "1: expected a map with a kind and a name, got 'just text'"),
        ("name: a\n", "1: kind: required, but missing: expected one of expert, route, encoder"),
        ("&a [*a]", "expected at most 20000 values, 32 deep"),
        ("[" * 500, "cannot be read as YAML: nested more than 32 deep"),
        ("\x00", "characters are not allowed"),
        ("\ud800", "expected UTF-8 text"),
    ],
)
def test_what_is_no_manifest_is_said_to_be_none(text: str, said: str) -> None:
    assert any(said in line for line in problems(text))


def test_a_small_file_cannot_grow_huge() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 9))
    (said, *_) = problems("l0: &l0 [lol]\n" + levels)
    assert "expected at most 20000 values" in said


def test_a_file_too_big_or_not_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text("#" * (1 << 20) + "\n")
    (tmp_path / "latin.yaml").write_bytes(b"kind: expert\nname: caf\xe9\n")
    with pytest.raises(RegistryError) as caught:
        load(tmp_path, environ={})
    big, latin = caught.value.problems
    assert "at most 1048576 bytes" in big.message
    assert (latin.line, latin.message) == (2, "expected UTF-8 text")


def test_a_path_that_is_not_there_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="there is no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(RegistryError, match=r"expected \*\.yaml files in this folder, found none"):
        load(tmp_path)


def test_anchors_and_merges_share_keys_and_keep_lines() -> None:
    registry = only(
        "kind: expert\nname: a\nprovider: scripted\nlabels: &l {x: '1', y: '2'}\nserve: {env: {<<: *l, y: '3'}}\n"
    )
    env = registry.experts["a"].serve.env if registry.experts["a"].serve else {}
    assert {name: value.get_secret_value() for name, value in env.items()} == {"x": "1", "y": "3"}
    said = problems("kind: expert\nname: a\nprovider: scripted\nprice: &p {input: -1}\ntimeouts:\n  <<: *p\n")
    assert said == [
        "4: price.input: must be >= 0, got -1",
        "4: timeouts.input: unknown key; known: between_bytes_s, connect_s, first_byte_s, total_s",
    ]


def test_serve_paths_start_at_the_manifest_and_hub_names_do_not(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "a.yaml"
    file.write_text(
        EXPERT.format(name="a") + "serve: {model: ../weights, lora: org/adapter, args: [--max-model-len, 4096]}\n"
    )
    serve = load(tmp_path).experts["a"].serve
    assert serve is not None
    assert (serve.model, serve.lora, serve.args) == (
        str(tmp_path / "weights"), "org/adapter", ("--max-model-len", "4096"),
    )  # fmt: skip


def test_the_version_is_of_what_is_said_not_how(tmp_path: Path) -> None:
    one = EXPERT.format(name="a") + "---\n" + EXPERT.format(name="b")
    two = "# comment\n" + EXPERT.format(name="b") + "---\n" + EXPERT.format(name="a").replace("hello", "'hello'")
    assert only(one).version == only(two).version
    assert only(one).version != only(one.replace("hello", "bye")).version
    (tmp_path / "a.yaml").write_text(EXPERT.format(name="a"))
    (tmp_path / "b.yml").write_text(EXPERT.format(name="b"))
    assert load(tmp_path).version == only(one).version


def test_an_unchanged_manifest_equals_itself_after_a_reload() -> None:
    before, after = only(EXPERT.format(name="a")), only("\n\n" + EXPERT.format(name="a"))
    assert before.experts["a"] == after.experts["a"]
    assert before.experts["a"] != only(EXPERT.format(name="a").replace("hello", "bye")).experts["a"]


def test_a_route_chooses_by_names_by_star_and_by_labels() -> None:
    experts = "---".join(EXPERT.format(name=n) + f"labels: {{tier: {t}}}\n" for n, t in (("a", 1), ("b", 2), ("c", 1)))
    routes = (
        "---\nkind: route\nname: named\nexperts: [c, a, c]\nspares: [a]\npolicy: {name: balanced, gain: 0.5}\n"
        "---\nkind: route\nname: every\nexperts: '*'\n"
        "---\nkind: route\nname: small\nexperts: {labels: {tier: 1}}\n"
    )
    registry = only(experts + routes)
    assert registry.routes["named"].experts.of(registry.experts) == ("c", "a")
    assert registry.routes["every"].experts.of(registry.experts) == ("a", "b", "c")
    assert registry.routes["small"].experts.of(registry.experts) == ("a", "c")
    assert "auto" not in registry.routes
    route = registry.routes["named"]
    assert (route.policy.name, route.policy.options, route.spares) == ("balanced", {"gain": 0.5}, ("a",))
    assert (route.estimator.name, route.composer.name, route.encoder) == ("blend", "single", "default")


def test_cross_checks_see_all_manifests_together() -> None:
    said = problems(
        EXPERT.format(name="math") + "tokenizer: t1\n---" + EXPERT.format(name="code") + "tokenizer: t2\n---"
        + EXPERT.format(name="fused") + "members: [math, code, ghost, fused]\n---" + EXPERT.format(name="math")
        + "---\nkind: route\nname: code\nexperts: [mth, code]\ndefault: math\nspares: [fused]\nencoder: mini\n"
        "---\nkind: encoder\nname: mini-lm\n"
        "---\nkind: route\nname: none\nexperts: {labels: {tier: small}}\n"
    )  # fmt: skip
    assert said == [
        "18: members[1]: expected every member to have one tokenizer, got 't1' (math) and 't2' (code)",
        "18: members[2]: there is no expert 'ghost'; known: code, math",
        "18: members[3]: an expert cannot be a member of itself",
        "21: name: 'math' is already an expert, in registry.yaml:3; rename one of them",
        "26: name: 'code' is already an expert, in registry.yaml:9; rename one of them",
        "27: experts[0]: there is no expert 'mth'; did you mean 'math'?",
        "28: default: expected one of the route's experts, got 'math'; did you mean 'mth'?",
        "29: spares[0]: expected one of the route's experts, got 'fused'; known: code, mth",
        "30: encoder: there is no encoder 'mini'; did you mean 'mini-lm'?",
        "37: experts: expected at least one expert, but none is labelled tier: small",
    ]


def test_a_broken_expert_is_not_reported_again_by_its_route() -> None:
    said = problems(EXPERT.format(name="a") + "context: x\n---\nkind: route\nname: r\nexperts: [a]\ndefault: a\n")
    assert said == ["6: context: expected a whole number, got 'x'"]


def test_an_expert_called_auto_needs_a_route() -> None:
    (said,) = problems(EXPERT.format(name="auto"))
    assert said.startswith("3: name: a registry without routes gets the route 'auto'")


class Gain(BaseModel, frozen=True, extra="forbid"):
    gain: float = 0.0


def test_plug_ins_are_checked_where_their_names_are_known() -> None:
    names = Names(
        frozenset({"balanced"}), frozenset({"blend", "prior"}), frozenset({"single"}),
        lambda slot, _: Gain if slot == "policy" else None,
    )  # fmt: skip
    terms = Terms(names, environ={})
    route = "---\nkind: route\nname: r\nexperts: '*'\n"
    assert problems(EXPERT.format(name="a") + route + "policy: balancd\nestimator: {name: blnd}\n", terms) == [
        "10: policy: there is no policy 'balancd'; did you mean 'balanced'?",
        "11: estimator.name: there is no estimator 'blnd'; did you mean 'blend'?",
    ]
    assert problems(EXPERT.format(name="a") + route + "policy: {name: balanced, gian: 1}\n", terms) == [
        "10: policy.gian: unknown option of policy balanced; did you mean 'gain'?"
    ]
    assert problems(EXPERT.format(name="a") + route + "policy: {name: balanced, gain: lots}\n", terms) == [
        "10: policy.gain: expected a number, got 'lots'"
    ]
    good = EXPERT.format(name="a") + route + "policy: {name: balanced, gain: 1}\n"
    assert parse_text(good, terms).routes["r"].policy.options == {"gain": 1}


def test_an_expert_that_only_a_composer_asks_must_be_there(tmp_path: Path) -> None:
    text = "kind: expert\nname: a\nprovider: scripted\ndescription: a\n---\nkind: route\nname: auto\nexperts: '*'\n"
    (tmp_path / "registry.yaml").write_text(text + "composer: {name: council, aggregator: b}\n")
    with pytest.raises(RegistryError, match=r"composer\.aggregator: there is no expert 'b'"):
        load(tmp_path)


def test_no_route_chooses_among_reward_models() -> None:
    rating = "---\nkind: expert\nname: r\nprovider: vllm\nmodel: m\nreward: true\nendpoints: [http://h/v1]\n"
    route = "---\nkind: route\nname: auto\n"
    good = only(EXPERT.format(name="a") + rating + route + "experts: '*'\ncomposer: {name: best-of, reward: r}\n")
    assert good.routes["auto"].experts.of(good.experts) == ("a",)
    assert only(EXPERT.format(name="a") + rating).routes["auto"].experts.of(good.experts) == ("a",)
    said = problems(
        EXPERT.format(name="a") + rating + route + "experts: [a, r]\ncomposer: {name: council, aggregator: r}\n"
    )
    assert [line.split(": ", 1)[1] for line in said] == [
        "experts[1]: 'r' rates answers and gives none; a composer asks it: {name: best-of, reward: r}",
        "composer.aggregator: expected another expert here: 'r' rates answers and gives none",
    ]
    said = problems(EXPERT.format(name="a") + rating + route + "experts: [a]\ncomposer: {name: best-of, reward: a}\n")
    assert [line.split(": ", 1)[1] for line in said] == [
        "composer.reward: expected another expert here: 'a' is no reward model (vllm with `reward: true`)"
    ]
    said = problems(
        EXPERT.format(name="a") + "members: [r]\n" + rating + "---\nkind: retriever\nname: s\nprovider: remote\n"
        "url: http://h/s\nrerank: {expert: r}\n"
    )  # fmt: skip
    assert [line.split(": ", 1)[1] for line in said] == [
        "members[0]: expected an expert that answers: 'r' only rates",
        "rerank.expert: expected an expert that answers: 'r' only rates",
    ]
    (alone,) = problems(rating.removeprefix("---"))
    assert alone.endswith("expected at least one expert that answers; all there are only rate")
    (none,) = problems(rating.removeprefix("---") + route + "experts: '*'\n")
    assert none.endswith("expected at least one expert, but all there are rate answers and give none")


def test_two_corpora_cannot_have_one_name(tmp_path: Path) -> None:
    retriever = "---\nkind: retriever\nname: {}\nprovider: {}\nindex: {}\n"
    file = tmp_path / "r.yaml"
    file.write_text(EXPERT.format(name="a") + retriever.format("d", "dense", "one/docs")
                    + retriever.format("l", "lexical", "two/../one/docs"))  # fmt: skip
    assert load(file, environ={}).retrievers.keys() == {"d", "l"}
    file.write_text(file.read_text() + retriever.format("other", "lexical", "two/docs"))
    with pytest.raises(RegistryError, match="are both called 'docs'") as caught:
        load(file, environ={})
    (problem,) = caught.value.problems
    assert problem.path == "index"
    assert str(tmp_path / "one" / "docs") in problem.message
    assert "(retriever d)" in problem.message
    remote = "---\nkind: retriever\nname: docs\nprovider: remote\nurl: http://h/v1/retrieve\n"
    file.write_text(EXPERT.format(name="a") + retriever.format("d", "dense", "one/docs") + remote)
    with pytest.raises(RegistryError, match=r"an endpoint and .*one/docs .retriever d. are both called 'docs'"):
        load(file, environ={})
