"""YAML text -> nodes: PyYAML's composer with YAML 1.2's idea of a scalar, and a bound on nesting."""

from __future__ import annotations

import re
from typing import Any, cast

import yaml
from yaml.composer import Composer
from yaml.events import DocumentStartEvent, Event
from yaml.nodes import Node
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

MAX_DEPTH = 32
TAG = "tag:yaml.org,2002:"
_CORE = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    ("float", r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
     list("-+0123456789.")),
    ("merge", r"^(?:<<)$", ["<"]),
)  # fmt: skip


class Composing(Composer, Resolver):
    """Composes nodes only (nothing is constructed), knows where documents start, and refuses to nest without end."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    marker: int | None = None
    _depth = 0

    def _next(self) -> Event:
        return cast(Event, self.peek_event())  # pyright: ignore

    def compose_document(self) -> Node | None:
        start = cast(DocumentStartEvent, self._next())
        self.marker = start.start_mark.line + 1 if start.explicit else None
        self._depth = 0
        return super().compose_document()

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self._next().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)  # pyright: ignore[reportArgumentType]
        self._depth -= 1
        return node


for _name, _pattern, _starts in _CORE:
    Composing.add_implicit_resolver(TAG + _name, re.compile(_pattern), _starts)  # pyright: ignore


class PlainParser(Composing, Reader, Scanner, Parser):
    """The parser in Python, for where PyYAML was built without libyaml."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        Resolver.__init__(self)


def open_parser(text: str) -> Composing:
    """The parser of libyaml, ten times as fast, where there is one; else the one in Python."""
    if not yaml.__with_libyaml__:
        return PlainParser(text)
    from yaml import cyaml

    events = cast(Any, cyaml).CParser

    class QuickParser(Composing, events):
        def __init__(self, text: str) -> None:
            events.__init__(self, text)
            Composer.__init__(self)
            Resolver.__init__(self)

    return QuickParser(text)
