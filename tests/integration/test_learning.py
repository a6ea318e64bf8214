"""The whole circle: answers are rated, a router is fitted, running gateways pick it up, and it can be rolled back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from experts.errors import ConfigError
from router.artifact import current, point, read, roll_back, versions
from router.fitting import Evidence, fit
from router.keys import Key, Keys
from router.local import load_registry
from router.outcomes import Outcomes, rows_to_outcomes
from router.records import Recording
from tests.integration.conftest import Served, Start

pytestmark = pytest.mark.integration

MATHS = [f"What is {a} plus {b}? Compute the sum of the two numbers." for a in range(3, 15) for b in (21, 48)]
CITIES = [f"What is the capital city of {c}? Name the town where its government sits." for c in
          ("France", "Spain", "Italy", "Norway", "Sweden", "Poland", "Japan", "China", "India", "Kenya", "Egypt",
           "Chile", "Peru", "Cuba", "Iran", "Iraq", "Oman", "Mali", "Chad", "Togo", "Fiji", "Laos", "Nepal",
           "Qatar")]  # fmt: skip

SPECIALISTS = """
kind: expert
name: counter
provider: scripted
replies: [{match: plus, text: "right"}]
text: wrong
---
kind: expert
name: traveller
provider: scripted
replies: [{match: capital, text: "right"}]
text: wrong
---
kind: route
name: auto
experts: [counter, traveller]
estimator: {name: ridge, fewest: 8}
policy: {name: balanced, caution: 0, preset: best}
explore: 0.5
"""

PLAIN = """
kind: expert
name: first
provider: scripted
---
kind: expert
name: second
provider: scripted
---
kind: route
name: auto
experts: [first, second]
estimator: prior
policy: {name: balanced, caution: 0, preset: best}
"""


def favouring(expert: str) -> Outcomes:
    other = {"first": "second", "second": "first"}[expert]
    return rows_to_outcomes({"id": str(n), "prompt": f"q {n}", "scores": {expert: 1.0, other: 0.0}} for n in range(20))


def fitted(tmp_path: Path, favourite: str, root: Path, registry: str = PLAIN) -> str:
    path = tmp_path / "fit-registry.yaml"
    path.write_text(registry)
    return fit(load_registry(path), Evidence({Path("given"): favouring(favourite)}), root).version


async def rate(served: Served, text: str) -> tuple[str, float]:
    """Asks, and rates the answer; who answered, and the score."""
    reply = await served.chat(text)
    right = float((await reply.json())["choices"][0]["message"]["content"] == "right")
    said = await served.post(f"{served.url}/v1/feedback", json={
        "decision_id": reply.headers["x-consilium-decision-id"], "thumbs": "up" if right else "down",
    })  # fmt: skip
    assert said.status == 200, await said.text()
    return reply.headers["x-consilium-expert"], right


async def until(served: Served, event: str, *, times: int = 1, **fields: Any) -> dict[str, Any]:
    """The log line that a running gateway writes; where it writes it several times, the last of them."""
    async with asyncio.timeout(30):
        while True:
            found = [line for line in served.lines(event) if fields.items() <= line.items()]
            if len(found) >= times:
                return found[-1]
            await asyncio.sleep(0.02)


async def routed(served: Served, texts: list[str]) -> float:
    """The share of right answers that the plans, exploration aside, would get."""
    right = 0
    for text in texts:
        said = await (await served.post(f"{served.url}/v1/route", json={"query": text})).json()
        best = max(said["estimates"], key=lambda row: row["score"])["expert"]
        right += best == ("counter" if "plus" in text else "traveller")
    return right / len(texts)


async def test_ratings_become_a_router_that_running_gateways_follow_and_that_rolls_back(
    start: Start, tmp_path: Path
) -> None:
    recording, root = Recording(tmp_path / "state"), tmp_path / "artifacts"
    served = await start(SPECIALISTS, recording=recording, artifact=root)
    seen: Counter[str] = Counter()
    for texts in zip(MATHS[:18], CITIES[:18], strict=True):
        for text in texts:
            seen[(await rate(served, text))[0]] += 1
    assert min(seen.values()) > 3, f"exploration asked {seen}"
    fresh = MATHS[18:] + CITIES[18:]
    before = await routed(served, fresh)
    assert before <= 0.6

    records = recording.open()
    registry = served.gateway.router.snapshot.registry
    artifact = await asyncio.to_thread(fit, registry, Evidence({}, records.measured()), root)
    assert artifact.manifest.sources == [{"kind": "feedback", "rows": 36}]
    await until(served, "artifact_adopted", version="v0001")
    assert await routed(served, fresh) == 1.0

    worse = rows_to_outcomes(
        {"id": t, "prompt": t, "scores": {"counter": float("plus" not in t), "traveller": float("plus" in t)}}
        for t in MATHS + CITIES
    )
    await asyncio.to_thread(fit, registry, Evidence({Path("bad"): worse}), root)
    await until(served, "artifact_adopted", version="v0002")
    assert await routed(served, fresh) == 0.0

    assert (await asyncio.to_thread(roll_back, root)).version == "v0001"
    await until(served, "artifact_adopted", times=2, version="v0001")
    assert await routed(served, fresh) == 1.0


async def test_a_broken_or_foreign_version_is_refused_and_the_last_good_stays(start: Start, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    fitted(tmp_path, "second", root)
    served = await start(PLAIN, artifact=root)
    assert (await served.chat()).headers["x-consilium-expert"] == "second"

    version = fitted(tmp_path, "first", root)
    point(root, "v0001")
    arrays = root / version / "auto" / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-7])
    point(root, version)
    said = await until(served, "artifact_refused", version=version)
    assert "arrays.npz: not what was written" in said["reason"]
    assert (await served.chat()).headers["x-consilium-expert"] == "second"

    other = fitted(tmp_path, "first", root, PLAIN.replace("estimator: prior", "estimator: {name: cards}"))
    said = await until(served, "artifact_refused", version=other)
    assert "was fitted with cards" in said["reason"]
    assert said["in_force"] == "v0001"
    assert (await served.chat()).headers["x-consilium-expert"] == "second"


async def test_a_gateway_that_starts_on_a_broken_version_says_so_and_serves(start: Start, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    version = fitted(tmp_path, "second", root)
    (root / version / "artifact.json").write_text("{")
    served = await start(PLAIN, artifact=root, outcomes=favouring("first"))
    assert served.lines("artifact_refused")[0]["version"] == version
    assert (await served.chat()).headers["x-consilium-expert"] == "first"


async def test_experts_that_came_or_went_since_the_fit_are_added_or_left_out(start: Start, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    fitted(tmp_path, "second", root)
    everyone = PLAIN.replace("[first, second]", "[third, second, first]")
    third = "\nkind: expert\nname: third\nprovider: scripted\n---" + everyone
    best = rows_to_outcomes({"id": str(n), "prompt": f"q {n}", "scores": {"third": 1.0}} for n in range(200))
    served = await start(third, artifact=root, outcomes=best)
    said = await (await served.post(f"{served.url}/v1/route", json={"query": "hello"})).json()
    quality = {row["expert"]: row["quality"] for row in said["estimates"]}
    assert quality["second"] > 0.9 > 0.1 > quality["first"]
    assert quality["third"] > 0.9
    fewer = await start(third.replace("[third, second, first]", "[third, first]"), artifact=root, outcomes=best)
    assert (await fewer.chat()).headers["x-consilium-expert"] == "third"


KILLED = """
import sys
from pathlib import Path
from router.artifact import point
root = Path(sys.argv[1])
print("on", flush=True)
while True:
    point(root, "v0001")
    point(root, "v0002")
"""


def test_the_pointer_always_names_a_whole_version_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    for favourite in ("first", "second"):
        fitted(tmp_path, favourite, root)
    found = set[str | None]()
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        seen = set[str | None]()
        while len(seen) < 2:
            seen.add(current(root))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        now = current(root)
        assert now is not None
        assert read(root, now).version == now
        found |= seen
    assert found == {"v0001", "v0002"}


def test_versions_are_kept_numbered_and_named_when_they_are_not_there(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    for favourite in ("first", "second", "first"):
        fitted(tmp_path, favourite, root)
    assert (versions(root), current(root)) == (["v0001", "v0002", "v0003"], "v0003")
    assert roll_back(root).version == "v0002"
    assert roll_back(root, "v0003").version == "v0003"
    with pytest.raises(ConfigError, match="versions here: v0001, v0002, v0003"):
        roll_back(root, "v9")
    assert current(root) == "v0003"
    roll_back(root, "v0001")
    with pytest.raises(ConfigError, match="no version before v0001"):
        roll_back(root)
    with pytest.raises(ConfigError, match=r"expected a version, got '../artifacts/v0001'"):
        roll_back(root, "../artifacts/v0001")
    assert current(root) == "v0001"
    (root / "current").write_text("../v0001\n")
    with pytest.raises(ConfigError, match=r"expected the name of a version .*--rollback"):
        current(root)
    assert roll_back(root, "v0002").version == "v0002"
    assert fitted(tmp_path, "first", root) == "v0004"


def keyring(**keys: Key) -> Keys:
    return Keys((f"sha256:{sha256(token.encode()).hexdigest()}", key) for token, key in keys.items())


@pytest.mark.parametrize(("said", "score"), [
    ({"score": 0.25}, 0.25), ({"rating": 1}, 0.0), ({"rating": 4}, 0.75), ({"thumbs": "up"}, 1.0),
    ({"thumbs": "down", "comment": "no"}, 0.0),
])  # fmt: skip
async def test_feedback_becomes_an_outcome_and_the_last_word_counts(
    start: Start, tmp_path: Path, said: dict[str, Any], score: float
) -> None:
    recording = Recording(tmp_path / "state")
    served = await start(PLAIN, recording=recording)
    reply = await served.chat("hello")
    name = reply.headers["x-consilium-decision-id"]
    for body in ({"decision_id": name, "score": 0.5}, {"decision_id": name, **said}):
        answer = await served.post(f"{served.url}/v1/feedback", json=body)
        assert answer.status == 200
    assert await answer.json() == {"decision_id": name, "expert": "first", "score": score}
    (row,) = recording.open().measured()
    assert (row.id, row.expert, row.score, row.source, row.caller) == (name, "first", score, "feedback", "anonymous")
    assert (row.text, len(row.text_hash), row.tokens) == ("", 32, 3)


@pytest.mark.parametrize(("said", "status", "message"), [
    ({"score": 1}, 400, "decision_id: expected a text"),
    ({"decision_id": "dec-none", "score": 1}, 404, "no such decision"),
    ({"decision_id": "", "score": 1}, 400, "decision_id"),
    ({"score": 2}, 400, "score: expected a number from 0 to 1, got 2"),
    ({"score": True}, 400, "score: expected a number from 0 to 1"),
    ({"rating": 0}, 400, "rating: expected a number from 1 to 5"),
    ({"thumbs": "sideways"}, 400, "thumbs: expected up or down"),
    ({}, 400, "expected one of score"), ({"score": 1, "rating": 5}, 400, "got score, rating"),
    ({"score": 1, "stars": 5}, 400, "stars: no such field"), ({"score": 1, "expert": "second"}, 400, "did not answer"),
])  # fmt: skip
async def test_wrong_feedback_says_what_is_wrong(
    start: Start, tmp_path: Path, said: dict[str, Any], status: int, message: str
) -> None:
    served = await start(PLAIN, recording=Recording(tmp_path / "state"))
    name = (await served.chat("hello")).headers["x-consilium-decision-id"]
    body = said if "decision_id" in said or message.startswith("decision_id") else {"decision_id": name, **said}
    answer = await served.post(f"{served.url}/v1/feedback", json=body)
    assert answer.status == status
    assert message in (await answer.json())["error"]["message"]


async def test_without_a_state_folder_feedback_is_closed(start: Start) -> None:
    served = await start(PLAIN)
    answer = await served.post(f"{served.url}/v1/feedback", json={"decision_id": "dec-1", "score": 1})
    assert answer.status == 503
    assert "--state" in (await answer.json())["error"]["message"]


async def test_a_key_rates_its_own_decisions_and_the_admin_key_all(start: Start, tmp_path: Path) -> None:
    served = await start(PLAIN, keys=keyring(one=Key("one"), two=Key("two")), admin_key="root",
                         recording=Recording(tmp_path / "state"))  # fmt: skip

    def who(token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}"}

    asked = await served.post(f"{served.url}/v1/chat/completions", headers=who("one"),
                              json={"model": "auto", "messages": [{"role": "user", "content": "hi"}]})  # fmt: skip
    body = {"decision_id": asked.headers["x-consilium-decision-id"], "score": 1}
    statuses = [(await served.post(f"{served.url}/v1/feedback", headers=who(t), json=body)).status
                for t in ("two", "one", "root", "nobody")]  # fmt: skip
    assert statuses == [403, 200, 200, 401]


@pytest.mark.parametrize("texts", [False, True])
async def test_every_decision_is_logged_its_text_only_when_asked_for(start: Start, tmp_path: Path, texts: bool) -> None:
    recording = Recording(tmp_path / "state", texts=texts)
    served = await start(PLAIN.replace("policy:", "explore: 0.4\npolicy:"), recording=recording)
    for model in ("auto", "first", "auto:best"):
        await served.chat("a secret", model=model)
    await served.chat("x", model="nobody")
    assert served.gateway.router.log is not None
    served.gateway.router.log.flush()
    found = list(recording.open().decisions())
    assert [(one.model, one.route, one.status) for one in found] == [
        ("auto", "auto", 200), ("first", "", 200), ("auto:best", "auto", 200),
    ]  # fmt: skip
    assert {one.text for one in found} == {"a secret" if texts else ""}
    assert len({one.text_hash for one in found}) == 1
    assert {one.propensity for one in found} <= {1.0, 0.8, 0.2}
    assert [one.propensity for one in found if one.route == ""] == [1.0]
    assert (b"a secret" in (tmp_path / "state" / "records.sqlite-wal").read_bytes()) == texts
    metrics = await (await served.get(f"{served.url}/metrics")).text()
    assert 'consilium_decision_log{figure="written"} 3.0' in metrics


@pytest.mark.redis
async def test_gateways_that_share_a_redis_share_decisions(start: Start, tmp_path: Path, redis_url: str) -> None:
    recording = Recording(tmp_path / "state", redis_url)
    one, two = await start(PLAIN, recording=recording), await start(PLAIN, recording=recording)
    name = (await one.chat("hello")).headers["x-consilium-decision-id"]
    answer = await two.post(f"{two.url}/v1/feedback", json={"decision_id": name, "rating": 5})
    assert answer.status == 200
    assert [row.score for row in recording.open().measured() if row.id == name] == [1.0]
    assert not (tmp_path / "state").exists()


def test_the_fit_command_fits_lists_and_rolls_back(tmp_path: Path) -> None:
    registry, outcomes, state = tmp_path / "r.yaml", tmp_path / "o.jsonl", tmp_path / "state"
    registry.write_text(PLAIN)
    rows = [{"id": str(n), "prompt": f"q {n}", "scores": {"first": 0.0, "second": 1.0}} for n in range(60)]
    outcomes.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def consilium(*words: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-m", "router.cli", "fit", "--state", str(state), *words],
                              capture_output=True, text=True, check=False)  # fmt: skip
        return done.returncode, done.stdout or done.stderr

    status, said = consilium("-r", str(registry), "-o", str(outcomes), "--json")
    assert status == 0
    metrics = orjson.loads(said)["routes"]["auto"]["metrics"]
    assert (metrics["routed"], metrics["best_single_expert"], metrics["oracle"]) == (1.0, "second", 1.0)
    assert consilium("-r", str(registry), "-o", str(outcomes))[0] == 0
    listed = orjson.loads(consilium("--list", "--json")[1])
    assert [(row["version"], row["in_force"]) for row in listed] == [("v0001", False), ("v0002", True)]
    assert consilium("--rollback")[0] == 0
    assert current(state / "artifacts") == "v0001"
    status, said = consilium("--rollback")
    assert (status, "no version before v0001" in said) == (2, True)
    status, said = consilium("-r", str(registry))
    assert (status, "nothing to fit on" in said) == (2, True)


def test_route_and_check_without_a_gateway_use_the_fitted_router_that_a_gateway_would(tmp_path: Path) -> None:
    registry, state = tmp_path / "fit-registry.yaml", tmp_path / "state"

    def consilium(*words: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "router.cli", *words, "-r", str(registry), "--state", str(state), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, orjson.loads(done.stdout)

    def routes(found: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in found["checks"] if one["what"] in ("route auto", "artifact")]

    registry.write_text(PLAIN)
    assert consilium("route", "q 1")[1]["learned"].startswith("prior: nothing was measured or fitted")
    fitted(tmp_path, "second", state / "artifacts")
    decided = consilium("route", "q 1")[1]
    assert (decided["learned"], decided["plan"]["seats"][0]["expert"]) == ("fitted artifact v0001", "second")
    fitted(tmp_path, "first", state / "artifacts")
    decided = consilium("route", "q 1")[1]
    assert (decided["learned"], decided["plan"]["seats"][0]["expert"]) == ("fitted artifact v0002", "first")
    status, found = consilium("check", "--offline", "--port", "0")
    assert (status, [one["said"] for one in routes(found)]) == (
        0, ["v0002 is whole", "estimates from: fitted artifact v0002"],
    )  # fmt: skip
    registry.write_text(PLAIN.replace("estimator: prior", "estimator: cards"))
    status, found = consilium("check", "--offline", "--port", "0")
    assert (status, [one["fine"] for one in routes(found)]) == (1, [True, False])
    assert "its manifest asks for cards" in routes(found)[1]["said"]


STEADY = """
kind: expert
name: first
provider: scripted
---
kind: expert
name: second
provider: scripted
---
kind: route
name: auto
experts: [first, second]
estimator: {name: ridge, features: linear, surface: 0}
policy: {name: balanced, caution: 30, preset: best}
"""


def leaning(first: float, second: float) -> Outcomes:
    """`first` is better on questions of maths, and both alike on cities; with what each gets on average."""
    rows = [{"id": text, "prompt": text, "scores": {"first": min(first + 0.3 * ("plus" in text), 1), "second": second}}
            for text in MATHS + CITIES]  # fmt: skip
    return rows_to_outcomes(rows)


async def test_a_fit_does_not_move_queries_without_expecting_better(start: Start, tmp_path: Path) -> None:
    """The best single expert changes by a hair. In doubt, everything would go from the one to the other: also the
    maths, of which the old one is still expected to make more."""
    state, path = tmp_path / "state", tmp_path / "fit-registry.yaml"

    def fitted_on(outcomes: Outcomes, registry: str) -> dict[str, Any]:
        path.write_text(registry)
        return (
            fit(load_registry(path), Evidence({Path("given"): outcomes}), state / "artifacts")
            .manifest.routes["auto"]
            .metrics
        )

    async def seats(registry: str) -> Counter[str]:
        served = await start(registry, recording=Recording(state), artifact=state / "artifacts")
        found = [await (await served.post(f"{served.url}/v1/route", json={"query": text})).json() for text in MATHS]
        return Counter(one["plan"]["seats"][0]["expert"] for one in found)

    assert "stability" not in fitted_on(leaning(0.5, 0.6), STEADY)
    assert (await seats(STEADY))["first"] == len(MATHS)
    told = fitted_on(leaning(0.5, 0.75), STEADY)["stability"]
    assert told["against"] == "v0001"
    assert told["without_gain"] > 0.3
    assert (told["bound"], told["left"]) == (True, 0.0)
    assert (await seats(STEADY))["first"] == len(MATHS)
    loose = STEADY.replace("preset: best", "preset: best, stability: 1")
    told = fitted_on(leaning(0.5, 0.75), loose)["stability"]
    assert (told["bound"], told["limit"]) == (False, 1.0)
    assert (await seats(loose))["second"] == len(MATHS)
