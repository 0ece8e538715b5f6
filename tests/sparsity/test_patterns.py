"""The control patterns: as many entries as the band, elsewhere."""

from itertools import pairwise

import numpy as np
import pytest
from oracle import band, controls

from pyllmc._core import Pattern
from pyllmc.errors import UsageError

KINDS = ["band", "random", "block", "band-permuted-residual", "band-permuted-hidden"]
SHUFFLES = KINDS[3:]
SIZES = [(512, 128), (64, 16), (28, 7), (225, 128), (40, 40), (48, 128)]
IDS = [f"H{H}-C{C}" for H, C in SIZES]


def fc1(kind, H, C, bandwidth, seed=7, layer="h.0."):
    return Pattern.make(kind, H, C, "rows", bandwidth, seed, layer, layer + "fcw")


def fc2(kind, H, C, bandwidth, seed=7, layer="h.0."):
    return Pattern.make(kind, C, H, "cols", bandwidth, seed, layer, layer + "fcprojw")


def both(kind, H, C, bandwidth):
    return fc1(kind, H, C, bandwidth), fc2(kind, H, C, bandwidth)


def same(first, second):
    return np.array_equal(first.mask(), second.mask())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("H", "C"), [(64, 16), (28, 7), (48, 128), (40, 40)])
def test_spans_counts_and_entries_agree(kind, H, C):
    for bandwidth in (H,) if kind == "block" else (H // 2, H):
        for pattern in both(kind, H, C, bandwidth):
            mask = pattern.mask()
            assert pattern.kept == mask.sum()
            assert (pattern.kind, pattern.bandwidth) == (kind, bandwidth)
            for row, kept in enumerate(mask):
                spans = pattern.spans(row)
                columns = [col for begin, end in spans for col in range(begin, end)]
                assert columns == kept.nonzero()[0].tolist()
                assert all(a[1] < b[0] for a, b in pairwise(spans))
                begin, end = pattern.row_span(row)
                assert not columns or (begin, end) == (columns[0], columns[-1] + 1)
            assert pattern.is_band == (kind == "band" and not mask.all())
            check_tiles(pattern, mask)


def check_tiles(pattern, mask):
    """inputs_of and outputs_of reach over everything that a tile's rows or columns keep."""
    for span_of, array in ((pattern.inputs_of, mask), (pattern.outputs_of, mask.T)):
        for first, last in ((0, len(array)), (len(array) // 3, len(array) // 2 + 1)):
            kept = array[first:last].any(axis=0).nonzero()[0]
            begin, end = span_of(first, last)
            assert begin <= kept.min()
            assert end > kept.max()


@pytest.mark.parametrize(("H", "C"), SIZES, ids=IDS)
def test_random_keeps_the_same_number_in_every_row(H, C):
    for bandwidth in (H // 4, H // 2, H):
        for pattern in both("random", H, C, bandwidth):
            counts = pattern.mask().sum(axis=1)
            assert (counts == counts[0]).all()
            kept = Pattern.make("band", *pattern.mask().shape, *axis(pattern, H), bandwidth).kept
            others = [abs(kept - (counts[0] + d) * len(counts)) for d in (-1, 1)]
            assert abs(kept - pattern.kept) <= min(others)


def axis(pattern, H):
    return ["rows" if pattern.rows == H else "cols"]


@pytest.mark.parametrize(("H", "C"), [(64, 16), (28, 7)])
def test_random_places_come_from_the_seed_and_the_weights_name(H, C):
    for seed in (0, 1, 2**32 - 1):
        kept = int(band.fc1_mask(H, C, H // 2).sum())
        for pattern, name in ((fc1, "h.3.fcw"), (fc2, "h.3.fcprojw")):
            actual = pattern("random", H, C, H // 2, seed, "h.3.").mask()
            np.testing.assert_array_equal(
                actual, controls.random_mask(*actual.shape, kept, seed, name)
            )


def test_random_draws_are_spread_over_the_columns():
    H, C = 512, 128
    mask = fc1("random", H, C, 256).mask()
    expected = mask.mean() * H
    # Binomial: five standard deviations.
    assert np.abs(mask.sum(axis=0) - expected).max() < 5 * np.sqrt(expected * (1 - mask.mean()))


@pytest.mark.parametrize("kind", ["random", *SHUFFLES])
def test_seed_and_layer_change_the_draw(kind):
    patterns = [
        fc1(kind, 64, 16, 20),
        fc1(kind, 64, 16, 20, seed=8),
        fc1(kind, 64, 16, 20, layer="h.1."),
    ]
    assert same(patterns[0], fc1(kind, 64, 16, 20))
    assert not any(same(patterns[0], other) for other in patterns[1:])
    assert not same(patterns[1], patterns[2])


@pytest.mark.parametrize(("H", "C"), [(512, 128), (3072, 768), (228, 128), (40, 40)])
@pytest.mark.parametrize("part", [4, 2, 1])
def test_blocks_are_equal_but_for_one_and_within_two_percent(H, C, part):
    bandwidth = H // part
    pattern, transposed = both("block", H, C, bandwidth)
    kept = Pattern.make("band", H, C, "rows", bandwidth).kept
    assert abs(pattern.kept - kept) <= 0.02 * kept
    mask = pattern.mask()
    np.testing.assert_array_equal(transposed.mask(), mask.T)
    blocks = [(span, n) for span, n in run_lengths([pattern.row_span(row) for row in range(H)])]
    assert [begin for (begin, _), _ in blocks[1:]] == [end for (_, end), _ in blocks[:-1]]
    assert (blocks[0][0][0], blocks[-1][0][1]) == (0, C)
    sides = [(n, end - begin) for (begin, end), n in blocks]
    assert len(set(sides[:-1])) <= 1
    assert sides[-1][0] <= sides[0][0]
    assert sides[-1][1] <= sides[0][1]


def run_lengths(items):
    runs = []
    for item in items:
        if runs and runs[-1][0] == item:
            runs[-1][1] += 1
        else:
            runs.append([item, 1])
    return runs


def test_blocks_that_cannot_keep_that_many_are_refused():
    with pytest.raises(UsageError, match="within 2 %"):
        fc1("block", 28, 7, 14)


@pytest.mark.parametrize("kind", SHUFFLES)
@pytest.mark.parametrize(("H", "C"), [(64, 16), (28, 7), (12, 20)])
def test_shuffles_keep_the_bands_entries(kind, H, C):
    for bandwidth in (H // 4, H // 2):
        expected = controls.permuted_fc1_mask(H, C, bandwidth, kind, 7, "h.0.")
        first, second = both(kind, H, C, bandwidth)
        np.testing.assert_array_equal(first.mask(), expected)
        np.testing.assert_array_equal(second.mask(), expected.T)
        assert not np.array_equal(expected, band.fc1_mask(H, C, bandwidth))
        rows = (sorted(m.sum(axis=0)) for m in (expected, band.fc1_mask(H, C, bandwidth)))
        assert len({tuple(counts) for counts in rows}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_bandwidth_that_keeps_everything_is_dense_for_every_kind(kind):
    for bandwidth in (0, 1024):
        for pattern in both(kind, 512, 128, bandwidth):
            assert pattern.is_dense
            assert not pattern.is_band
            assert pattern.row_span(0) == (0, pattern.cols)


def test_bandwidth_is_measured_on_the_hidden_axis_also_when_that_is_the_shorter():
    np.testing.assert_array_equal(fc1("band", 12, 20, 5).mask(), band.fc1_mask(12, 20, 5))


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="diagonal"):
        fc1("diagonal", 8, 2, 4)
    with pytest.raises(UsageError, match="depth"):
        Pattern.make("band", 8, 2, "depth", 4)


@pytest.mark.parametrize("kind", ["band", "random", "band-permuted-hidden"])
def test_rows_and_columns_that_are_not_there_are_refused(kind):
    pattern = Pattern.make(kind, 32, 8, "rows", 6)
    for row in (-1, 32, 10**9):
        for ask in (pattern.spans, pattern.row_span):
            with pytest.raises(UsageError, match=f"row is {row}, it must be 0 to 31"):
                ask(row)
    for ask, count in ((pattern.inputs_of, 32), (pattern.outputs_of, 8)):
        for begin, end in ((0, count + 1), (-1, count), (3, 2), (0, 10**9)):
            with pytest.raises(UsageError, match="of the range is"):
                ask(begin, end)
