"""Ridge regression from sums alone: phi^T phi, phi^T y and y^T y, added to as outcomes come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.estimators._evidence import Floats
from router.plan import Matrix

LAMBDAS = tuple(float(value) for value in np.geomspace(0.3, 3000.0, 17))
"""In units of rows, features having unit mean square: lambda outcomes' worth of prior."""

AXES = 64
"""How many directions of the features the uncertainty looks at."""


@dataclass(frozen=True, slots=True)
class Gram:
    """Sums over the rows on which one group of experts all have scores.

    The last feature is the constant 1. `features` (m, m), `targets` (m, g), `squares` (g, g), `columns` (g,).
    """

    columns: tuple[int, ...]
    features: Floats
    targets: Floats
    squares: Floats

    @staticmethod
    def of(columns: Sequence[int], phi: Matrix, scores: Matrix) -> Gram:
        """Sums over rows of `phi` (n, m) and `scores` (n, g), none missing."""
        y = scores.astype(np.float64)
        return Gram(tuple(columns), (phi.T @ phi).astype(np.float64), phi.T.astype(np.float64) @ y, y.T @ y)

    @property
    def rows(self) -> float:
        return float(self.features[-1, -1])

    def plus(self, other: Gram, sign: float = 1.0) -> Gram:
        return Gram(
            self.columns, self.features + sign * other.features, self.targets + sign * other.targets,
            self.squares + sign * other.squares,
        )  # fmt: skip

    def only(self, which: Sequence[int]) -> Gram:
        """The same rows, fewer experts; `which` are positions in `columns`."""
        pick = np.asarray(which, np.int64)
        return Gram(
            tuple(self.columns[i] for i in which), self.features, self.targets[:, pick],
            self.squares[np.ix_(pick, pick)],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Strength:
    """The two lambdas: of what experts share on a query, and of what sets each apart."""

    shared: float
    special: float


@dataclass(frozen=True, slots=True)
class Solution:
    """What one group's experts are estimated with, and what its uncertainty needs.

    `joint` (m - 1, g + r + 1) and `shift` (g + r + 1,): features times `joint` plus `shift` are every expert's quality,
    then where the query lies along the r directions of features that are known best, then its squared distance from
    the features' mean, less the features' own squares. One product serves all three.
    `stretch` (r,): the posterior variance along each direction; `rest` that along all others; `noise` (g,) the residual
    variance of each expert; `rows` how many it saw.
    """

    columns: tuple[int, ...]
    joint: Matrix
    shift: Matrix
    stretch: Matrix
    rest: float
    noise: Matrix
    strength: Strength
    rows: float

    def estimate(self, phi: Matrix) -> tuple[Matrix, Matrix]:
        """Quality and its standard deviation, both (n, g), of features (n, m - 1)."""
        found = phi @ self.joint
        found += self.shift
        experts = len(self.columns)
        along = found[:, experts:-1] ** 2
        beyond = np.maximum(found[:, -1] + np.einsum("nm,nm->n", phi, phi) - along.sum(1), 0)
        variance = along @ self.stretch + beyond * np.float32(self.rest)
        return found[:, :experts], np.sqrt(variance[:, None] * self.noise)


def _centred(gram: Gram) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """The sums about the means: features, targets, squares, and both means."""
    rows = gram.rows
    centre: Floats = gram.features[:-1, -1] / rows
    level: Floats = gram.targets[-1] / rows
    return (
        gram.features[:-1, :-1] - rows * np.outer(centre, centre),
        gram.targets[:-1] - rows * np.outer(centre, level),
        gram.squares - rows * np.outer(level, level), centre, level,
    )  # fmt: skip


def _split(size: int) -> Floats:
    """Maps scores (g,) to [their mean, each one's difference from it]: shape (g, 1 + g)."""
    share = np.full((size, 1), 1 / size)
    return np.hstack([share, np.eye(size) - share.T * np.ones((size, 1))])


def solve(gram: Gram) -> Solution:
    """Weights with the lambdas of the least generalised cross-validation error."""
    features, targets, squares, centre, level = _centred(gram)
    size, rows = len(gram.columns), gram.rows
    scale, turn = np.linalg.eigh(features)
    scale = np.clip(scale, 0, None)
    unit = scale.sum() / max(rows, 1)
    parts = _split(size)
    onto = turn.T @ (targets @ parts)
    energy = np.einsum("gp,gh,hp->p", parts, squares, parts)

    def error(strength: float, which: slice) -> float:
        keep = scale + strength * unit
        left = energy[which].sum() - ((onto[:, which] ** 2).sum(1) * (2 / keep - scale / keep**2)).sum()
        freedom = rows - 1 - (scale / keep).sum()
        return float(rows * max(left, 0) / max(freedom, 1e-6) ** 2)

    shared = min(LAMBDAS, key=lambda value: error(value, slice(0, 1)))
    special = min(LAMBDAS, key=lambda value: error(value, slice(1, None))) if size > 1 else shared
    coefficients = np.hstack([
        onto[:, :1] / (scale + shared * unit)[:, None], onto[:, 1:] / (scale + special * unit)[:, None],
    ])  # fmt: skip
    weights = turn @ (coefficients[:, :1] + coefficients[:, 1:])
    noise = np.clip((np.diag(squares) - (targets * weights).sum(0)) / max(rows - 1, 1), 1e-4, 0.25)
    ridge = special * unit
    top = np.arange(len(scale))[::-1][:AXES]
    others = np.arange(len(scale))[::-1][AXES:]
    axes = turn[:, top]
    joint = np.hstack([weights, axes, -2 * centre[:, None]])
    shift = np.concatenate([level - centre @ weights, -(centre @ axes), [centre @ centre]])
    return Solution(
        gram.columns, np.ascontiguousarray(joint, np.float32), shift.astype(np.float32),
        (1 / (scale[top] + ridge)).astype(np.float32),
        float((1 / (scale[others] + ridge)).mean()) if len(others) else 0.0, noise.astype(np.float32),
        Strength(shared, special), rows,
    )  # fmt: skip


def weights_at(gram: Gram, strength: Strength) -> tuple[Floats, Floats, Floats]:
    """Weights (m - 1, g), offset (g,) and centre (m - 1,) at given lambdas: for cross-fitting."""
    features, targets, _, centre, level = _centred(gram)
    size = len(gram.columns)
    unit = float(np.trace(features)) / max(gram.rows, 1)
    parts, eye = _split(size), np.eye(len(features))
    onto = targets @ parts
    shared = np.linalg.solve(features + strength.shared * unit * eye, onto[:, :1])
    special = np.linalg.solve(features + strength.special * unit * eye, onto[:, 1:])
    return (shared + special).astype(np.float64), level, centre
