"""Hot reload: what changes on disk is yielded, well or broken."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from time import monotonic

import pytest

from experts.errors import RegistryError
from registry.load import Registry, load
from registry.watch import watch

A = "kind: expert\nname: a\nprovider: scripted\ntext: one\n"

Changes = AsyncGenerator[Registry | RegistryError, None]


def watching(path: Path, known: Registry | None = None) -> Changes:
    return watch(path, lambda: load(path, environ={}), known or load(path, environ={}))


async def following(changes: Changes) -> Registry | RegistryError:
    return await asyncio.wait_for(anext(changes), 10)


def texts(found: Registry | RegistryError) -> dict[str, object]:
    assert isinstance(found, Registry), found
    return {name: expert.options.model_dump()["text"] for name, expert in found.experts.items()}


def put(file: Path, text: str) -> None:
    """As editors do: write beside, then rename over."""
    beside = file.with_name(f".{file.name}.swp")
    beside.write_text(text)
    beside.replace(file)


async def test_a_folders_changes_arrive_in_time(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(A)
    async with aclosing(watching(tmp_path)) as changes:
        waiting = asyncio.create_task(following(changes))
        await asyncio.sleep(0)
        put(file, A.replace("one", "two"))
        assert texts(await waiting) == {"a": "two"}

        took: list[float] = []
        for text in ("three", "four"):
            begun = monotonic()
            file.write_text(A.replace("one", text))
            assert texts(await following(changes)) == {"a": text}
            took.append(monotonic() - begun)
        assert max(took) < 2

        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "b.yml").write_text(A.replace("name: a", "name: b"))
        assert texts(await following(changes)) == {"a": "four", "b": "one"}
        file.unlink()
        assert texts(await following(changes)) == {"b": "one"}
        shutil.rmtree(tmp_path / "sub")
        assert "found none" in str(await following(changes))
        put(file, A)
        assert texts(await following(changes)) == {"a": "one"}


async def test_a_broken_edit_is_an_error_and_the_next_one_mends_it(tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(A)
    async with aclosing(watching(file)) as changes:
        file.write_text("kind: [")
        broken = await following(changes)
        assert isinstance(broken, RegistryError)
        assert "cannot be read as YAML" in str(broken)
        put(file, A)  # what was in force before: still worth saying, after an error
        assert texts(await following(changes)) == {"a": "one"}
        file.unlink()
        assert "there is no such file" in str(await following(changes))
        file.write_text(A.replace("one", "back"))
        assert texts(await following(changes)) == {"a": "back"}


async def test_what_changed_before_the_watch_began_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(A)
    known = load(file)
    file.write_text(A.replace("one", "two"))
    async with aclosing(watching(file, known)) as changes:
        assert texts(await following(changes)) == {"a": "two"}


async def test_comments_and_other_files_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(A)
    async with aclosing(watching(tmp_path)) as changes:
        put(file, "# a comment\n" + A)
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(changes), 1.5)


async def test_a_link_to_a_folder_that_is_swapped_is_followed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "a.yaml").write_text(A.replace("one", name))
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "..data").symlink_to(tmp_path / "..one")
    (registry / "a.yaml").symlink_to(Path("..data") / "a.yaml")
    async with aclosing(watching(registry)) as changes:
        (registry / "..new").symlink_to(tmp_path / "..two")
        (registry / "..new").rename(registry / "..data")
        assert texts(await following(changes)) == {"a": "two"}


async def test_a_folder_that_goes_and_comes_back_is_found_again(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "a.yaml").write_text(A)
    async with aclosing(watching(registry)) as changes:
        registry.rename(tmp_path / "away")
        assert "there is no such file or folder" in str(await following(changes))
        (tmp_path / "away" / "a.yaml").write_text(A.replace("one", "two"))
        (tmp_path / "away").rename(registry)
        assert texts(await following(changes)) == {"a": "two"}
        put(registry / "a.yaml", A.replace("one", "three"))
        assert texts(await following(changes)) == {"a": "three"}


async def test_a_watch_ends_when_its_task_is_cancelled(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(A)
    changes = watching(tmp_path)
    task = asyncio.create_task(following(changes))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await changes.aclose()
