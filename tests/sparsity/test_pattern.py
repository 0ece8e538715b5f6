"""Pattern against the brute-force band: masks, counts and the spans that kernels ask for."""

import numpy as np
import pytest
from oracle import band

from pyllmc._core import Pattern
from pyllmc.errors import UsageError

# (hidden, residual): 4C, other multiples, none, equal, and C = 1.
SIZES = [(8, 2), (20, 5), (28, 7), (12, 5), (7, 3), (9, 9), (10, 9), (64, 16), (4, 1), (1, 1)]
IDS = [f"H{H}-C{C}" for H, C in SIZES]


def both_layers(H, C, bandwidth):
    """(pattern, mask) of FC1 and FC2."""
    return [
        (Pattern.band(H, C, bandwidth), band.fc1_mask(H, C, bandwidth)),
        (Pattern.band(C, H, bandwidth), band.fc2_mask(C, H, bandwidth)),
    ]


@pytest.mark.parametrize(("H", "C"), SIZES, ids=IDS)
def test_mask_and_counts_for_every_bandwidth(H, C):
    for bandwidth in range(2 * H + 3):
        for pattern, mask in both_layers(H, C, bandwidth):
            np.testing.assert_array_equal(pattern.mask(), mask)
            assert (pattern.rows, pattern.cols) == mask.shape
            assert pattern.kept == mask.sum()
            assert pattern.total == mask.size
            assert pattern.density == mask.mean()
            assert pattern.is_dense == mask.all()
            assert pattern.bandwidth == bandwidth


@pytest.mark.parametrize(("H", "C"), SIZES, ids=IDS)
def test_spans_hold_what_is_kept_and_no_more(H, C):
    for bandwidth in range(2 * H + 3):
        for pattern, mask in both_layers(H, C, bandwidth):
            rows, cols = mask.shape
            for row in range(rows):
                begin, end = pattern.row_span(row)
                assert list(range(begin, end)) == mask[row].nonzero()[0].tolist()
            for first, last in [(0, rows), (rows // 3, rows // 2 + 1), (rows - 1, rows)]:
                check_span(pattern.inputs_of(first, last), mask[first:last])
            for first, last in [(0, cols), (cols // 3, cols // 2 + 1), (cols - 1, cols)]:
                check_span(pattern.outputs_of(first, last), mask[:, first:last].T)


def check_span(span, tile):
    """`span` covers the columns that any row of the tile keeps: exactly when its ends keep some."""
    begin, end = span
    kept = tile.any(axis=0).nonzero()[0]
    assert 0 <= begin <= end <= tile.shape[1]
    if len(kept):
        assert begin <= kept[0]
        assert end >= kept[-1] + 1
    if tile[0].any() and tile[-1].any():
        assert (begin, end) == (kept[0], kept[-1] + 1)


@pytest.mark.parametrize(("C", "bandwidth"), band.KEPT)
def test_published_counts(C, bandwidth):
    kept = band.KEPT[C, bandwidth]
    assert Pattern.band(4 * C, C, bandwidth).kept == kept
    assert Pattern.band(C, 4 * C, bandwidth).kept == kept


@pytest.mark.parametrize(("H", "C"), [*SIZES, (96, 24), (200, 50)])
def test_a_band_pays_when_its_tiles_leave_out_enough(H, C):
    """A tile: 32 hidden units by every channel that one of them sees, from an even one to an even
    one; the last is as wide as the others."""
    for bandwidth in range(0, 2 * H + 3, 1 + H // 50):
        for pattern, mask in both_layers(H, C, bandwidth):
            rows = mask if mask.shape == (H, C) else mask.T
            floats = 0
            for first in range(0, H, 32):
                seen = rows[first : first + 32].any(axis=0).nonzero()[0]
                if len(seen):
                    floats += 32 * (min(C, (seen[-1] + 2) // 2 * 2) - seen[0] // 2 * 2)
            whole = mask.all()
            assert pattern.tile_floats == (mask.size if whole else floats)
            assert pattern.pays == (not whole and floats <= 0.96 * mask.size)


def test_controls_keep_the_mask_path():
    for kind in ("random", "block", "band-permuted-residual", "band-permuted-hidden"):
        pattern = Pattern.make(kind, 512, 128, "rows", 256)
        assert (pattern.pays, pattern.tile_floats) == (False, pattern.total)
    assert Pattern.make("band", 512, 128, "rows", 256).pays


def test_dense():
    pattern = Pattern.dense(3, 5)
    assert pattern.is_dense
    assert (pattern.kept, pattern.bandwidth) == (15, 0)
    assert pattern.mask().all()


@pytest.mark.parametrize(
    ("rows", "cols", "bandwidth"), [(8, 2, -1), (0, 2, 1), (8, -2, 1), (2**40, 2, 1), (8, 2, 2**40)]
)
def test_impossible_patterns_are_refused(rows, cols, bandwidth):
    with pytest.raises(UsageError, match=r"-?\d+"):
        Pattern.band(rows, cols, bandwidth)
