"""Which experts to keep: the fleet of most quality within a budget of parameters, memory or dollars an hour.

Source: Composition of Experts (arXiv 2412.01868): maximise sum_c f[c] W[c, e] x[c, e] with every category c served by
one kept expert, sum_e x[c, e] = 1, x[c, e] <= y[e], and sum_e P[e] y[e] <= B, y binary. Solved exactly by HiGHS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Fleet:
    """`kept` experts in the given order; `serves` (c,) the kept expert's name of every category; mean `quality`; what
    the kept ones cost together."""

    kept: tuple[str, ...]
    serves: tuple[str, ...]
    quality: float
    price: float


def choose_fleet(
    experts: Sequence[str], wins: NDArray[Any], share: NDArray[Any], prices: Sequence[float], budget: float
) -> Fleet:
    """The best experts to keep. `wins` (c, e): quality of each in each category; `share` (c,): traffic, any scale.

    Raises ConfigError where no expert fits the budget.
    """
    from scipy import optimize, sparse

    solver: Any = optimize
    matrices: Any = sparse
    wins, cost = np.asarray(wins, np.float64), np.asarray(prices, np.float64)
    if not len(experts) or cost.min() > budget:
        least = f"{cost.min():g}" if len(cost) else "none"
        raise ConfigError(f"fleet: no expert fits a budget of {budget:g}; the smallest needs {least}")
    categories, count = wins.shape
    weight = np.asarray(share, np.float64) / max(float(np.sum(share)), 1e-12)
    gains = np.concatenate([(weight[:, None] * wins).ravel(), -1e-9 * cost / max(cost.max(), 1e-12)])
    one_each = matrices.hstack([
        matrices.kron(matrices.eye(categories), np.ones((1, count))), matrices.csr_matrix((categories, count))
    ])  # fmt: skip
    only_kept = matrices.hstack([
        matrices.eye(categories * count), -matrices.kron(np.ones((categories, 1)), matrices.eye(count))
    ])  # fmt: skip
    total = np.concatenate([np.zeros(categories * count), cost])[None, :]
    found = solver.milp(
        -gains, bounds=solver.Bounds(0, 1),
        integrality=np.concatenate([np.zeros(categories * count), np.ones(count)]),
        constraints=[
            solver.LinearConstraint(one_each, 1, 1), solver.LinearConstraint(only_kept, -np.inf, 0),
            solver.LinearConstraint(total, -np.inf, budget),
        ],
    )  # fmt: skip
    if found.x is None:
        raise ConfigError(f"fleet: no choice within a budget of {budget:g}: {found.message}")
    kept = np.flatnonzero(found.x[-count:] > 0.5)
    best = kept[wins[:, kept].argmax(1)]
    used = sorted(set(best.tolist()))
    quality = float((weight * wins[np.arange(categories), best]).sum())
    return Fleet(tuple(experts[i] for i in used), tuple(experts[i] for i in best), quality, float(cost[used].sum()))  # pyright: ignore[reportArgumentType]
