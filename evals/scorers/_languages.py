"""Whether a text is in a language, told by its script and, where languages share one, by frequent words and letters.

Enough for "answer only in Bengali": right on texts of a sentence or more, not a detector of close relatives.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

SCRIPTS: Mapping[str, str] = MappingProxyType({
    "ar": "ARABIC", "bg": "CYRILLIC", "bn": "BENGALI", "el": "GREEK", "fa": "ARABIC", "gu": "GUJARATI", "he": "HEBREW",
    "hi": "DEVANAGARI", "ja": "KANA", "kn": "KANNADA", "ko": "HANGUL", "ml": "MALAYALAM", "mr": "DEVANAGARI",
    "ne": "DEVANAGARI", "pa": "GURMUKHI", "ru": "CYRILLIC", "ta": "TAMIL", "te": "TELUGU", "th": "THAI",
    "uk": "CYRILLIC", "ur": "ARABIC", "zh": "CJK",
})  # fmt: skip
"""The script of a language; one that is not here is written in Latin letters."""

FREQUENT: Mapping[str, str] = MappingProxyType({
    "de": "der die das und ist nicht ein eine zu den mit von für auf im sich auch es ich wir sie werden",
    "en": "the of and to a in is that it for on with as are this be you not or we i was have",
    "es": "el la de que y en los un una por con no para es se las del su como más",
    "fi": "ja on ei se että hän oli mutta ovat joka myös kun tai niin sen olla ovat voi kanssa",
    "fr": "le la les de des et est un une que pour dans ne pas sur avec qui il ce au vous",
    "it": "il di che la e è un una per non con sono le i del della gli nel si anche",
    "nl": "de het een en van is dat niet in op te zijn met voor aan er ook als",
    "pt": "o a de que e do da em um uma para com não os as por mais se no na é",
    "sv": "och att det som en är på av för med den inte till har jag ett om",
    "sw": "na ya wa kwa ni katika za la kuwa hii yake ili au pia kama watu hiyo cha vya mimi",
    "vi": "và của là có không được cho một các người trong với những này đã để khi tôi",
})  # fmt: skip

LETTERS: Mapping[str, str] = MappingProxyType({
    "fa": "پچژگکی", "ur": "ٹڈڑںےہھ", "uk": "іїєґ", "ru": "ыэё", "bg": "ъ", "mr": "ळ", "ne": "",
})  # fmt: skip
"""Letters that tell a language from others of its script."""

RELATED: Mapping[str, str] = MappingProxyType({
    "hi": "है में की के का और से को यह नहीं हैं", "mr": "आहे आणि मध्ये या हे आहेत ते च्या नाही",
    "ne": "छ र को मा लाई हो छन् यो गर्न",
    "ru": "и в не на что с как это для по", "uk": "і в не на що з як це для та", "bg": "и на да се за от е не са с",
    "ar": "في من على إلى أن هذا التي ما لا و", "fa": "و در به از که این است را با",
    "ur": "کے میں کی ہے اور سے کا کو یہ",
})  # fmt: skip


def is_in(text: str, language: str) -> bool:
    """Whether most of the letters are of the language's script, and its own words outnumber those of its relatives."""
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return False
    script = SCRIPTS.get(language, "LATIN")
    if sum(_script(char, script) for char in letters) < 0.6 * len(letters):
        return False
    rivals = FREQUENT if script == "LATIN" else {k: v for k, v in RELATED.items() if SCRIPTS[k] == script}
    if language not in rivals:
        return True
    said = re.findall(r"[^\W\d_]+(?:[\u0900-\u0903\u093a-\u094f]+[^\W\d_]*)*", text.casefold())
    counts = {name: sum(word in own for word in said) + 2 * _marked(text, name)
              for name, own in ((name, frozenset(frequent.split())) for name, frequent in rivals.items())}  # fmt: skip
    return counts[language] == max(counts.values())


def _marked(text: str, language: str) -> int:
    return sum(text.casefold().count(letter) for letter in LETTERS.get(language, ""))


def _script(char: str, script: str) -> bool:
    name = unicodedata.name(char, "")
    if script == "KANA":
        return name.startswith(("HIRAGANA", "KATAKANA", "CJK"))
    return name.startswith(script)
