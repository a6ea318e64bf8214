"""Adding, replacing and removing manifests on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experts.errors import ConfigError, RegistryError, UnknownModel
from registry import edit
from registry.load import Terms, load

A = "kind: expert\nname: a\nprovider: scripted\ntext: I am a.\n"
B = "kind: expert\nname: b\nprovider: scripted\ntext: I am b.\n"
C = "kind: expert\nname: c\nprovider: scripted\ntext: I am c.\n"
POSTED = Terms(environ={"KEY": "s3cr3t"}, allow_serve=False, allow_env=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(A)
    return tmp_path


def test_a_folder_gets_one_file_a_manifest(folder: Path) -> None:
    change = edit.add(folder, "---\n# my own words\n" + B + "---\n")
    assert (change.kind, change.name, change.file) == ("expert", "b", folder / "b.yaml")
    assert (folder / "b.yaml").read_text() == "# my own words\n" + B
    assert set(load(folder).experts) == {"a", "b"} == set(change.registry.experts)
    assert (folder / "b.yaml").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.yaml", "b.yaml"]


def test_a_file_gets_one_more_document(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    edit.add(file, A)
    edit.add(file, {"kind": "expert", "name": "b", "provider": "scripted", "text": "no", "skills": ["1e5", "on"]})
    file.write_text("# kept\n" + file.read_text().rstrip("\n"))
    edit.add(file, C)
    assert file.read_text().startswith("# kept\n" + A + "---\n")
    registry = load(file)
    assert list(registry.experts) == ["a", "b", "c"]
    assert registry.experts["b"].skills == ("1e5", "on")


def test_a_file_of_that_name_with_something_else_in_it_keeps_it(folder: Path) -> None:
    (folder / "b.yaml").write_text("# routes\nkind: route\nname: r\nexperts: '*'\n")
    edit.add(folder, B)
    assert (folder / "b.yaml").read_text() == "# routes\nkind: route\nname: r\nexperts: '*'\n---\n" + B


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (A, "'a' is already declared (kind expert), in "),
        ("kind: route\nname: a\nexperts: '*'\n", "'a' is already declared (kind expert), in "),
        ("kind: route\nname: r\nexperts: [ghost]\n", "there is no expert 'ghost'"),
        ("kind: expert\nname: ../b\nprovider: scripted\n", "name: expected lower-case letters"),
        ("kind: expert\nname: b\nprovider: scripted\nprice: {input: -1}\n", "(new manifest):4: price.input: must be"),
        (B + "---\n" + C, "expected one document, got 2"),
        ("", "expected one document, got 0"),
        ("kind: [", "cannot be read as YAML"),
        ({"kind": "expert", "name": "b", "provider": "scripted", "text": object()}, "expected JSON values only"),
    ],
)
def test_nothing_is_written_that_would_not_be_valid(folder: Path, manifest: str, said: str) -> None:
    with pytest.raises(RegistryError) as caught:
        edit.add(folder, manifest)
    assert said in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["a.yaml"]
    assert (folder / "a.yaml").read_text() == A


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("serve: {args: [--x]}\n", "serve: not allowed here, because it runs a command"),
        ("description: ${KEY}\n", "${KEY}: references to the environment are not allowed here"),
        ("description: ${NONE:-x}\n", "${NONE}: references to the environment are not allowed here"),
        ("env: {X: '${KEY}'}\ndescription: ${X}\n", "env.X: ${KEY}: references to the environment are not allowed"),
    ],
)
def test_what_is_posted_can_neither_run_commands_nor_read_the_environment(folder: Path, keys: str, said: str) -> None:
    for function in (edit.add, edit.replace):
        with pytest.raises(RegistryError) as caught:
            function(folder, B + keys if function is edit.add else A + keys, POSTED)
        assert said in str(caught.value)
        assert "s3cr3t" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["a.yaml"]


def test_the_operators_own_files_may_do_what_a_posted_manifest_may_not(folder: Path) -> None:
    (folder / "a.yaml").write_text(A + "serve: {port: 8001}\ndescription: ${KEY}\n")
    change = edit.add(folder, B + "env: {X: literal}\ndescription: ${X}\n", POSTED)
    assert change.registry.experts["b"].description == "literal"
    assert edit.remove(folder, "b", terms=POSTED).registry.experts["a"].description == "s3cr3t"


def test_replace_changes_only_its_document(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("# head\n" + A + "# after a\n---\n# about b\n" + B + "\n# before c\n---\n" + C)
    edit.replace(file, B.replace("I am b.", "I am new."))
    assert file.read_text() == (
        "# head\n" + A + "# after a\n---\n# about b\n" + B.replace("I am b.", "I am new.") + "\n# before c\n---\n" + C
    )
    with pytest.raises(UnknownModel, match="has no expert 'd'; known: a, b, c"):
        edit.replace(file, C.replace("name: c", "name: d"))


def test_remove_takes_out_one_document_and_no_comment_of_others(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    text = "# head\n\n" + A + "---\n# about b\n" + B + "long: |\n  # not a comment\n\n  end\n\n# before c\n---\n" + C
    file.write_text(text.replace("long: |\n", "description: |\n"))
    edit.remove(file, "b")
    assert file.read_text() == "# head\n\n" + A + "\n# before c\n---\n" + C
    edit.remove(file, "a")
    assert file.read_text() == "# head\n\n\n# before c\n" + C
    with pytest.raises(RegistryError, match="expected at least one document of kind expert"):
        edit.remove(file, "c")
    assert file.read_text() == "# head\n\n\n# before c\n" + C


def test_remove_takes_the_file_when_nothing_is_left_in_it(folder: Path) -> None:
    edit.add(folder, B)
    change = edit.remove(folder, "b")
    assert (change.file, change.file.exists()) == (folder / "b.yaml", False)
    edit.add(folder, "# why b\n" + B)
    edit.remove(folder, "b")
    assert (folder / "b.yaml").read_text() == "# why b\n"
    assert list(load(folder).experts) == ["a"]


def test_remove_refuses_what_others_need_and_what_is_not_there(folder: Path) -> None:
    edit.add(folder, B)
    edit.add(folder, "kind: route\nname: r\nexperts: [a, b]\n")
    with pytest.raises(RegistryError, match="there is no expert 'b'"):
        edit.remove(folder, "b")
    with pytest.raises(UnknownModel, match="has no expert 'r'"):
        edit.remove(folder, "r", kind="expert")
    assert edit.remove(folder, "r").kind == "route"
    assert edit.remove(folder, "b", kind="expert").name == "b"


def test_a_name_of_two_kinds_wants_the_kind(folder: Path) -> None:
    edit.add(folder, "kind: encoder\nname: a\n")
    edit.add(folder, B)
    assert (folder / "a.yaml").read_text() == A + "---\nkind: encoder\nname: a\n"
    with pytest.raises(RegistryError, match="say which kind"):
        edit.remove(folder, "a")
    edit.remove(folder, "a", kind="expert")
    assert (folder / "a.yaml").read_text() == "kind: encoder\nname: a\n"


def test_a_layout_that_cannot_be_cut_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    text = "--- {kind: expert, name: a, provider: scripted}\n--- {kind: expert, name: b, provider: scripted}\n"
    file.write_text(text)
    edit.remove(file, "a")
    assert file.read_text() == text.splitlines(keepends=True)[1]
    unfinished = A + "description: |+\n  no newline at the end"
    file.write_text(unfinished)
    with pytest.raises(RegistryError, match="laid out in a way that only a person can edit; nothing was changed"):
        edit.add(file, B)
    assert file.read_text() == unfinished


def test_a_registry_broken_elsewhere_is_not_edited(folder: Path) -> None:
    (folder / "z.yaml").write_text("kind: expert\n")
    with pytest.raises(RegistryError, match=r"z\.yaml:1: name: required"):
        edit.add(folder, B)


def test_a_place_that_cannot_be_written_says_so(folder: Path) -> None:
    (folder / "b.yaml").symlink_to(folder / "gone" / "b.yaml")
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory; the registry's folder must"):
        edit.add(folder, B)


def test_writers_in_many_processes_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(A)
    program = (
        "import sys; from registry import edit; from registry.load import Terms\n"
        "for i in range(4): edit.add(sys.argv[1], {'kind': 'expert', 'name': f'{sys.argv[2]}{i}', "
        "'provider': 'scripted', 'text': 'x'}, Terms())"
    )
    root = Path(edit.__file__).parent.parent
    writers = [subprocess.Popen([sys.executable, "-c", program, str(file), name], cwd=root) for name in ("x", "y")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert set(load(file).experts) == {"a", *(f"{name}{i}" for name in "xy" for i in range(4))}


def test_what_is_wrong_with_an_edit_is_said_in_lines_of_the_files_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    route = "kind: route\nname: r\nexperts:\n  - a\n  - b\n"
    file.write_text(f"{A}---\n{B}# of the route\n---\n{route}")
    with pytest.raises(RegistryError) as refused:
        edit.remove(file, "a")
    lines = file.read_text().splitlines()
    assert [lines[problem.line - 1] for problem in refused.value.problems] == ["  - a"]
    with pytest.raises(RegistryError) as refused:
        edit.replace(file, "# other words\n" + route.replace("- b", "- ghost"))
    (problem,) = refused.value.problems
    assert (problem.file, problem.line) == ("(new manifest)", 6)
    with pytest.raises(RegistryError) as refused:
        edit.add(file, route.replace("name: r", "name: s").replace("- a", "- ghost"))
    (problem,) = refused.value.problems
    assert (problem.file, problem.line) == ("(new manifest)", 4)
    file.write_text(file.read_text() + f"---\n{C}")
    change = edit.remove(file, "r")
    assert change.registry.sources == load(file).sources
    assert change.registry.source("c") == f"{file}:12"


def test_a_registry_knows_since_when_its_manifests_are_there(folder: Path) -> None:
    os.utime(folder / "a.yaml", (1_000_000, 1_000_000))
    change = edit.add(folder, B)
    assert change.registry.since("expert", "a") == 1_000_000
    assert change.registry.since("expert", "b") == pytest.approx((folder / "b.yaml").stat().st_mtime, abs=5)
    assert change.registry.since("route", "auto") == change.registry.since("expert", "b")
