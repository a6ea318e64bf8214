"""Who may call: API keys, known to the gateway only by their hashes.

A keys file is a YAML list, one entry a key; `consilium keys new NAME` makes a key and prints its entry:

    - name: ci
      hash: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      routes: [auto]        # default "*": every route
      experts: "*"          # which experts may answer: a list, or "*" (the default)
      rpm: 600              # default: the gateway's `rpm`
      concurrency: 8        # default: the gateway's `concurrency`

A plain SHA-256 is enough because keys are random, 256 bits long: there is nothing to guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.errors import ConfigError
from router.config import Config

HASH_PREFIX = "sha256:"
_NOBODY = HASH_PREFIX + "0" * 64


@dataclass(frozen=True, slots=True)
class Key:
    """One caller. None means no restriction: every route, every expert, the gateway's own limits."""

    name: str
    routes: frozenset[str] | None = None
    experts: frozenset[str] | None = None
    rpm: int | None = None
    concurrency: int | None = None

    def may_route(self, route: str) -> bool:
        return self.routes is None or route in self.routes

    def may_ask(self, expert: str) -> bool:
        return self.experts is None or expert in self.experts


class Entry(BaseModel):
    """One entry of a keys file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=128)]
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    routes: list[str] | Literal["*"] = "*"
    experts: list[str] | Literal["*"] = "*"
    rpm: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None

    def key(self) -> Key:
        return Key(
            name=self.name,
            routes=None if self.routes == "*" else frozenset(self.routes),
            experts=None if self.experts == "*" else frozenset(self.experts),
            rpm=self.rpm,
            concurrency=self.concurrency,
        )


class Keys:
    """Callers by the hash of their key. Empty means that no key is asked for."""

    def __init__(self, entries: Iterable[tuple[str, Key]] = ()) -> None:
        """`entries`: pairs of a hash (`sha256:…`, lower-case hex) and the caller it admits."""
        self._by_hash = {stored: (stored, key) for stored, key in entries}

    def __len__(self) -> int:
        return len(self._by_hash)

    def find(self, token: str) -> Key | None:
        """The caller whose key this is, or None. The time taken tells nothing about any key.

        The table is looked up by the token's hash, which a caller cannot steer toward a stored one, and what is
        found is compared once more in constant time.
        """
        asked = hash_of(token)
        stored, key = self._by_hash.get(asked, (_NOBODY, None))
        return key if compare_digest(stored, asked) else None


def hash_of(token: str) -> str:
    """`sha256:` and 64 lower-case hex digits."""
    return HASH_PREFIX + sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_token() -> str:
    """A fresh key: 256 random bits behind a prefix that secret scanners can be taught."""
    return "csl-" + token_urlsafe(32)


def matches(expected: str, token: str) -> bool:
    """Whether `token` is the key `expected` (itself, or its `sha256:…` hash), compared in constant time."""
    stored = expected if expected.startswith(HASH_PREFIX) else hash_of(expected)
    return compare_digest(stored, hash_of(token))


def read_keys(config: Config) -> Keys:
    """The keys that the settings name: those of the file, then those of the environment.

    Raises ConfigError with every entry that is wrong; a file or variable that holds no key at all is wrong too,
    because a gateway without keys lets everybody in.
    """
    found: list[tuple[str, Key]] = []
    if config.keys is not None:
        found += [(entry.hash, entry.key()) for entry in read_entries(config.keys)]
    if config.api_keys is not None:
        tokens = [token.strip() for token in config.api_keys.get_secret_value().split(",")]
        if not any(tokens):
            raise ConfigError("CONSILIUM_API_KEYS: expected keys separated by commas, found none")
        found += [(hash_of(token), Key(f"env-{n}")) for n, token in enumerate(tokens, 1) if token]
    return Keys(found)


def read_entries(path: Path) -> list[Entry]:
    """The entries of a keys file. Raises ConfigError with everything that is wrong in it."""
    import yaml

    try:
        read: object = yaml.safe_load(path.read_text())
    except OSError as fault:
        raise ConfigError(f"{path}: cannot read the keys file: {fault.strerror}") from fault
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path}: not YAML: {fault}") from fault
    if not isinstance(read, list) or not read:
        raise ConfigError(f"{path}: expected a list of keys, each with `name` and `hash`; found no entry")
    entries: list[Entry] = []
    problems: list[str] = []
    for number, item in enumerate(cast(list[object], read), 1):
        try:
            entries.append(Entry.model_validate(item))
        except ValidationError as fault:
            problems += [f"{path}: entry {number}: {_said(error)}" for error in fault.errors()]
    for field in ("name", "hash"):
        values = [getattr(entry, field) for entry in entries]
        repeated = dict.fromkeys(value for value in values if values.count(value) > 1)
        problems += [f"{path}: {field}: two entries with {value}" for value in repeated]
    if problems:
        raise ConfigError("\n".join(problems))
    return entries


def _said(error: Any) -> str:
    where = ".".join(str(step) for step in error["loc"])
    if where == "hash":
        return "hash: expected `sha256:` and 64 lower-case hex digits (`consilium keys new NAME` makes one)"
    return f"{where}: {error['msg']}" if where else str(error["msg"])
