"""Which experts to keep, how often to ask the strong one, what a dollar must buy."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.cli import app
from evals.routing import Settings
from evals.tuning import budget, fleet, threshold
from experts.errors import ConfigError
from registry.route import Plugged
from tests.evals_world import Words, world, write_world

RIDGE = Plugged(name="ridge")
SIZES = {"botanist": {"params_b": 7}, "astronomer": {"params_b": 8}, "generalist": {"params_b": 30}}


def settings(folder: Path) -> Settings:
    return Settings(write_world(folder, world(1500)), fit=("train",), encoder=Words(), cache=folder / "cache")


def test_two_specialists_are_kept_rather_than_one_generalist_of_twice_their_size(tmp_path: Path) -> None:
    place = Settings(write_world(tmp_path, world(1500), SIZES))
    found = fleet(place, 20, {})
    assert (found.kept, found.price) == (("botanist", "astronomer"), 15)
    assert found.serves == {"plants": "botanist", "stars": "astronomer"}
    assert found.quality == found.everybody > found.best_single + 0.2
    assert fleet(place, 7.5, {}).kept == ("botanist",)
    assert fleet(place, 1, {"botanist": 2, "astronomer": 2, "generalist": 1}).kept == ("generalist",)


def test_a_fleet_needs_a_price_for_everybody(tmp_path: Path) -> None:
    place = Settings(write_world(tmp_path))
    with pytest.raises(ConfigError, match=r"no size in models\.json for botanist, astronomer, generalist; give every"):
        fleet(place, 20, {})
    with pytest.raises(ConfigError, match="--price chemist: no such expert"):
        fleet(place, 20, {"chemist": 1})


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_threshold_sends_its_share_of_unseen_traffic_to_the_strong_expert(tmp_path: Path, share: float) -> None:
    found = threshold(settings(tmp_path), ["validation"], share, "botanist", "astronomer", RIDGE)
    assert (found.policy["name"], found.policy["strong"]) == ("threshold", "botanist")
    assert found.reached == pytest.approx(found.shares["botanist"], abs=1e-4)
    assert found.reached == pytest.approx(share, abs=0.08)
    assert found.quality > 0.6


def test_a_price_holds_a_mean_cost_on_unseen_traffic(tmp_path: Path) -> None:
    dear, cheap = (budget(settings(tmp_path), ["validation"], usd, RIDGE) for usd in (0.002, 0.00025))
    assert dear.policy["price"] == 0
    assert cheap.reached == cheap.cost <= 0.00026
    assert cheap.cost_unit == "usd"
    with pytest.raises(ConfigError, match="expected a mean of at least"):
        budget(settings(tmp_path), ["validation"], 1e-9, RIDGE)


def test_the_commands_print_what_goes_into_a_manifest(tmp_path: Path) -> None:
    folder = write_world(tmp_path, world(300), SIZES)
    said = CliRunner().invoke(app, ["fleet", "-o", str(folder), "--budget", "20", "--json", str(tmp_path / "f.json")])
    assert said.exit_code == 0, said.output
    assert "keep botanist, astronomer (15 of 20)" in said.output
    assert (tmp_path / "f.json").exists()
    said = CliRunner().invoke(app, ["tune", "-o", str(folder), "--share", "0.5"])
    assert said.exit_code == 2
    assert "expected --share with --strong and --weak, or --cost" in said.output.replace("\n", "")
