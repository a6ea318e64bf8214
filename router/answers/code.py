"""`code`: what the program in an answer does on the tests that the query itself gives, run in a sandbox.

Tests are the query's `assert` lines (as MBPP has them) and the doctest examples of its docstring (HumanEval). An
answer's key is which of them it stands, and what it printed instead; so programs that behave alike are equal however
they are written. One that fails a given test is known to be wrong (`checked`). A query without tests is read by the
program's text, without comments and spacing.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import re
import warnings
from hashlib import blake2b
from secrets import token_hex

import orjson
from pydantic import BaseModel, ConfigDict, Field

from router.answers._reading import Reading
from router.answers._texts import code_blocks
from router.sandbox import Isolation, Limits, isolation, run

_ASSERT = re.compile(r"^\s*assert\s.+$", re.MULTILINE)
_LACKING = frozenset({"NameError", "ImportError", "ModuleNotFoundError"})
_DEFINED = re.compile(r"^\s*(?:async\s+)?def\s+(\w+)", re.MULTILINE)

_DRIVER = """
import contextlib as _c, io as _i, json as _j
_seen, _program, _tests = [], {program!r}, _j.loads({tests!r})
_space = {{"__name__": "answer"}}
with _c.redirect_stdout(_i.StringIO()):
    try:
        exec(compile(_program, "answer.py", "exec"), _space)
    except BaseException as _fault:
        _seen = [type(_fault).__name__] * len(_tests)
    else:
        for _test, _wanted in _tests:
            try:
                if _wanted is None:
                    exec(_test, _space)
                    _seen.append("")
                else:
                    _got = eval(_test, _space)
                    _seen.append("" if _got == eval(_wanted, _space) else repr(_got)[:200])
            except BaseException as _fault:
                _seen.append(type(_fault).__name__)
print({mark!r} + _j.dumps(_seen))
"""


class Options(BaseModel):
    """`seconds` of wall clock and CPU, and `megabytes` of memory, for one program; `at_once`: programs side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seconds: float = Field(default=5.0, gt=0, le=600)
    megabytes: int = Field(default=1024, ge=64)
    at_once: int = Field(default=2, ge=1)


class Code:
    def __init__(self, options: Options) -> None:
        self._limits = Limits(options.seconds, max(1, round(options.seconds)), options.megabytes * 2**20)
        self._slots = asyncio.Semaphore(options.at_once)
        self._isolation: Isolation | None = None

    def kind(self, question: str) -> str:
        return "code"

    async def read(self, question: str, text: str) -> Reading | None:
        wanted = tests_of(question)
        program = candidate(text, *opening(question))
        if not program.strip():
            return None
        if not wanted:
            spelled = _spelled(program)
            return None if spelled is None else Reading(_digest(spelled), "a program")
        seen = await self._behaviour(program, wanted)
        return Reading(_digest(orjson.dumps(seen).decode()), _shown(seen), not any(seen))

    async def failure(self, question: str, text: str) -> str:
        """How the program of an answer does on the question's own tests, where it fails one. Empty where it stands
        them, and where nothing can be known: no tests, no program, or tests that only want names it does not have."""
        wanted = tests_of(question)
        program = candidate(text, *opening(question))
        if not wanted or not (code_blocks(text) or _parses(program)):
            return ""
        seen = await self._behaviour(program, wanted)
        unknown = all(one in _LACKING for one in seen)
        return f"its program {_shown(seen)}" if any(seen) and not unknown else ""

    async def same(self, one: str, other: str) -> bool:
        return False

    async def close(self) -> None:
        return None

    async def _behaviour(self, program: str, wanted: list[tuple[str, str | None]]) -> list[str]:
        """What each test saw: nothing where it stood, else the value or the error; `time` where it was not done."""
        mark = token_hex(8)
        source = _DRIVER.format(program=program, tests=orjson.dumps(wanted).decode(), mark=mark)
        async with self._slots:
            if self._isolation is None:
                self._isolation = await isolation()
            ran = await run(source, self._isolation, self._limits)
        _, found, report = ran.output.rpartition(mark)
        if ran.status != 0 or not found:
            return ["time" if ran.status is None else "ended"] * len(wanted)
        return list(orjson.loads(report))


def _shown(seen: list[str]) -> str:
    return f"stands {seen.count('')} of {len(seen)} given tests"


def tests_of(question: str) -> list[tuple[str, str | None]]:
    """The tests that a question gives: statements to be run, and expressions with the value that they must have."""
    found: list[tuple[str, str | None]] = [
        (line.strip(), None) for line in _ASSERT.findall(question) if _parses(line.strip())
    ]
    if found:
        return found
    try:
        examples = doctest.DocTestParser().get_examples(question)
    except ValueError:
        return []
    return [
        (example.source.strip(), example.want.strip())
        for example in examples
        if _expression(example.source) and _literal(example.want)
    ]


def opening(question: str) -> tuple[str, str]:
    """The start of a program that a question gives to be continued, and the function that it defines last."""
    lines = question.splitlines()
    for at, line in enumerate(lines):
        if re.match(r"(?:from|import|def|class|@)\b", line):
            head = "\n".join(lines[at:])
            names = _DEFINED.findall(head)
            if names and _parses(head + "\n    pass\n"):
                return head + "\n", names[-1]
    return "", ""


def candidate(text: str, prompt: str, entry_point: str) -> str:
    """The program that an answer means.

    Code blocks that parse are joined. Where they do not define `entry_point` they are taken as the body that continues
    `prompt`, indented like one.
    """
    blocks = code_blocks(text)
    code = "\n\n".join(blocks) if blocks else text
    if len(blocks) > 1 and not _parses(code):
        defining = [block for block in blocks if _parses(block) and f"def {entry_point}" in block]
        code = defining[-1] if defining else blocks[0]
    if not entry_point or not prompt:
        return code
    if _defines(code, entry_point):
        return f"{prompt}\n\n{code}" if _parses(prompt) else code  # its imports and helpers are the answer's too
    for body in (code, "\n".join("    " + line for line in code.splitlines())):
        if _parses(prompt + body):
            return prompt + body
    return prompt + code


def _parses(code: str) -> bool:
    """Whether it would run at all; a `return` outside a function parses, but does not."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(code, "answer.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _expression(code: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(code.strip(), "test.py", "eval", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _literal(text: str) -> bool:
    try:
        ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return True


def _defines(code: str, name: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"def {name}(" in code
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name for node in tree.body)


def _spelled(code: str) -> str | None:
    """The program without comments and spacing; None where it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.unparse(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()


def build(options: Options) -> Code:
    return Code(options)
