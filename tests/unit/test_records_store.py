"""The store of decisions and outcomes, in SQLite and in Redis alike."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError
from router.plan import Estimate
from router.records import Recording
from router.records.protocol import Records, Unrecorded
from router.records.rows import Decision, Measured, Tried, packed, unpacked
from router.records.sqlite import SqliteRecords

Open = Callable[..., Records]


def sqlite(tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    return lambda keep=1000: Recording(tmp_path / "state", keep=keep).open()


def redis(tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    url = request.getfixturevalue("redis_url")
    prefix = f"{request.node.name}:"
    from router.records.redis import RedisRecords

    # A minute, and not the five seconds of a gateway: what a Redis that gets no processor time answers is not tested.
    return lambda keep=1000: RedisRecords(url, keep=keep, prefix=prefix, call_s=60)


@pytest.fixture(params=[sqlite, pytest.param(redis, marks=pytest.mark.redis)], ids=["sqlite", "redis"])
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    return request.param(tmp_path, request)


def decision(number: int, **more: object) -> Decision:
    return Decision(id=f"dec-{number}", time=float(number), **more)  # pyright: ignore[reportArgumentType]


def test_a_decision_comes_back_as_it_was_by_its_id_and_in_order(opened: Open) -> None:
    records = opened()
    whole = decision(
        1, caller="ci", route="auto", expert="a", answered="b", propensity=0.25, text_hash="ab",
        vector=packed(np.ones(4, np.float32)), encoder="mini",
        estimates=(Estimate("a", 0.5, 0.1, None, 3.0, 0.4),), excluded={"c": "down"}, max_tokens=7,
        tried=(Tried("a", 1, 2, 0.5, 3.0, "expert_down"), Tried("b", 1, 2, 0.25, 3.0)), status=200,
    )  # fmt: skip
    records.log([whole, decision(2, route="other")])
    records.log([decision(3, route="auto")])
    assert records.decision("dec-1") == whole
    assert whole.cost_usd == 0.75
    assert records.decision("dec-9") is None
    assert [one.id for one in records.decisions()] == ["dec-1", "dec-2", "dec-3"]
    assert [one.id for one in records.decisions("auto")] == ["dec-1", "dec-3"]
    records.close()


def test_what_one_process_writes_another_reads(opened: Open) -> None:
    writer, reader = opened(), opened()
    writer.log([decision(1)])
    writer.measure([Measured("q", "a", 1.0, "profile", 1.0)])
    assert reader.decision("dec-1") == decision(1)
    assert reader.measured() == [Measured("q", "a", 1.0, "profile", 1.0)]


def test_of_outcomes_with_one_key_the_last_counts(opened: Open) -> None:
    records = opened()
    records.measure([Measured("q", "a", 0.0, "feedback", 1.0), Measured("q", "b", 0.5, "feedback", 1.0)])
    records.measure([Measured("q", "a", 1.0, "feedback", 2.0, comment="after all"),
                     Measured("q", "a", 0.2, "profile", 2.0)])  # fmt: skip
    found = {row.key: row.score for row in records.measured()}
    assert found == {("feedback", "q", "a"): 1.0, ("feedback", "q", "b"): 0.5, ("profile", "q", "a"): 0.2}


def test_more_than_a_page_is_read_to_its_end(opened: Open) -> None:
    records = opened(5000)
    records.log([decision(number) for number in range(1203)])
    assert [one.id for one in records.decisions()] == [f"dec-{number}" for number in range(1203)]


def test_only_the_newest_decisions_are_kept(tmp_path: Path) -> None:
    records = SqliteRecords(tmp_path / "r.sqlite", keep=10)
    for number in range(35):
        records.log([decision(number)])
    kept = [one.id for one in records.decisions()]
    assert kept[-1] == "dec-34"
    assert 10 <= len(kept) < 20


def test_vectors_are_kept_to_three_decimals_and_of_unit_length() -> None:
    vector = np.random.default_rng(0).standard_normal(384).astype(np.float32)
    vector /= np.linalg.norm(vector)
    back = unpacked(packed(vector))
    assert len(packed(vector)) == 768
    assert float(back @ vector) > 0.999999
    assert abs(float(np.linalg.norm(back)) - 1) < 1e-6


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").write_text("not a database, and long enough to be read as the header of one " * 20)
    with pytest.raises(Unrecorded, match=r"records\.sqlite.*not a database"):
        Recording(tmp_path).open().log([decision(1)])


def test_a_redis_url_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected redis://"):
        Recording(tmp_path, "http://here").open()


def test_a_new_file_that_another_is_opening_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE other (id)")
    other.execute("BEGIN IMMEDIATE")
    records = SqliteRecords(path, keep=100)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(records.log, [Decision(id="one", time=0.0)])
        with pytest.raises(TimeoutError):
            writing.result(0.3)
        other.execute("COMMIT")
        writing.result(30)
    assert records.decision("one") is not None
    records.close()
    other.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from router.records.rows import Decision
from router.records.sqlite import SqliteRecords
records = SqliteRecords(Path(sys.argv[1]), keep=10**6)
for number in range(10**6):
    records.log([Decision(id=f"{os.getpid()}-{number}", time=0.0)])
    print(number, flush=True)
"""


def test_whatever_was_written_survives_the_death_of_its_writers(tmp_path: Path) -> None:
    """Two processes write at once and are killed in the middle: nothing that was acknowledged is lost."""
    path = tmp_path / "r.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
               for _ in range(2)]  # fmt: skip
    last: dict[int, int] = {}
    for writer in writers:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 20:
                break
    for writer in writers:
        writer.kill()
    for writer in writers:
        assert writer.stdout is not None
        rest = writer.stdout.read().split("\n")
        writer.wait()
        last[writer.pid] = max([20, *(int(line) for line in rest[:-1])])
        writer.stdout.close()
    records = SqliteRecords(path, keep=10**6)
    for pid, number in last.items():
        assert records.decision(f"{pid}-{number}") is not None
    records.log([Decision(id="after", time=0.0)])
    assert records.decision("after") is not None
    records.close()
