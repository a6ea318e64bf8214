"""Which experts live in which server process.

Experts that name the same server share it: one base model, and a LoRA adapter for each expert that has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from experts.errors import ConfigError

LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Residence:
    """What one expert's manifest says about its server. `where` names the manifest in messages.

    `name` is what the server is to call the model; `weights` the model to load (None: `name`, or whatever another
    expert of the same server says); `lora` an adapter on it; `port` None takes the port of a local endpoint.
    """

    expert: str
    server: str
    name: str
    endpoints: tuple[str, ...]
    weights: str | None = None
    lora: str | None = None
    port: int | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    where: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """One process to run: a model under its names, with adapters (name and path) on it, listening on a port."""

    name: str
    model: str
    served_as: tuple[str, ...]
    port: int
    adapters: tuple[tuple[str, str], ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    experts: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def place(residences: Sequence[Residence]) -> tuple[Server, ...]:
    """The server processes that these experts need, in order of first mention.

    Raises ConfigError with everything that does not fit together: experts of one server that want different weights,
    ports or environments, two servers on one port, a server whose port nobody says.
    """
    groups: dict[str, list[Residence]] = {}
    for residence in residences:
        groups.setdefault(residence.server, []).append(residence)
    problems: list[str] = []
    servers = [server for name, group in groups.items() if (server := _server(name, group, problems)) is not None]
    taken: dict[int, str] = {}
    for server in servers:
        if server.port in taken:
            problems.append(f"serve.port: the servers {taken[server.port]} and {server.name} both want {server.port}")
        taken.setdefault(server.port, server.name)
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(servers)


def _server(name: str, group: list[Residence], problems: list[str]) -> Server | None:
    known = len(problems)
    weights = {r.weights or r.name: r for r in group if r.weights or r.lora is None}
    if not weights:
        problems.append(f"{_at(group[0])}: serve.model: missing: server {name} has adapters (serve.lora), and no base")
    elif len(weights) > 1:
        said = " and ".join(f"{model} ({r.expert})" for model, r in weights.items())
        problems.append(f"{_at(group[0])}: serve.model: experts of server {name} want different weights: {said}")
    ports: dict[int, Residence] = {}
    for residence in group:
        port = residence.port or _local_port(residence.endpoints)
        if port is None:
            problems.append(
                f"{_at(residence)}: serve.port: missing, and no endpoint is on this machine "
                f"(such as http://127.0.0.1:8001/v1): where is server {name} to listen?"
            )
        else:
            ports.setdefault(port, residence)
    if len(ports) > 1:
        said = " and ".join(f"{port} ({r.expert})" for port, r in ports.items())
        problems.append(f"{_at(group[0])}: serve.port: experts of server {name} want different ports: {said}")
    env: dict[str, str] = {}
    for residence in group:
        for variable, value in residence.env.items():
            if env.setdefault(variable, value) != value:
                problems.append(f"{_at(residence)}: serve.env.{variable}: another expert of server {name} differs")
    args = {r.args: r for r in group if r.args}
    if len(args) > 1:
        said = " and ".join(r.expert for r in args.values())
        problems.append(f"{_at(group[0])}: serve.args: {said} say different things of server {name}: let one say all")
    if len(problems) > known:
        return None
    return Server(
        name=name,
        model=next(iter(weights)),
        served_as=tuple(dict.fromkeys(r.name for r in group if r.lora is None)),
        port=next(iter(ports)),
        adapters=tuple((r.name, r.lora) for r in group if r.lora is not None),
        args=next(iter(args), ()),
        env=env,
        experts=tuple(r.expert for r in group),
    )


def _local_port(endpoints: Sequence[str]) -> int | None:
    for endpoint in endpoints:
        url = urlsplit(endpoint)
        if url.hostname in LOCAL_HOSTS and url.port:
            return url.port
    return None


def _at(residence: Residence) -> str:
    return residence.where or f"expert {residence.expert}"
