"""Commands that ask experts, or judge what was asked: `consilium eval run`, `consilium eval ope`, `consilium profile`.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evals.asking import Asking, bar, request_fields
from evals.shown import show_evaluation, told
from router.cli.options import ApiKey, ConfigFile, Json, Registry

if TYPE_CHECKING:
    from evals.ope import Evaluation

Suite = Annotated[
    str, typer.Option("--suite", "-s", metavar="NAME[:K=V,…]", help="A suite, or a .jsonl file of your samples.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Published data sets.", show_default="CONSILIUM_DATA, ../shared/data"),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Ask so many samples, over all tasks.")]
Concurrency = Annotated[int, typer.Option("--concurrency", "-k", min=1, help="Calls under way at once.")]
Judge = Annotated[str | None, typer.Option("--judge", metavar="EXPERT", help="Who judges, where a suite wants one.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")]
SkillsBy = Annotated[
    str | None, typer.Option("--skills-by", metavar="EXPERT", help="Who names the skills of questions. Default: YAKE.")
]
Aggregators = Annotated[
    bool, typer.Option("--aggregators", help="Also measure who finds the right one among three answers.")
]
Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="Sampling temperature.")]
State = Annotated[Path | None, typer.Option("--state", metavar="DIR", help="A gateway's state folder.")]
RedisUrl = Annotated[str | None, typer.Option("--redis-url", metavar="URL", help="Where records are, if in Redis.")]


def run(
    suite: Suite,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The run's journal; it goes on where it ended.")],
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="NAME|URL", help="A route, an expert, or an OpenAI-compatible URL.")
    ] = "auto",
    registry: Registry = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask --target at this address.")] = None,
    key: ApiKey = None,
    limit: Limit = None,
    concurrency: Concurrency = 8,
    judge: Judge = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.0,
    data: Data = None,
    outcomes: Annotated[Path | None, typer.Option("--outcomes", "-o", help="Outcomes to fit the router on.")] = None,
    state: State = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Ask a suite and score the answers; in this process on a registry, or at any OpenAI-compatible address.

    Killed, it goes on where it was when the same command is run again: nothing that was answered is asked twice.

    [bold]Examples[/]

      consilium eval run --suite gsm8k --target auto --registry registry/ --out gsm8k.jsonl
      consilium eval run --suite bbh:task=navigate --target qwen --registry registry/ -n 100 --out navigate.jsonl
      consilium eval run --suite mine.jsonl --target http://127.0.0.1:8080 --out mine-run.jsonl
    """
    from evals.run import Item, digest_of, drive, first, summary
    from evals.suites import open_suite
    from evals.targets import is_url

    samples = open_suite(suite, data=data)
    if is_url(target):
        url, target = target, "auto"
    items = [Item(sample, target) for sample in first(samples, limit)]
    asking = Asking(registry, outcomes, state, config, url, key, request_fields(max_tokens, temperature), judge)
    header = {"suite": suite, "samples": digest_of(samples), "target": target, "url": url,
              "judge": judge, "fields": asking.fields, **asking.versions()}  # fmt: skip

    async def work() -> dict[str, Any]:
        from evals.journal import journal

        with journal(out, header) as held, bar(len(items), quiet=json) as step:
            async with asking.opened([target]) as (aim, _):
                await drive(items, aim, held, asking.scorers(aim), concurrency=concurrency, done=lambda _: step())
            return summary(items, held)

    told({"suite": suite, "target": target, "out": str(out), **asyncio.run(work())}, json=json)


def profile(
    suite: Suite,
    registry: Registry = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="PATH", help="Also write outcomes here.")] = None,
    state: State = None,
    redis_url: RedisUrl = None,
    expert: Annotated[list[str] | None, typer.Option("--expert", "-e", help="Only this one; repeatable.")] = None,
    limit: Limit = None,
    concurrency: Concurrency = 8,
    judge: Judge = None,
    skills_by: SkillsBy = None,
    aggregators: Aggregators = False,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.0,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Ask every expert of a registry a suite, score the answers, and keep the scores as outcomes to fit routers on.

    They go to the outcome store of the state folder, to --out as outcomes.jsonl.gz, or both. Killed, it goes on where
    it was: the journal is beside what is written. Each question gets skill words, from which `consilium experts show`
    makes profiles. --aggregators then asks every expert for the answer with one right and two wrong ones of the others
    before its eyes; the next `consilium fit` lets councils choose their aggregator by it.

    [bold]Examples[/]

      consilium profile --suite pocket --registry registry/ --state var/
      consilium profile --suite gsm8k:split=train --registry registry/ --limit 500 --out outcomes/
      consilium profile --suite mine.jsonl --registry registry/ --expert qwen --state var/
      consilium profile --suite gsm8k --registry registry/ --state var/ --skills-by qwen --aggregators
    """
    from evals.profiling import Profiling
    from evals.suites import open_suite
    from experts.errors import ConfigError
    from router.records import recording

    fields = request_fields(max_tokens, temperature)
    asking = Asking(registry, None, state, config, None, None, fields, judge, redis_url)
    store = recording(asking.settings)
    if store is None and out is None:
        raise ConfigError("where do outcomes go? give --state FOLDER (a gateway's), --out PATH, or both")
    if aggregators and store is None:
        raise ConfigError("--aggregators: abilities are kept in a gateway's state folder; give --state FOLDER")
    samples, name = open_suite(suite, data=data), Path(suite).name.partition(":")[0].partition(".")[0]
    named = out is not None and out.name.endswith((".jsonl", ".jsonl.gz"))
    folder = out.parent if out is not None and named else out or (store.folder if store else Path())
    work = Profiling(asking, suite, name, samples, folder, store, out, skills_by, aggregators, concurrency, json)
    told({"suite": suite, **asyncio.run(work.run(expert or [], limit))}, json=json)


def ope(
    registry: Registry = None,
    state: State = None,
    redis_url: RedisUrl = None,
    route: Annotated[str, typer.Option("--route", metavar="NAME[:PRESET]", help="The route to judge.")] = "auto",
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME[:K=V,…]", help="Judge this policy, not the manifest's.")
    ] = None,
    outcomes: Annotated[Path | None, typer.Option("--outcomes", "-o", help="Outcomes to fit the router on.")] = None,
    artifact: Annotated[Path | None, typer.Option(metavar="DIR", help="Fitted routers, of which the current.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Judge a policy before it ships, on rated decisions of the log: what would it have earned?

    The registry, its fitted router and --policy say what is judged; the log's propensities make it fair, wherever the
    route explored (`explore: 0.05` in its manifest). The exit status is 1 where the gain's interval is all below zero
    and enough decisions were explored to rely on it.

    [bold]Examples[/]

      consilium eval ope --registry registry/ --state var/ --route auto:best
      consilium eval ope --registry candidate/ --state var/ --policy balanced:lambda=0.1
    """
    from router.cli.output import no, print_json

    asking = Asking(registry, outcomes, state, config, None, None, {}, None, redis_url, artifact)
    found = asyncio.run(_judged(asking, route, policy, seed))
    if json:
        print_json({"route": route, "policy": policy, **found.json()})
    else:
        show_evaluation(found)
    if found.telling and found.gain.high < 0:
        raise no()


async def _judged(asking: Asking, route: str, policy: str | None, seed: int) -> Evaluation:
    from evals.ope import evaluate, logged, rated, with_policy
    from experts.errors import ConfigError
    from router.policies import open_policy
    from router.records import recording

    store = recording(asking.settings)
    if store is None:
        raise ConfigError("where is the decision log? give the --state FOLDER of a gateway")
    name, _, preset = route.partition(":")
    records = store.open()
    decisions, measured = list(records.decisions(name)), records.measured()
    records.close()
    async with asking.opened([route]) as (_, router):
        assert router is not None
        judged = router.snapshot.routes.get(name)
        if judged is None or preset not in judged.policies:
            raise ConfigError(f"--route {route!r}: the registry has the routes {', '.join(router.snapshot.routes)}")
        if policy is not None:
            from evals.routing import plugged

            given = plugged(policy)
            judged = with_policy(judged, open_policy(given.name, given.options))
        rows, skipped = logged(judged, decisions, rated(decisions, measured), preset=preset)
        return evaluate(rows, seed=seed, skipped=skipped)


profile_app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="rich")
profile_app.command()(profile)
