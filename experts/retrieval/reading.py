"""Documents out of files: JSONL, BEIR folders, and folders of Markdown, HTML, PDF and text, cut into pieces.

Cutting is `semantic-text-splitter`'s: at headings, paragraphs, sentences and words, in that order of preference, so
that a piece is at most MOST characters long. HTML becomes Markdown first (`markdownify`), so that it is cut at its
headings too; PDF is read by `pypdf`. All three are imported when a file wants them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson

from experts.errors import ConfigError
from experts.retrieval.corpus import Document

MOST = 1_000
"""Characters of a piece: about 250 tokens, what small encoders read whole."""
TEXTS = frozenset({".txt", ".text", ".rst"})
MARKDOWN = frozenset({".md", ".markdown"})
HTML = frozenset({".html", ".htm"})
_LINES = (".jsonl", ".jsonl.gz", ".ndjson")
_BEIR = ("corpus.jsonl", "corpus.jsonl.gz")
_OWN = frozenset({"_id", "id", "title", "text", "contents", "content", "metadata"})


def documents(source: Path, most: int = MOST) -> Iterator[Document]:
    """Every document of a file or folder, in the order of paths and lines.

    A JSON line has `_id` or `id`, `text` and perhaps `title`; its other fields are metadata. A BEIR folder is read from
    its `corpus.jsonl`. A file's id is its path below the folder. Raises ConfigError naming the file and line.
    """
    if source.is_dir():
        beir = next((source / name for name in _BEIR if (source / name).exists()), None)
        if beir is not None:
            yield from _lines(beir, most)
            return
        files = sorted(file for file in source.rglob("*") if file.is_file() and not _hidden(file, source))
        known = [file for file in files if _known(file)]
        if not known:
            raise ConfigError(f"{source}: expected .jsonl, .md, .html, .pdf or .txt files here, found none")
        for file in known:
            yield from _file(file, str(file.relative_to(source)), most)
    elif source.is_file():
        if not _known(source):
            raise ConfigError(f"{source}: expected a .jsonl, .md, .html, .pdf or .txt file")
        yield from _file(source, source.name, most)
    else:
        raise ConfigError(f"{source}: there is no such file or folder")


def count(source: Path) -> int | None:
    """How many documents there are, where counting is cheap; None for what must be read to know."""
    if source.is_dir() and not any((source / name).exists() for name in _BEIR):
        found = [file for file in source.rglob("*") if file.is_file() and not _hidden(file, source) and _known(file)]
        return None if any(file.name.endswith(_LINES) for file in found) else len(found)
    file = next((source / name for name in _BEIR if (source / name).exists()), source)
    if not file.name.endswith(_LINES):
        return 1 if file.exists() else None
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _known(file: Path) -> bool:
    suffix = file.suffix.lower()
    return suffix in TEXTS | MARKDOWN | HTML | {".pdf"} or file.name.lower().endswith(_LINES)


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _lines(file: Path, most: int) -> Iterator[Document]:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as fault:
                raise ConfigError(f"{file}:{number}: not valid JSON: {fault}") from fault
            if not isinstance(row, dict):
                raise ConfigError(f"{file}:{number}: expected an object, got {type(row).__name__}")
            fields = cast(dict[str, Any], row)
            name = fields.get("_id", fields.get("id"))
            text = fields.get("text", fields.get("contents", fields.get("content")))
            if not isinstance(name, str | int) or not isinstance(text, str):
                raise ConfigError(f"{file}:{number}: expected `_id` (or `id`) and `text`, got the keys "
                                  f"{', '.join(fields) or '(none)'}")  # fmt: skip
            more = {key: value for key, value in fields.items() if key not in _OWN}
            yield Document(str(name), str(fields.get("title") or ""), cut(text, most),
                           {**more, **(fields.get("metadata") or {})})  # fmt: skip


def _file(file: Path, name: str, most: int) -> Iterator[Document]:
    suffix = file.suffix.lower()
    if file.name.lower().endswith(_LINES):
        yield from _lines(file, most)
    elif suffix == ".pdf":
        yield Document(name, file.stem, _pdf(file, most), {"file": name})
    elif suffix in HTML:
        yield Document(name, file.stem, cut(_html(file), most, markdown=True), {"file": name})
    else:
        yield Document(name, file.stem, cut(_text(file), most, markdown=suffix in MARKDOWN), {"file": name})


def _html(file: Path) -> str:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(_text(file), "html.parser")
    for unread in soup(["script", "style", "template", "img", "svg"]):
        unread.decompose()
    return MarkdownConverter(heading_style="ATX").convert_soup(soup)


def _pdf(file: Path, most: int) -> tuple[str, ...]:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        return cut("\n\n".join(page.extract_text() for page in PdfReader(file).pages), most)
    except PyPdfError as fault:
        raise ConfigError(f"{file}: cannot be read as PDF: {fault}") from fault


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ConfigError(f"{file}: expected UTF-8 text: {fault}") from fault


def cut(text: str, most: int = MOST, *, markdown: bool = False) -> tuple[str, ...]:
    """The pieces of a text, each at most `most` characters; a short text is one piece, even where it is empty."""
    if len(text) <= most:
        return (text.strip(),)
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    splitter = MarkdownSplitter(most) if markdown else TextSplitter(most)
    return tuple(splitter.chunks(text)) or (text.strip(),)
