"""Fitted routers on disk: versions that are whole or not there, and a pointer to the one in force.

    FOLDER/current              the name of a version
    FOLDER/v0003/artifact.json  what was fitted, on what, for which experts and encoder, how it did, a hash of each file
    FOLDER/v0003/ROUTE/…        what the route's estimator saved; in `before`, the one that its choices hold to

A version is written beside the others and renamed into its place; the pointer is a file that is replaced. Whoever is
killed on the way leaves the old version in force. Versions are never changed, so rolling back is pointing back.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from experts.errors import ConfigError, ConsiliumError
from experts.language import Card
from experts.protocols import Encoder
from router.estimators import open_estimator
from router.outcomes import Outcomes
from router.protocols import Estimator, Parts
from router.selected import Selected
from router.stability import Incumbent
from router.telemetry import Log
from router.worth import NOTHING_FITTED, Composing

FORMAT = 1
CURRENT = "current"
_NAME = re.compile(r"v\d{1,9}")
MANIFEST = "artifact.json"
BEFORE = "before"
LOOK_S = 0.5


class FittedRoute(msgspec.Struct, frozen=True):
    """One route's estimator: its name and options, its experts in the order of its columns, the fingerprint of the
    encoder it was fitted under (empty where it needs none), mean scores and counts of outcomes by expert, and how it
    did on rows that it was not fitted on. `incumbent` names the experts of the estimator before it, where its choices
    hold to that one's; `abilities` to aggregate, by expert, of those that were measured; `composing`: see
    `router.worth.Composing`, None where no answers were recorded."""

    estimator: str
    options: dict[str, Any]
    experts: list[str]
    encoder: str
    means: dict[str, float]
    outcomes: dict[str, int]
    rows: int
    metrics: dict[str, Any]
    incumbent: list[str] = []
    abilities: dict[str, float] = {}
    composing: dict[str, Any] | None = None


class Fit(NamedTuple):
    """One route, ready to be written."""

    made: FittedRoute
    estimator: Estimator
    incumbent: Incumbent | None = None


class Manifest(msgspec.Struct, frozen=True):
    """`files` maps every file under the version's folder to its SHA-256; `sources` says where outcomes came from."""

    format: int
    created: str
    registry_version: str
    routes: dict[str, FittedRoute]
    sources: list[dict[str, Any]]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version, checked when it was read: every file is there and is what was written."""

    folder: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        return self.folder.name

    def abilities(self, route: str, experts: Sequence[str]) -> dict[str, float]:
        """Measured abilities to aggregate, of these experts."""
        found = self.manifest.routes[route].abilities if route in self.manifest.routes else {}
        return {name: found[name] for name in experts if name in found}

    def composing(self, route: str, experts: Sequence[str]) -> Composing:
        """What was fitted for compositions of the route. Raises ConfigError for what this version cannot read."""
        fitted = self.manifest.routes.get(route)
        if fitted is None:
            return NOTHING_FITTED
        able = self.abilities(route, experts)
        if fitted.composing is None:
            return NOTHING_FITTED.with_abilities(able)
        try:
            return Composing.from_json(fitted.composing, able)
        except (KeyError, TypeError, ValueError) as fault:
            raise ConfigError(f"artifact {self.version}: route {route}: composing cannot be read: {fault!r}") from fault

    def estimator(
        self, route: str, asked: tuple[str, Mapping[str, Any]], cards: Sequence[Card], encoder: Encoder | None,
        outcomes: Callable[[str], Outcomes],
    ) -> Estimator | None:  # fmt: skip
        """The route's estimator, its columns in the order of `cards`; None where the route was not fitted.

        `asked` is the estimator that the route's manifest names, with its options. An expert that the artifact does
        not know is added with `outcomes(name)`, embedded, which may be empty. Raises ConfigError where estimator or
        encoder are not those of the route.
        """
        fitted = self.manifest.routes.get(route)
        if fitted is None:
            return None
        if (fitted.estimator, fitted.options) != (asked[0], dict(asked[1])):
            raise ConfigError(
                f"artifact {self.version}: route {route} was fitted with {fitted.estimator} {fitted.options}, and its "
                f"manifest asks for {asked[0]} {dict(asked[1])}; run `consilium fit` again"
            )
        fingerprint = encoder.fingerprint if encoder else ""
        if fitted.encoder != fingerprint:
            raise ConfigError(
                f"artifact {self.version}: route {route} was fitted on vectors of {fitted.encoder!r}, and its encoder "
                f"is {fingerprint!r}; run `consilium fit` again"
            )
        estimator = self._loaded(route, fitted, encoder)
        columns = list(fitted.experts)
        for card in cards:
            if card.name not in columns:
                estimator.add(card, outcomes(card.name))
                columns.append(card.name)
        names = [card.name for card in cards]
        return estimator if columns == names else Selected(estimator, tuple(columns), tuple(names), fitted.means)

    def incumbent(self, route: str, cards: Sequence[Card], encoder: Encoder | None) -> Incumbent | None:
        """What the route's choices hold to; of a route with experts that came after the fit, the fit itself."""
        fitted = self.manifest.routes[route]
        if not {card.name for card in cards} <= set(fitted.experts):
            return self.in_force(route, encoder)
        if not fitted.incumbent:
            return None
        return Incumbent(self._loaded(route, fitted, encoder, BEFORE), tuple(fitted.incumbent))

    def in_force(self, route: str, encoder: Encoder | None) -> Incumbent | None:
        """The route's own estimator, to hold the next one to, and what it holds to itself; None where there is none, or
        it is of other vectors."""
        fitted = self.manifest.routes.get(route)
        if fitted is None or fitted.encoder != (encoder.fingerprint if encoder else ""):
            return None
        before = None
        if fitted.incumbent:
            before = Incumbent(self._loaded(route, fitted, encoder, BEFORE), tuple(fitted.incumbent))
        return Incumbent(self._loaded(route, fitted, encoder), tuple(fitted.experts), before)

    def _loaded(self, route: str, fitted: FittedRoute, encoder: Encoder | None, below: str = "") -> Estimator:
        estimator = open_estimator(fitted.estimator, fitted.options, Parts(encoder))
        try:
            estimator.load(self.folder / _folder_of(route) / below)
        except (OSError, KeyError, ValueError, TypeError) as fault:
            raise ConfigError(f"artifact {self.version}: route {route}: cannot be loaded: {fault!r}") from fault
        return estimator


def write(
    root: Path, routes: Mapping[str, Fit], *, registry_version: str,
    sources: Sequence[dict[str, Any]],
) -> Artifact:  # fmt: skip
    """A new version, on disk whole; `point` puts it in force."""
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=root, prefix=".writing-"))
    try:
        for name, fit in routes.items():
            fit.estimator.save(work / _folder_of(name))
            if fit.incumbent is not None:
                fit.incumbent.estimator.save(work / _folder_of(name) / BEFORE)
        files = {str(path.relative_to(work)): _hash_of(path) for path in sorted(work.rglob("*")) if path.is_file()}
        manifest = Manifest(
            FORMAT, datetime.now(UTC).isoformat(timespec="seconds"), registry_version,
            {name: fit.made for name, fit in routes.items()}, list(sources), files,
        )  # fmt: skip
        (work / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        work.chmod(0o755)
        for path in work.rglob("*"):
            _sync(path)
        while True:
            folder = root / f"v{_newest(root) + 1:04d}"
            try:
                work.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                continue  # somebody else has taken this number
            _sync(root)
            return Artifact(folder, manifest)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def point(root: Path, version: str) -> None:
    """Put a version in force, in one step."""
    with tempfile.NamedTemporaryFile("w", dir=root, prefix=".pointing-", delete=False) as file:
        file.write(version + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(root / CURRENT)
    _sync(root)


def current(root: Path) -> str | None:
    """The version in force; None where none is. Raises ConfigError where the pointer names no version."""
    try:
        found = (root / CURRENT).read_text(errors="replace").strip() or None
    except FileNotFoundError:
        return None
    if found is not None and not _NAME.fullmatch(found):
        raise ConfigError(
            f"{root / CURRENT}: expected the name of a version (v0001), found {found[:80]!r}; "
            "`consilium fit --rollback v0001` points to one"
        )
    return found


def read(root: Path, version: str) -> Artifact:
    """Raises ConfigError where the version is not there, or not what was written."""
    folder = root / version
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        broken = [name for name, digest in manifest.files.items() if _hash_of(folder / name) != digest]
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as fault:
        known = ", ".join(versions(root)) or "none"
        raise ConfigError(f"{folder}: cannot be read as a fitted router ({fault}); versions here: {known}") from fault
    if manifest.format != FORMAT:
        raise ConfigError(f"{folder}: expected format {FORMAT}, found {manifest.format}; run `consilium fit` again")
    if broken:
        raise ConfigError(f"{folder}: {', '.join(broken)}: not what was written; point to another version")
    return Artifact(folder, manifest)


def versions(root: Path) -> list[str]:
    """Oldest first."""
    return sorted((path.name for path in root.glob("v*") if path.name[1:].isdigit()), key=lambda name: int(name[1:]))


def roll_back(root: Path, version: str | None = None) -> Artifact:
    """Put an older version in force: the one before the current one, or a named one. Raises ConfigError."""
    if version is not None and not _NAME.fullmatch(version):
        known = ", ".join(versions(root)) or "none"
        raise ConfigError(f"--rollback: expected a version, got {version!r}; versions here: {known}")
    if version is None:
        now = current(root)
        earlier = [name for name in versions(root) if now is not None and int(name[1:]) < int(now[1:])]
        if not earlier:
            raise ConfigError(f"{root}: no version before {now or 'none'} to roll back to")
        version = earlier[-1]
    artifact = read(root, version)
    point(root, version)
    return artifact


async def follow(root: Path, adopt: Callable[[Artifact], Awaitable[None]], log: Log, known: str | None) -> None:
    """Adopts each version that the pointer comes to name, within a second; never ends by itself.

    One that is broken, or does not fit the registry, is said loudly, and what is in force stays.
    """
    seen, in_force = None, known
    while True:
        now = _stamp(root / CURRENT)
        if now is not None and now != seen:
            seen = now
            version = None
            try:
                version = await asyncio.to_thread(current, root)
                if version is not None and version != in_force:
                    await adopt(await asyncio.to_thread(read, root, version))
                    in_force = version
                    log.info("artifact_adopted", version=version)
            except ConsiliumError as fault:
                log.error("artifact_refused", version=version, in_force=in_force, reason=fault.message)
        await asyncio.sleep(LOOK_S)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns


def _newest(root: Path) -> int:
    return max((int(name[1:]) for name in versions(root)), default=0)


def _folder_of(route: str) -> str:
    return quote(route, safe="")


def _hash_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
