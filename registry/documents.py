"""YAML text -> documents: plain data, with the line of every key path, and every fault of the text as a problem.

The dialect is the safe, JSON-like part of YAML, read as YAML 1.2 does: only `true` and `false` are booleans (the
country `no` is text), no dates, no octal or base-60 numbers. Duplicate keys are refused; anchors, aliases and
merge keys work, within bounds that make a small file expanding to a huge one impossible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from experts.errors import Problem
from registry.manifest import KeyPath
from registry.parser import MAX_DEPTH, TAG, Composing, open_parser

MAX_BYTES = 1 << 20
MAX_NODES = 20_000


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one file. `file` is what messages call it; `folder` is where its relative paths start; `modified` is
    when it was last written, in seconds since 1970."""

    file: str
    text: str
    folder: Path
    modified: float = field(default_factory=time, compare=False)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. `data` is as written: references to the environment are still references.

    `lines` maps key paths to line numbers, from 1. The document's content is lines `first` to `last` of its file,
    and `marker` is the line of the `---` before it (None where there is none).
    """

    source: Source
    data: Any
    lines: Mapping[KeyPath, int]
    first: int
    last: int
    marker: int | None

    @property
    def keys(self) -> dict[str, Any]:
        """The document's top-level keys; none, where it is not a map."""
        data = self.data
        return cast(dict[str, Any], data) if isinstance(data, dict) else {}

    def line(self, path: KeyPath) -> int:
        """The line of a key path, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.first)

    def problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(self.source.file, self.line(path), written(path), message)


def written(path: KeyPath) -> str:
    """A key path as people write it: `endpoints[0]`, `price.output`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step[:60]}" if text else step[:60]
    return text


def read_documents(
    source: Source, parser: Callable[[str], Composing] = open_parser
) -> tuple[list[Document], list[Problem]]:
    """Every document of a file that can be read, and every reason why one cannot. Never raises on bad text."""
    try:
        size = len(source.text.encode())
    except UnicodeEncodeError:
        return [], [Problem(source.file, 0, "", "expected UTF-8 text")]
    if size > MAX_BYTES:
        return [], [Problem(source.file, 0, "", f"expected at most {MAX_BYTES} bytes, found more; split the file")]
    documents: list[Document] = []
    problems: list[Problem] = []
    try:
        loader = parser(source.text)
        while loader.check_node():
            node = loader.get_node()
            if node is not None and not _empty(node):
                reading = _Reading(source)
                data = reading.value(node, (), 0)
                problems += reading.problems
                if not reading.problems:
                    first, last = node.start_mark.line + 1, _last_line(node, source.text)
                    documents.append(Document(source, data, reading.lines, first, last, loader.marker))
    except yaml.YAMLError as fault:
        problems.append(_unreadable(source, fault))
    return documents, problems


def _empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == TAG + "null"


def _unreadable(source: Source, fault: yaml.YAMLError) -> Problem:
    """The parser's reason without its excerpts of the file: a secret may stand there."""
    mark = getattr(fault, "problem_mark", None) or getattr(fault, "context_mark", None)
    line = mark.line + 1 if mark is not None else 0
    reason = str(getattr(fault, "problem", None) or getattr(fault, "reason", None) or "cannot be read")
    reason = re.sub(r" (?:'(?![^']{0,2}'|<)[^']*'|\"[^\"]*\")", "", reason)
    hint = ""
    if line and "${" in source.text.splitlines()[min(line, len(source.text.splitlines())) - 1]:
        hint = '; inside [ ] or { }, a reference needs quotes: "${NAME}"'
    return Problem(source.file, line, "", f"cannot be read as YAML: {reason}{hint}")


def _last_line(node: Node, text: str) -> int:
    """The last line of a node's own content, from 1; the parser's end mark runs on over comments and blanks."""
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        return max(_last_line(node.value[-1][1], text), node.value[-1][0].end_mark.line + 1)
    if isinstance(node, SequenceNode) and not node.flow_style and node.value:
        return max(_last_line(node.value[-1], text), node.start_mark.line + 1)
    lines = text.splitlines()
    last = node.end_mark.line + (1 if node.end_mark.column else 0)
    last = max(min(last, len(lines)), node.start_mark.line + 1)
    while last > node.start_mark.line + 1 and not lines[last - 1].strip():
        last -= 1
    return last


class _Reading:
    """Turns the nodes of one document into data, keeping lines and problems on the way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._seen = 0

    def refuse(self, node: Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.source.file, node.start_mark.line + 1, written(path), message))

    def value(self, node: Node, path: KeyPath, depth: int) -> Any:
        self._seen += 1
        if self._seen == MAX_NODES or depth == MAX_DEPTH:
            self.refuse(node, (), f"expected at most {MAX_NODES} values, {MAX_DEPTH} deep, aliases counted each time")
        if self._seen >= MAX_NODES or depth >= MAX_DEPTH:
            return None
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self._map(node, path, depth)
        if isinstance(node, SequenceNode):
            if node.tag != TAG + "seq":
                self.refuse(node, path, "expected a plain list, got one with a tag; remove the tag")
            return [self.value(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _map(self, node: MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        if node.tag != TAG + "map":
            self.refuse(node, path, "expected a plain map, got one with a tag; remove the tag")
        own: dict[str, Any] = {}
        merged: list[Node] = []
        for key, item in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in (TAG + "str", TAG + "merge"):
                self.refuse(key, path, 'expected keys to be text; quote the key: "1", "true"')
            elif key.tag == TAG + "merge":
                merged += item.value if isinstance(item, SequenceNode) else [item]
            elif key.value in own:
                first = self.lines[*path, key.value]
                self.refuse(key, (*path, key.value), f"written twice; first in line {first}")
            else:
                self.lines[*path, key.value] = key.start_mark.line + 1
                own[key.value] = self.value(item, (*path, key.value), depth + 1)
        for item in merged:
            if not isinstance(item, MappingNode):
                self.refuse(item, path, "expected << to be followed by an alias of a map, or a list of such")
                continue
            for name, value in self._map_below(item, path, depth, own).items():
                own.setdefault(name, value)
        return own

    def _map_below(self, node: MappingNode, path: KeyPath, depth: int, own: Mapping[str, Any]) -> dict[str, Any]:
        """A merged map's values; a key of the map it is merged into keeps its own lines."""
        below = _Reading(self.source)
        below._seen = self._seen
        if depth + 1 >= MAX_DEPTH:
            self.refuse(node, path, f"expected at most {MAX_DEPTH} merges inside each other")
            return {}
        values = below._map(node, path, depth + 1)
        self._seen = below._seen
        self.problems += below.problems
        for place, line in below.lines.items():
            if len(place) > len(path) and place[len(path)] not in own:
                self.lines.setdefault(place, line)
        return values

    def _scalar(self, node: Node, path: KeyPath) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(TAG)
        try:
            match kind:
                case "str" | "merge":
                    return text
                case "null":
                    return None
                case "bool":
                    return _BOOLEANS[text.lower()]
                case "int":
                    return int(text)
                case "float":
                    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
                case _:
                    self.refuse(node, path, "expected a plain value, got one with a tag; remove the tag")
        except (ValueError, KeyError):
            self.refuse(node, path, f"expected a value that fits its tag, {kind}; remove the tag or quote the value")
        return None


_BOOLEANS = {"true": True, "false": False}
