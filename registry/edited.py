"""A registry file as an edit will leave it, and where its lines come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from experts.errors import Problem
from registry.documents import Source

POSTED = "(new manifest)"
"""What messages call a manifest that is not in a file yet."""


@dataclass(frozen=True, slots=True)
class Edited:
    """A file as it is to be. `origin` tells of each of its lines where it comes from: a line of the file as it stands
    (counted from 1), or, negative, one of the manifest that was posted."""

    source: Source
    origin: Sequence[int]

    def placed(self, problem: Problem) -> Problem:
        """The same problem, in lines that whoever reads it can look at: nothing has been written."""
        if problem.file != self.source.file or not 0 < problem.line <= len(self.origin):
            return problem
        line = self.origin[problem.line - 1]
        return dataclasses.replace(problem, file=POSTED if line < 0 else problem.file, line=abs(line))


def posted_lines(text: str) -> list[int]:
    """The origin of each line of a posted manifest."""
    return [-1 - line for line in range(len(text.splitlines()))]
