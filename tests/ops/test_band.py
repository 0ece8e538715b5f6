"""Products of a weight stored as its band against the float64 oracle on the masked weight."""

import numpy as np
import pytest
from oracle import band, bf16, compare, gelu, linear

from pyllmc._core import Pattern, ops
from pyllmc.errors import UsageError

PRECISIONS = ["fp32", "bf16"]
# Edges: one row, odd ones, around a tile of 32 hidden units, around the widths that a window of
# residual channels grows at, one short of all-ones at 2 (4C - 1), and half of it.
EDGES = {
    128: [1, 2, 3, 7, 8, 31, 32, 33, 64, 256, 511, 1021],
    512: [1, 3, 8, 63, 64, 65, 256, 257, 512, 1024, 2047, 4093],
}
# Few rows (other products), and one off the edges of row tiles, row blocks, backward's least parts
# of 64, eight of them, and parts of two chunks.
ROWS = [1, 2, 3, 4, 5, 11, 12, 13, 63, 64, 65, 191, 192, 193, 511, 512, 513, 2048, 2049, 2600]


class Case:
    """Random operands of one layer and their oracle results for any bandwidth."""

    def __init__(self, layer, M, C, H, precision="fp32", seed=0):
        self.layer, self.M, self.C, self.H, self.precision = layer, M, C, H, precision
        N, K = (H, C) if layer == "fc1" else (C, H)
        rng = np.random.default_rng([M, C, H, seed])
        draw = [rng.standard_normal(s, dtype=np.float32) for s in self.shapes(M, N, K)]
        self.x, self.w, self.b, self.residual, self.dy, self.activation = draw
        # Few rows keep their fp32 operands: nothing is packed.
        self.rounds = precision == "bf16"
        j, i = np.arange(H)[:, None], np.arange(C)
        distance = 2 * np.abs(j * C - i * H)
        self.distance = distance if layer == "fc1" else distance.T

    @staticmethod
    def shapes(M, N, K):
        return (M, K), (N, K), (N,), (M, N), (M, N), (M, K)

    def mask(self, bandwidth):
        return self.distance <= bandwidth * self.C

    def operand(self, x, packed=True):
        return bf16.rounded(x) if self.rounds and packed else x.astype(np.float64)

    def check_forward(self, bandwidth, threads=1):
        packed = self.M > 4
        x, w = self.operand(self.x, packed), self.operand(self.w, packed) * self.mask(bandwidth)
        others = self.b.astype(np.float64) + self.residual
        expected, bound = linear.forward(x, w), compare.product_bound(x.shape[1])
        scale = linear.forward(np.abs(x), np.abs(w))
        options = {"precision": self.precision, "threads": threads}
        y = ops.band_forward(self.x, self.w, bandwidth, **options)
        assert compare.error(y, expected, scale) <= bound
        y, activated = ops.band_forward(
            self.x, self.w, bandwidth, self.b, self.residual, gelu=True, **options
        )
        expected, scale = expected + others, scale + np.abs(self.b) + np.abs(self.residual)
        assert compare.error(y, expected, scale) <= bound
        assert compare.error(activated, gelu.forward(expected), scale) <= (
            1.13 * bound + 5 * compare.U
        )

    def check_backward(self, bandwidth, threads=1):
        mask = self.mask(bandwidth)
        x, w, dy = self.operand(self.x), self.operand(self.w) * mask, self.operand(self.dy)
        dx, dw, _ = linear.backward(dy, x, w)
        dx_scale, dw_scale, _ = linear.backward(np.abs(dy), np.abs(x), np.abs(w))
        dx_bound, dw_bound = compare.product_bound(len(w)), compare.product_bound(self.M)
        options = {"precision": self.precision, "threads": threads}
        actual = ops.band_backward(self.dy, self.x, self.w, bandwidth, **options)
        assert compare.error(actual[0], dx, dx_scale) <= dx_bound
        assert compare.error(actual[1], dw * mask, dw_scale * mask) <= dw_bound
        db, db_scale = (a.astype(np.float64).sum(axis=0) for a in (self.dy, np.abs(self.dy)))
        assert compare.error(actual[2], db, db_scale) <= dw_bound
        activation = self.activation.astype(np.float64)
        with_gelu = ops.band_backward(
            self.dy, self.x, self.w, bandwidth, activation=self.activation, **options
        )
        dx, dx_scale = gelu.backward(dx, activation), dx_scale * (1 + np.abs(activation))
        assert compare.error(with_gelu[0], dx, dx_scale) <= 1.13 * dx_bound + 5 * compare.U
        for alone, together in zip(actual[1:], with_gelu[1:], strict=True):
            np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_the_masks_of_this_file_are_the_oracles(layer):
    case = Case(layer, 1, 6, 24)
    for bandwidth in range(1, 2 * 24):
        expected = band.fc1_mask(24, 6, bandwidth)
        np.testing.assert_array_equal(
            case.mask(bandwidth), expected if layer == "fc1" else expected.T
        )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize("C", [16, 64, 96])
def test_every_bandwidth_that_leaves_something_out(C, layer, precision):
    case = Case(layer, 13, C, 4 * C, precision)
    for bandwidth in range(1, 2 * (4 * C - 1)):
        case.check_forward(bandwidth)
        case.check_backward(bandwidth)


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize("C", [16, 64, 96, 128, 512])
def test_what_keeps_everything_is_no_band(C, layer):
    case = Case(layer, 1, C, 4 * C)
    for bandwidth in (0, 2 * (4 * C - 1), 8 * C - 1, 8 * C):
        with pytest.raises(UsageError, match="only a band"):
            ops.band_forward(case.x, case.w, bandwidth)
        with pytest.raises(UsageError, match="only a band"):
            ops.band_backward(case.dy, case.x, case.w, bandwidth)
        assert Pattern.band(*case.w.shape, bandwidth).is_dense


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize("C", EDGES)
def test_edges_of_wide_models(C, layer, precision):
    case = Case(layer, 37, C, 4 * C, precision)
    for bandwidth in EDGES[C]:
        case.check_forward(bandwidth)
        case.check_backward(bandwidth)


# H that is no multiple of 32, of C or of anything; C larger than a panel, odd, or 1; rows and
# columns of the mask that keep nothing.
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("C", "H"),
    [(1, 2), (1, 5), (5, 12), (7, 33), (31, 65), (33, 132), (50, 51), (65, 100), (130, 300)],
)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_ragged_shapes(layer, C, H, precision):
    case = Case(layer, 21, C, H, precision)
    bandwidths = [b for b in (1, 2, 3, 7, 20, H // 2, H, 2 * H - 3) if b > 0]
    for bandwidth in bandwidths:
        if case.mask(bandwidth).all():
            continue
        case.check_forward(bandwidth)
        case.check_backward(bandwidth)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize("M", ROWS)
def test_numbers_of_rows(M, layer, precision):
    case = Case(layer, M, 20, 80, precision)
    for bandwidth in (1, 13, 90):
        case.check_forward(bandwidth)
        case.check_backward(bandwidth)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize("C", [264, 528])
def test_row_blocks_of_wide_layers(C, layer, precision):
    """With more than 512 or 1,024 inputs, twice that in bf16, fewer rows are packed at once."""
    case = Case(layer, 205, C, 4 * C, precision)
    for bandwidth in (5, C):
        case.check_forward(bandwidth)
        case.check_backward(bandwidth)


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_hidden_units_that_no_channel_reaches(layer):
    """H = 5 C and a bandwidth of 1: of five hidden units four keep nothing."""
    case = Case(layer, 6, 40, 200)
    hidden = case.mask(1).any(axis=1 if layer == "fc1" else 0)
    assert 0 < hidden.sum() < 200
    case.check_forward(1)
    case.check_backward(1)
    y = ops.band_forward(case.x, case.w, 1)
    dx, dw, _ = ops.band_backward(case.dy, case.x, case.w, 1)
    if layer == "fc1":
        assert not y[:, ~hidden].any()
        assert not dw[~hidden].any()
    else:
        assert not dx[:, ~hidden].any()
        assert not dw[:, ~hidden].any()


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_outside_the_band_are_never_read(layer, precision):
    case = Case(layer, 9, 33, 132, precision)
    poisoned = np.where(case.mask(40), case.w, np.float32(np.nan))
    for M in (3, 9):
        x, dy = case.x[:M], case.dy[:M]
        np.testing.assert_array_equal(
            ops.band_forward(x, poisoned, 40, precision=precision),
            ops.band_forward(x, case.w, 40, precision=precision),
        )
        for poison, plain in zip(
            ops.band_backward(dy, x, poisoned, 40, precision=precision),
            ops.band_backward(dy, x, case.w, 40, precision=precision),
            strict=True,
        ):
            np.testing.assert_array_equal(poison, plain)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize(
    ("M", "C", "H"), [(3, 33, 132), (13, 64, 256), (300, 130, 520), (2600, 20, 80)]
)
def test_any_number_of_threads_gives_the_same_bits(M, C, H, layer, precision):
    case = Case(layer, M, C, H, precision)

    def run(threads):
        options = {"precision": precision, "threads": threads}
        forward = ops.band_forward(case.x, case.w, 100, case.b, case.residual, gelu=True, **options)
        backward = ops.band_backward(
            case.dy, case.x, case.w, 100, activation=case.activation, **options
        )
        return [*forward, *backward]

    once = run(1)
    for threads in (2, 3, 24):
        for first, second in zip(once, run(threads), strict=True):
            np.testing.assert_array_equal(first, second)
