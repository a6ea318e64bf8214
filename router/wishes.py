"""What a caller may wish of a composition: how, and within which budget; and what becomes of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

import orjson

from experts.errors import BadRequest
from experts.language import Query
from router.budget import LIMITS, UNLIMITED, Allowance
from router.plan import Plan
from router.protocols import Composer
from router.run import Run

AUTO = "auto"


class Wish(NamedTuple):
    """`composer` is empty where the route decides; `worth`: compositions are to be weighed, as `auto` asks."""

    composer: str = ""
    allowance: Allowance = UNLIMITED
    progress: bool = False
    worth: bool = False


NO_WISH = Wish()


def wished(extension: Mapping[str, Any]) -> Wish:
    """The caller's `consilium` object: `{"compose": "council", "budget": {"calls": 3}}`. Raises BadRequest."""
    compose = extension.get("compose", AUTO)
    if not isinstance(compose, str):
        raise _bad("compose", f'expected "auto" or the name of a composer, got {compose!r}')
    given: Any = extension.get("budget") or {}
    if not isinstance(given, dict):
        raise _bad("budget", f"expected an object of {', '.join(LIMITS)}, got {given!r}")
    limits = cast(dict[str, Any], given)
    for name, value in limits.items():
        _check(name, value)
    allowance = Allowance(**limits) if limits else UNLIMITED
    return Wish("" if compose == AUTO else compose, allowance, bool(extension.get("progress")),
                extension.get("compose") == AUTO)  # fmt: skip


def _check(name: str, value: Any) -> None:
    if name not in LIMITS:
        near = get_close_matches(name, LIMITS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise _bad(f"budget.{name}", f"no such limit; {hint}known are {', '.join(LIMITS)}")
    whole = name in ("calls", "tokens")
    kind = int if whole else int | float
    good = isinstance(value, kind) and not isinstance(value, bool) and (value >= 1 if whole else value > 0)
    if not good or value == float("inf"):
        what = "a whole number of at least 1" if whole else "a number above 0"
        raise _bad(f"budget.{name}", f"expected {what}, got {value!r}")


def from_headers(extension: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """The caller's `consilium` object with what `x-consilium-compose` and `x-consilium-budget-…` add to it.

    `headers` are keyed by the part of their name after `x-consilium-`. A budget in both is the tighter of both; a
    composer in the body wins. Raises BadRequest.
    """
    merged = dict(extension)
    given: dict[str, Any] = {}
    for name, text in headers.items():
        if name == "compose":
            merged.setdefault("compose", text)
        elif name == "progress":
            merged.setdefault("progress", text.lower() in ("1", "true", "yes"))
        elif name.startswith("budget-"):
            given[name[7:]] = _number(name, text)
    if given:
        for name, value in given.items():
            _check(name, value)
        mine = wished({"budget": merged.get("budget")}).allowance
        merged["budget"] = mine.tightened(Allowance(**given)).as_json()
    return merged


def _number(name: str, text: str) -> float | int:
    try:
        return int(text) if name in ("budget-calls", "budget-tokens") else float(text)
    except ValueError:
        raise BadRequest(f"header x-consilium-{name}: expected a number, got {text!r}",
                         param=f"x-consilium-{name}") from None  # fmt: skip


def composed(plan: Plan, query: Query, wish: str, composers: Mapping[str, Composer], run: Run) -> Plan:
    """The plan under the composer that is to carry it out, with its seats. Raises BadRequest for an unknown one."""
    name = wish or plan.composer
    if name == "single" and plan.composer == "single":
        return plan
    composer = composers.get(name)
    if composer is None:
        near = get_close_matches(name, composers, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise _bad(
            "compose", f"no composer {name!r} can be used here; {hint}known are auto, {', '.join(sorted(composers))}"
        )
    if name != "single" and (why := one_voice(query)):
        run.notes["single_because"] = why
        name = "single"
    if name == "single":
        return replace(plan, composer="single", seats=plan.seats[:1])
    return composer.seated(replace(plan, composer=name))


def one_voice(query: Query) -> str:
    """Why only one voice may answer this query; empty where several may."""
    if query.needs.tools:
        return "tool calls come from one voice"
    if query.api != "chat":
        return "only chat requests are composed"
    if "n" in query.fields and (orjson.loads(bytes(query.fields["n"])) or 1) > 1:
        return "n > 1 asks one voice for several answers"
    return ""


def _bad(where: str, what: str) -> BadRequest:
    return BadRequest(f"consilium.{where}: {what}", param=f"consilium.{where}")
