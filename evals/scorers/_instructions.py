"""The verifiable instructions of IFEval: for each id a function of (answer, arguments): is it followed?

Source: Zhou et al. 2023, Instruction-Following Evaluation for Large Language Models (arXiv 2311.07911), whose 25 ids
these are. Two are approximations of the published checks: sentences are split by punctuation instead of a trained
splitter, and languages told by script and frequent words (`_languages`) instead of a trained detector.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from evals.scorers._languages import is_in

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]

CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCE_END = re.compile(r"[.!?…]+[\"')\]”’]*(?=\s|$)")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|U\.S|No|[A-Z])\.(?=\s)")


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def sentences(text: str) -> int:
    """How many sentences; a last one needs no mark."""
    flat = _ABBREVIATION.sub(lambda found: found[0][:-1], text.strip())
    pieces = [piece for piece in _SENTENCE_END.split(flat) if words(piece)]
    return len(pieces)


def compare(found: int, arguments: Arguments, relation: str, limit: str) -> bool:
    """`at least` or `less than`, as the published arguments have it."""
    least = arguments[limit]
    return found < least if arguments.get(relation) == "less than" else found >= least


def _keywords(text: str, arguments: Arguments) -> bool:
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in arguments["keywords"])


def _frequency(text: str, arguments: Arguments) -> bool:
    found = len(re.findall(re.escape(arguments["keyword"].strip()), text, re.IGNORECASE))
    return compare(found, arguments, "relation", "frequency")


def _forbidden(text: str, arguments: Arguments) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in arguments["forbidden_words"])


def _letter(text: str, arguments: Arguments) -> bool:
    found = text.lower().count(arguments["letter"].lower())
    return compare(found, arguments, "let_relation", "let_frequency")


def _language(text: str, arguments: Arguments) -> bool:
    return is_in(text, arguments["language"])


def _paragraphs(text: str, arguments: Arguments) -> bool:
    """Paragraphs are divided by the mark `***`; the first and last may be empty."""
    pieces = re.split(r"\s?\*\*\*\s?", text)
    inner = pieces[1:-1] if len(pieces) > 2 else []
    if any(not piece.strip() for piece in inner):
        return False
    return sum(bool(piece.strip()) for piece in pieces) == arguments["num_paragraphs"]


def _nth_paragraph(text: str, arguments: Arguments) -> bool:
    """Paragraphs are divided by a blank line; the nth begins with the word."""
    pieces = [piece.strip() for piece in re.split(r"\n\n", text) if piece.strip()]
    nth = arguments["nth_paragraph"]
    if len(pieces) != arguments["num_paragraphs"] or nth > len(pieces):
        return False
    first = words(pieces[nth - 1].split()[0])
    return bool(first) and first[0].casefold() == arguments["first_word"].casefold()


def _words(text: str, arguments: Arguments) -> bool:
    return compare(len(words(text)), arguments, "relation", "num_words")


def _sentences(text: str, arguments: Arguments) -> bool:
    return compare(sentences(text), arguments, "relation", "num_sentences")


def _placeholders(text: str, arguments: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= arguments["num_placeholders"]


def _postscript(text: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"]
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker))
    return re.search(rf"\s*{pattern}.*$", text, re.IGNORECASE | re.MULTILINE) is not None


def _bullets(text: str, arguments: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == arguments["num_bullets"]


def _highlights(text: str, arguments: Arguments) -> bool:
    single = [found for found in re.findall(r"\*[^\n\*]*\*", text) if found.strip("*").strip()]
    double = [found for found in re.findall(r"\*\*[^\n\*]*\*\*", text) if found.strip("*").strip()]
    return len(single) + len(double) >= arguments["num_highlights"]


def _sections(text: str, arguments: Arguments) -> bool:
    mark = re.escape(arguments["section_spliter"])
    return len(re.split(rf"\s?{mark}\s?\d+\s?", text)) - 1 >= arguments["num_sections"]


def _json(text: str, arguments: Arguments) -> bool:
    bare = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def _title(text: str, arguments: Arguments) -> bool:
    return any(found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", text))


def _constrained(text: str, arguments: Arguments) -> bool:
    return any(option in text for option in CONSTRAINED)


def _two_responses(text: str, arguments: Arguments) -> bool:
    pieces = text.split("******")
    whole = [piece.strip() for number, piece in enumerate(pieces) if piece.strip() or 0 < number < len(pieces) - 1]
    return len(whole) == 2 and all(whole) and whole[0] != whole[1]


def _repeated(text: str, arguments: Arguments) -> bool:
    return text.strip().lower().startswith(arguments["prompt_to_repeat"].strip().lower())


def _ending(text: str, arguments: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


def _quoted(text: str, arguments: Arguments) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _capitals(text: str, arguments: Arguments) -> bool:
    return text.isupper() and is_in(text.lower(), "en")


def _lowercase(text: str, arguments: Arguments) -> bool:
    return text.islower() and is_in(text, "en")


def _capital_words(text: str, arguments: Arguments) -> bool:
    found = Counter(word.isupper() for word in words(text))[True]
    return compare(found, arguments, "capital_relation", "capital_frequency")


def _no_comma(text: str, arguments: Arguments) -> bool:
    return "," not in text


CHECKS: Mapping[str, Check] = MappingProxyType({
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capitals,
    "change_case:english_lowercase": _lowercase,
    "combination:repeat_prompt": _repeated,
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:json_format": _json,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "keywords:existence": _keywords,
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _frequency,
    "keywords:letter_frequency": _letter,
    "language:response_language": _language,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_words": _words,
    "punctuation:no_comma": _no_comma,
    "startend:end_checker": _ending,
    "startend:quotation": _quoted,
})  # fmt: skip
