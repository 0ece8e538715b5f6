"""The band oracle against its definition with exact fractions, and the published counts."""

from fractions import Fraction

import numpy as np
import pytest
from oracle import band


@pytest.mark.parametrize(("C", "bandwidth"), band.KEPT)
def test_kept_counts(C, bandwidth):
    assert band.fc1_mask(4 * C, C, bandwidth).sum() == band.KEPT[C, bandwidth]


@pytest.mark.parametrize(("H", "C"), [(8, 2), (12, 5), (7, 3), (3, 7), (5, 5), (1, 4)])
def test_mask_is_distance_on_the_hidden_axis(H, C):
    for bandwidth in range(1, 2 * H + 3):
        mask = band.fc1_mask(H, C, bandwidth)
        for j, i in np.ndindex(H, C):
            assert mask[j, i] == (abs(j - Fraction(i * H, C)) <= Fraction(bandwidth, 2))


def test_fc2_is_the_transpose():
    np.testing.assert_array_equal(band.fc2_mask(5, 12, 3), band.fc1_mask(12, 5, 3).T)


def test_zero_is_dense_and_one_is_the_diagonal():
    assert band.fc1_mask(8, 2, 0).all()
    assert band.fc1_mask(8, 2, 1).nonzero()[0].tolist() == [0, 4]
