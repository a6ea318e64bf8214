from __future__ import annotations

import numpy as np
import pytest

from experts.errors import ConfigError
from router.plan import Estimates
from router.policies.threshold import Options, Threshold, calibrated_threshold
from router.protocols import Situation


def pair(rows: int = 1000) -> Estimates:
    quality = np.random.default_rng(0).random((rows, 2)).astype(np.float32)
    unknown = np.full_like(quality, np.nan)
    return Estimates(("strong", "weak"), quality, np.full_like(quality, 0.1), unknown, unknown, 0)


def everywhere(rows: int) -> Situation:
    return Situation(np.zeros((rows, 2), np.float32), np.zeros(2, np.float32), np.ones((rows, 2), bool))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_calibrated_threshold_sends_its_share_to_the_strong_expert(share: float) -> None:
    found = pair()
    gains = Threshold(Options(strong="strong", weak="weak")).gains(found)
    policy = Threshold(Options(strong="strong", weak="weak", threshold=calibrated_threshold(gains, share)))
    strong = [choice.seats[0] == 0 for choice in policy.decide(found, everywhere(1000))]
    assert np.mean(strong) == pytest.approx(share, abs=0.002)


def test_the_strong_expert_gets_the_queries_with_the_largest_gains() -> None:
    found = pair()
    policy = Threshold(Options(strong="strong", weak="weak", threshold=0.3))
    gains = policy.gains(found)
    for gain, choice in zip(gains, policy.decide(found, everywhere(1000)), strict=True):
        assert (choice.seats[0] == 0) == (gain >= 0.3)


def test_an_expert_that_the_route_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match=r"threshold\.weak: .* of the route \(strong, weak\), got 'tiny'"):
        Threshold(Options(strong="strong", weak="tiny")).decide(pair(2), everywhere(2))


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 0 to 1, got 2"):
        calibrated_threshold(np.zeros(3, np.float32), 2)
