"""Plug-ins are found by file name and by entry point, and opened only when they are named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experts.errors import ConfigError
from experts.plugins import known, open_module, own, parse_options

TOP_K = """
from pydantic import BaseModel
class Options(BaseModel, extra="forbid", frozen=True):
    k: int = 1
"""


@pytest.fixture
def hats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A package of plug-ins, `hats`, and an installed distribution that adds two and claims one that is taken."""
    folder, elsewhere = tmp_path / "hats", tmp_path / "site"
    for place, files in {
        folder: {"__init__": "", "_shared": "", "top_k": TOP_K, "torn": "import no_such_module_at_all"},
        elsewhere: {"bowler": "WHO = 'theirs'", "broken": "import no_such_module_at_all"},
        elsewhere / "hats_more-1.dist-info": {},
    }.items():
        place.mkdir()
        for name, text in files.items():
            (place / f"{name}.py").write_text(text)
    points = "[consilium.hats]\nbowler = bowler\nbroken = broken\ntop-k = bowler\n"
    (elsewhere / "hats_more-1.dist-info" / "entry_points.txt").write_text(points)
    (elsewhere / "hats_more-1.dist-info" / "METADATA").write_text("Name: hats-more\nVersion: 1\n")
    for place in (tmp_path, elsewhere):
        monkeypatch.syspath_prepend(str(place))
    yield [str(folder)]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("hats", "bowler")]:
        del sys.modules[name]


def test_names_come_from_files_and_entry_points_and_nothing_is_imported(hats: list[str]) -> None:
    assert own(hats) == {"top-k": "top_k", "torn": "torn"}
    assert known("hats", hats) == {"top-k", "torn", "bowler", "broken"}
    assert known("hats", hats, "consilium.shoes") == {"top-k", "torn"}
    assert not {"hats", "hats.top_k", "hats.torn", "bowler"} & sys.modules.keys()


def test_a_file_of_this_project_wins_over_an_entry_point(hats: list[str]) -> None:
    assert open_module("hats", hats, "top-k", "hat").__name__ == "hats.top_k"
    assert open_module("hats", hats, "bowler", "hat").WHO == "theirs"


@pytest.mark.parametrize("name", ["torn", "broken"])
def test_one_that_lacks_something_says_what(hats: list[str], name: str) -> None:
    with pytest.raises(ConfigError, match=f"hat {name} cannot be used here: No module named 'no_such_module_at_all'"):
        open_module("hats", hats, name, "hat")


def test_an_unknown_name_lists_the_known_ones_and_the_nearest(hats: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_module("hats", hats, "bowle", "hat")
    said = "hat 'bowle': no such hat; known are bowler, broken, top-k, torn; did you mean bowler?"
    assert caught.value.message == said


def test_wrong_options_are_all_named(hats: list[str]) -> None:
    module = open_module("hats", hats, "top-k", "hat")
    assert parse_options(module, "top-k", {"k": 3}).model_dump() == {"k": 3}
    with pytest.raises(ConfigError, match=r"top-k\.k: .*got 'x'; top-k\.brim: .*got 1"):
        parse_options(module, "top-k", {"k": "x", "brim": 1})
