"""Routing over retrievers through a gateway: corpora chosen by the query, a ranker fitted on judged queries."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experts.endpoints import Endpoints
from experts.errors import ConfigError
from experts.language import Card
from experts.retrieval.corpus import Document, create_corpus
from experts.retrieval.encoders import open_encoder
from experts.retrieval.indexing import add, embedded_by
from experts.transport import Transport
from registry.load import load as load_registry
from router.assembly import Assembly
from router.cli.app import app
from router.retrieval.estimating import fit_chooser
from router.retrieval.ranking import load_ranker
from tests.integration.conftest import Served, Start

pytestmark = pytest.mark.integration

SUBJECTS = {
    "kitchen": [
        ("eggs", "Boil an egg for nine minutes until the yolk is firm."),
        ("bread", "Knead the dough, let it rise, then bake the loaf until its crust is brown."),
        ("soup", "Simmer onions, carrots and celery in stock for an hour to make soup."),
        ("rice", "Rinse the rice, add twice as much water, and steam it under a lid."),
        ("pasta", "Cook pasta in salted water and keep a cup of it for the sauce."),
        ("salad", "Dress the lettuce with oil, vinegar and mustard before serving."),
        ("stew", "Brown the beef first, then braise the stew slowly with wine."),
        ("pie", "Roll out the pastry and fill the pie with sliced apples."),
    ],
    "sky": [
        ("moon", "The moon circles the earth in twenty-seven days and shows one face."),
        ("mars", "Mars looks red because iron in its soil has rusted."),
        ("comet", "A comet grows a tail of gas and dust when it nears the sun."),
        ("eclipse", "In a solar eclipse the moon hides the sun from the earth."),
        ("saturn", "The rings of Saturn are made of ice and rock."),
        ("star", "A star shines because hydrogen fuses into helium in its core."),
        ("galaxy", "The Milky Way is a galaxy of some hundred billion stars."),
        ("meteor", "A meteor is a grain of dust that burns up in the air."),
    ],
    "law": [
        ("contract", "A contract is void where one party was forced to sign it."),
        ("lease", "The tenant must give notice three months before the lease ends."),
        ("will", "A will needs the signatures of two witnesses to be valid."),
        ("theft", "Theft is punished with a fine or with prison up to five years."),
        ("appeal", "An appeal against a judgment is filed with the higher court within a month."),
        ("patent", "A patent protects an invention for twenty years."),
        ("divorce", "After a divorce the court decides on custody of the children."),
        ("tax", "Income tax is due on the last day of May."),
    ],
}
ASKED = {
    "kitchen/eggs": ["how long do eggs need to be hard", "minutes for a boiled egg"],
    "kitchen/bread": ["how do I bake a loaf", "why must dough rise"],
    "kitchen/rice": ["how much water for rice", "steaming rice"],
    "kitchen/pie": ["what goes into an apple pie", "pastry for pie"],
    "sky/moon": ["how long is the moon's orbit", "why do we see one side of the moon"],
    "sky/mars": ["why is mars red", "colour of the red planet"],
    "sky/saturn": ["what are saturn's rings made of", "ice around a planet"],
    "sky/comet": ["what is a comet's tail", "why do comets glow near the sun"],
    "law/contract": ["is a contract under duress valid", "forced to sign an agreement"],
    "law/lease": ["how do I end my rent agreement", "notice period of a tenant"],
    "law/will": ["how many witnesses for a testament", "is my will valid"],
    "law/patent": ["how long does a patent last", "protecting an invention"],
}
ABOUT = {
    "kitchen": "cooking and baking recipes",
    "sky": "astronomy, the planets and the stars",
    "law": "legal advice on courts and contracts",
}
RETRIEVER = """
kind: retriever
name: {name}
description: {about}
provider: hybrid
index: ./{name}
---"""
ROUTE = """
kind: expert
name: echo
provider: scripted
replies: [{{template: "{{last}}"}}]
---
kind: route
name: auto
experts: [echo]
retrieval: {{retrievers: [kitchen, sky, law], passages: 1, gate: always{more}}}
"""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    encoder = open_encoder()
    for name, documents in SUBJECTS.items():
        corpus = create_corpus(folder / name, embedded_by(encoder, "all-MiniLM-L6-v2", "onnx-int8"))
        add(corpus, [Document(title, title, (text,), {}) for title, text in documents], encoder)
        corpus.close()
    return folder


def registry(folder: Path, more: str = "") -> str:
    text = "".join(RETRIEVER.format(name=name, about=ABOUT[name]) for name in SUBJECTS) + ROUTE.format(more=more)
    return text.replace("./", f"{folder}/")


async def retrieve(served: Served, **body: Any) -> dict[str, Any]:
    reply = await served.post(f"{served.url}/v1/retrieve", json=body)
    assert reply.status == 200, await reply.text()
    return await reply.json()


async def test_the_corpora_near_the_query_are_searched(start: Start, corpora: Path) -> None:
    served = await start(registry(corpora))
    told = await retrieve(served, query="how do I boil an egg?", top_k=3)
    assert told["retrievers"] == ["kitchen"]
    assert sorted(told["skipped"]) == ["law", "sky"]
    assert next(iter(told["corpora"])) == "kitchen"
    assert sum(told["corpora"].values()) == pytest.approx(1, abs=1e-3)
    assert told["reason"].startswith("1 of 3 corpora, with ")
    assert told["passages"][0]["id"] == "eggs"


async def test_all_are_searched_where_the_request_says_so(start: Start, corpora: Path) -> None:
    served = await start(registry(corpora))
    every = await retrieve(served, query="how do I boil an egg?", mass=1)
    assert sorted(every["retrievers"]) == ["kitchen", "law", "sky"]
    named = await retrieve(served, query="how do I boil an egg?", retriever=["law", "sky"])
    assert (named["retrievers"], named["reason"]) == (["law", "sky"], "named by the request")
    reply = await served.post(f"{served.url}/v1/retrieve", json={"query": "x", "mass": 2})
    assert reply.status == 400
    assert "mass: expected a number above 0" in await reply.text()


async def test_an_answer_has_passages_of_the_corpus_that_was_chosen(start: Start, corpora: Path) -> None:
    served = await start(registry(corpora))
    body = await (await served.chat("why is mars red?", consilium={"explain": True})).json()
    assert [row["id"] for row in body["consilium"]["citations"]] == ["mars"]
    assert body["consilium"]["looked_up"]["searched"] == ["sky"]


async def test_a_corpus_that_grows_is_found_by_what_is_new(start: Start, corpora: Path, tmp_path: Path) -> None:
    encoder = open_encoder()
    grown = create_corpus(tmp_path / "law", embedded_by(encoder, "all-MiniLM-L6-v2", "onnx-int8"))
    add(grown, [Document("fine", "fine", ("A parking ticket is paid within two weeks.",), {})], encoder)
    text = registry(corpora).replace(f"{corpora}/law", f"{tmp_path}/law")
    served = await start(text)
    asked = "how are volcanoes formed by magma"
    before = (await retrieve(served, query=asked))["corpora"]["law"]
    texts = ["Magma rises through the crust and forms a volcano.", "Lava cools into basalt around the vent."]
    await asyncio.to_thread(add, grown, [Document(t[:4], t[:4], (t,), {}) for t in texts], encoder)
    grown.close()
    after = await retrieve(served, query=asked)  # `law` is skipped, and looks again
    while after["corpora"]["law"] < 0.9:
        after = await retrieve(served, query=asked)
    assert after["corpora"]["law"] > max(before, 0.9)
    assert after["passages"][0]["id"] == "Magm"


@pytest.fixture(scope="module")
def fitted(corpora: Path) -> tuple[Path, dict[str, Any]]:
    """A ranker's file, and what the command that wrote it said."""
    place = corpora / "registry.yaml"
    place.write_text(registry(corpora, ", mass: 1"))
    rows = [{"query": query, "relevant": [name]} for name, queries in ASKED.items() for query in queries]
    judged = corpora / "judged.jsonl"
    judged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = corpora / "ranker.npz"
    found = CliRunner().invoke(app, ["retriever", "fit", str(judged), "-r", str(place), "-o", str(out), "--json"])
    assert found.exit_code == 0, found.output
    return out, json.loads(found.stdout)


def test_a_ranker_is_fitted_and_judged(fitted: tuple[Path, dict[str, Any]]) -> None:
    out, told = fitted
    assert told["queries"] == sum(map(len, ASKED.values()))
    assert told["found"] == 1
    assert told["ndcg10"] > told["ndcg10_reciprocal_ranks"]
    dense, lexical = load_ranker(out).retrievers
    assert dense.startswith("dense ")
    assert lexical == "lexical"


async def test_a_route_ranks_by_its_ranker(start: Start, corpora: Path, fitted: tuple[Path, dict[str, Any]]) -> None:
    served = await start(registry(corpora, f", mass: 1, ranker: {fitted[0]}"))
    told = await retrieve(served, query="notice period of a tenant", mass=1, top_k=5)
    assert told["passages"][0]["id"] == "lease"
    assert told["passages"][0]["score"] > told["passages"][1]["score"]


@pytest.fixture(scope="module")
def measured(corpora: Path, fitted: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The outcomes of each retriever, and what the command that wrote them said."""
    out = corpora / "retrievers.jsonl"
    asked = [str(corpora / "judged.jsonl"), "-r", str(corpora / "registry.yaml"), "-o", str(out)]
    found = CliRunner().invoke(app, ["retriever", "measure", *asked, "--json"])
    assert found.exit_code == 0, found.output
    return out, json.loads(found.stdout)


def test_each_retriever_is_measured_alone(measured: tuple[Path, dict[str, Any]]) -> None:
    out, told = measured
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == told["queries"] == sum(map(len, ASKED.values()))
    assert told["ndcg10"].keys() == SUBJECTS.keys() == rows[0]["scores"].keys()
    assert rows[0]["scores"]["kitchen"] > 0
    assert rows[0]["scores"]["law"] == rows[0]["scores"]["sky"] == 0
    assert told["ndcg10_best_of_each_query"] > max(told["ndcg10"].values())


@pytest.mark.parametrize(
    "estimator", ["{name: clusters, sizes: [3], rows_per_cell: 4}", "ridge", "blend", "cards", "pilots"]
)
async def test_a_route_s_estimator_chooses_its_retriever(
    start: Start, corpora: Path, measured: tuple[Path, dict[str, Any]], estimator: str
) -> None:
    served = await start(registry(corpora, f", measured: {measured[0]}, estimator: {estimator}"))
    told = await retrieve(served, query="what colour is the planet mars")
    assert told["retrievers"] == ["sky"]
    assert sorted(told["skipped"]) == ["kitchen", "law"]
    assert next(iter(told["expected"])) == "sky"
    assert told["reason"].startswith("1 of 3 retrievers, by expected nDCG@10: sky ")
    assert told["passages"][0]["id"] == "mars"
    by_pilots = await retrieve(served, query="what colour is the planet mars", mass=1)
    assert sorted(by_pilots["retrievers"]) == ["kitchen", "law", "sky"]
    body = await (await served.chat("does a testament need witnesses?", consilium={"explain": True})).json()
    assert body["consilium"]["looked_up"]["searched"] == ["law"]


UNKNOWN = [
    "how do I tune a piano",
    "who won the chess match",
    "what is the fastest train",
    "how old is the bridge",
    "which paint dries first",
    "where do penguins nest",
    "how heavy is gold",
    "who wrote this song",
    "when was the telephone invented",
    "what do cats dream of",
    "why is football popular",
    "how is glass made",
]


async def test_what_is_found_decides_whether_it_is_told(start: Start, corpora: Path, tmp_path: Path) -> None:
    """Passages gain where the corpora have something on the question, and cost where they have not."""
    measured = [query for queries in ASKED.values() for query in queries]
    rows = [(query, 0, 1) for query in measured[1:]] + [(query, 1, 0) for query in UNKNOWN[1:]]
    file = tmp_path / "gate.jsonl"
    file.write_text("\n".join(json.dumps({"query": q, "without": a, "with": b}) for q, a, b in rows))
    text = registry(corpora, f", outcomes: {file}").replace("gate: always", "gate: auto")
    dear = await start(text.replace("name: law\n", "name: law\nrerank: {expert: echo}\n"))
    asked = {"model": "auto", "messages": [{"role": "user", "content": measured[0]}]}
    reason = (await (await dear.post(f"{dear.url}/v1/route", json=asked)).json())["retrieval"]["reason"]
    assert reason.startswith("expected gain"), "nobody pays an expert for reading all that was measured"
    served = await start(text)
    told = await (await served.post(f"{served.url}/v1/route", json=asked)).json()
    assert told["retrieval"]["reason"].startswith("what is found decides; before, expected gain")
    for query, wanted in ((measured[0], True), (UNKNOWN[0], False)):
        body = await (await served.chat(query, consilium={"explain": True})).json()
        looked = body["consilium"]["looked_up"]
        assert looked["told"] is wanted, looked
        assert looked["found"] == 1
        assert looked["reason"].startswith("by what was found, expected gain ")
        assert ("citations" in body["consilium"]) is wanted
        assert ("<source 1>" in body["choices"][0]["message"]["content"]) is wanted


async def test_as_many_retrievers_as_wanted_are_searched_and_the_best_one_s_passages_come_first(
    start: Start, corpora: Path, measured: tuple[Path, dict[str, Any]]
) -> None:
    served = await start(registry(corpora, f", measured: {measured[0]}, top: 2"))
    first: list[bool] = []
    for wanted, queries in ASKED.items():
        for query in queries:
            told = await retrieve(served, query=query)
            assert told["retrievers"] == list(told["expected"])[:2]
            first.append(told["passages"][0]["id"] == wanted.partition("/")[2])
    assert sum(first) / len(first) > 0.9


async def test_auto_is_not_decided_by_a_route_that_has_fewer_retrievers(
    start: Start, corpora: Path, measured: tuple[Path, dict[str, Any]]
) -> None:
    said = registry(corpora, f", measured: {measured[0]}").replace("[kitchen, sky, law]", "[sky, law]")
    served = await start(said)
    told = await retrieve(served, query="what colour is the planet mars")
    assert not told["expected"]
    assert told["passages"][0]["id"] == "mars"


async def test_what_is_fitted_on_a_file_is_kept_until_the_file_changes(
    corpora: Path, measured: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "retrievers.jsonl"
    file.write_bytes(measured[0].read_bytes())
    said = registry(corpora, f", measured: {file}")
    place = tmp_path / "registry.yaml"
    place.write_text(said)
    transport = Transport()
    assembly = Assembly(transport, Endpoints(transport))
    try:

        async def chooser() -> object:
            lookup = (await assembly.build(load_registry(place))).routes["auto"].lookup
            assert lookup is not None
            return lookup.choosing.chooser

        first = await chooser()
        place.write_text(said.replace("passages: ", "max_tokens: 500, passages: "))
        assert await chooser() is first
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
        assert await chooser() is not first
    finally:
        await assembly.close()
        await transport.close()


def test_files_that_a_command_is_to_write_need_not_be_there(
    corpora: Path, fitted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    place = tmp_path / "registry.yaml"
    out, ranker = tmp_path / "new" / "retrievers.jsonl", tmp_path / "new" / "ranker.npz"
    place.write_text(registry(corpora, f", measured: {out}, ranker: {ranker}"))
    judged = str(corpora / "judged.jsonl")
    made = CliRunner().invoke(app, ["retriever", "measure", judged, "-r", str(place), "-o", str(out), "--json"])
    assert made.exit_code == 0, made.output
    made = CliRunner().invoke(app, ["retriever", "fit", judged, "-r", str(place), "-o", str(ranker), "--json"])
    assert made.exit_code == 0, made.output
    assert out.exists()


def test_the_help_of_commands_shows_yaml_as_it_is_written() -> None:
    for command in ("fit", "measure"):
        said = CliRunner().invoke(app, ["retriever", command, "--help"], env={"COLUMNS": "200"}).output
        assert "{retrievers: [handbook, tickets]" in said


async def test_outcomes_of_others_and_estimators_that_are_none_are_named(
    corpora: Path, measured: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    place = tmp_path / "registry.yaml"
    place.write_text(registry(corpora, f", measured: {measured[0]}, estimator: {{name: clusterz}}"))
    found = CliRunner().invoke(app, ["experts", "check", str(place)])
    assert "there is no estimator 'clusterz'; did you mean 'clusters'?" in found.output + found.stderr
    assert "retrieval.estimator.name" in found.output + found.stderr
    with pytest.raises(
        ConfigError, match="expected outcomes of the retrievers other, found those of kitchen, sky, law"
    ):
        fit_chooser("ridge", {}, measured[0], [Card("other")], 1, open_encoder(), None)


def test_lines_that_are_no_judged_queries_are_named(corpora: Path, tmp_path: Path) -> None:
    judged = tmp_path / "judged.jsonl"
    judged.write_text('{"query": "a", "relevant": ["b"]}\n{"query": "a"}\n')
    place = tmp_path / "registry.yaml"
    place.write_text(registry(corpora))
    found = CliRunner().invoke(app, ["retriever", "fit", str(judged), "-r", str(place)])
    assert found.exit_code != 0
    assert "judged.jsonl:2" in str(found.exception) + found.output
