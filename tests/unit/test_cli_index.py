"""`consilium index`: build, add, delete, search, stats, by words alone (no model is loaded)."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from router.cli.app import app


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["index", *(str(word) for word in words)])


def told(*words: str | Path) -> dict[str, object]:
    ended = run(*words, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def test_an_index_from_the_first_document_to_the_last(tmp_path: Path) -> None:
    lines = tmp_path / "corpus.jsonl"
    lines.write_text('{"_id": "a", "text": "The capital of Norway is Oslo."}\n{"_id": "b", "text": "Cats purr."}\n')
    index = tmp_path / "index"
    assert told("build", index, lines, "--encoder", "none")["documents"] == 2
    again = told("build", index, lines, "--encoder", "none")
    assert (again["added"], again["unchanged"]) == (0, 2)
    (tmp_path / "new.md").write_text("# Suva\n\nThe capital of Fiji.")
    assert told("add", index, tmp_path / "new.md")["documents"] == 3
    found = told("search", index, "Fiji capital", "--top", "1")["passages"]
    assert isinstance(found, list)
    assert found[0]["id"] == "new.md"
    assert told("delete", index, "new.md") == {"deleted": 1, "asked": 1}
    assert run("delete", index, "new.md").exit_code == 1
    stats = told("stats", index)
    assert (stats["documents"], stats["encoder"]) == (2, None)


def test_missing_documents_are_named(tmp_path: Path) -> None:
    ended = run("build", tmp_path / "index", tmp_path / "none.jsonl", "--encoder", "none")
    assert "none.jsonl: there is no such file" in str(ended.exception)
