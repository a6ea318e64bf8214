"""Changing the registry over REST, with the admin key: what is accepted is on disk before it is in force."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from experts.errors import BadRequest, Forbidden, RegistryError
from registry.edit import Change, add, remove, replace
from registry.load import terms_of
from router.http.api import expert_row, last_step
from router.http.exchange import Receive, Scope, Send, read_body, reply_json
from router.local import plugin_names

if TYPE_CHECKING:
    from router.http.app import Caller, Gateway


async def add_expert(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """One expert manifest as JSON or YAML; `?replace=true` puts it in the place of the one with its name.

    A manifest that comes this way may neither start a server (`serve`) nor read the gateway's environment.
    """
    _admin_only(gateway, caller)
    manifest = _manifest(await read_body(receive, caller.content_length, gateway.max_body_bytes))
    _keeps_keys_at_home(manifest)
    terms = terms_of(plugin_names(), allow_serve=False, allow_env=False)
    edit = replace if b"replace=true" in scope.get("query_string", b"") else add
    change = await asyncio.to_thread(edit, gateway.registry_path, manifest, terms)
    await _adopt(gateway, change)
    snapshot = gateway.router.snapshot
    row = expert_row(snapshot, change.name) if change.kind == "expert" else {"name": change.name}
    await reply_json(send, {**row, "kind": change.kind, "registry_version": snapshot.version}, 201)


async def remove_expert(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    _admin_only(gateway, caller)
    terms = terms_of(plugin_names())
    change = await asyncio.to_thread(remove, gateway.registry_path, last_step(scope), "expert", terms)
    await _adopt(gateway, change)
    await reply_json(send, {"removed": change.name, "registry_version": gateway.router.snapshot.version})


async def _adopt(gateway: Gateway, change: Change) -> None:
    """In force before the answer leaves; the watcher then finds nothing new."""
    try:
        await gateway.router.adopt(change.registry)
    except RegistryError as fault:
        gateway.router.telemetry.log.error("registry_refused", problems=[str(p) for p in fault.problems])
        raise


def _admin_only(gateway: Gateway, caller: Caller) -> None:
    if gateway.admin_key is None:
        raise Forbidden("the admin endpoints are closed: start the gateway with an admin key (CONSILIUM_ADMIN_KEY)")
    if not caller.admin:
        raise Forbidden("this endpoint wants the admin key, as `Authorization: Bearer KEY`")


def _keeps_keys_at_home(manifest: str | dict[str, Any]) -> None:
    """LiteLLM takes a provider's key from the environment where none is given: not for an address that was posted."""
    try:
        said = yaml.safe_load(manifest) if isinstance(manifest, str) else manifest
    except yaml.YAMLError:
        return  # the registry says what is wrong with it
    if isinstance(said, dict) and said.get("provider") == "litellm" and "api_base" in said and "api_key" not in said:  # pyright: ignore[reportUnknownMemberType]
        raise BadRequest("api_key: required beside api_base: the gateway's own keys go to no address that is posted",
                         param="api_key")  # fmt: skip


def _manifest(body: bytes) -> str | dict[str, Any]:
    if not body.lstrip().startswith(b"{"):
        return body.decode("utf-8", "replace")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    if not isinstance(value, dict):
        raise BadRequest(f"expected one manifest as an object, got {type(value).__name__}", code="invalid_type")
    return value  # pyright: ignore[reportUnknownVariableType]
