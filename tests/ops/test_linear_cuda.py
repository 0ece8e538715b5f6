"""Linear layers on a GPU, dense and as a stored band, against the float64 oracle.

Operands are numbers of bf16, so that in fp32 and bf16 every product is exact and what remains is
the rounding of sums, and of bf16 results. TF32 gets others: its operands are rounded too.
"""

import numpy as np
import pytest
from ops.orders import require_same_bits
from oracle import bf16, compare, gelu, linear

from pyllmc._core import bench, ops
from pyllmc.errors import UsageError

PRECISIONS = ["fp32", "tf32", "bf16"]
# Two operands of ten bits of fraction: own kernels round to them, the library's may cut off the
# rest.
ROUNDED, CUT = 2.0**-10, 2.0**-9
GATE = 2.0**-11  # the hardware's tanh, as bf16's GELU takes it


class Case:
    """Random operands of one layer and what the oracle makes of them. Bandwidth 0 is dense."""

    def __init__(self, layer, M, C, H, bandwidth, precision):
        self.bandwidth, self.precision, self.M = bandwidth, precision, M
        N, K = (H, C) if layer == "fc1" else (C, H)
        rng = np.random.default_rng([M, C, H, bandwidth])
        shapes = [(M, K), (N, K), (N,), (M, N), (M, N), (M, K)]
        draw = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
        if precision != "tf32":
            draw = [bf16.rounded(a).astype(np.float32) for a in draw]
        self.x, self.w, self.b, self.residual, self.dy, self.activation = draw
        j, i = np.arange(H)[:, None], np.arange(C)
        kept = 2 * np.abs(j * C - i * H) <= bandwidth * C if bandwidth else np.ones((H, C), bool)
        self.mask = kept if layer == "fc1" else kept.T
        self.options = {"precision": precision, "device": "cuda"}

    def bound(self, K, of_activations=True, by_library=False):
        """Error allowed to a sum of K products, relative to the sum of their absolute values."""
        tf32 = ROUNDED if self.bandwidth and not by_library else CUT
        rounding = {"fp32": 0, "tf32": tf32, "bf16": bf16.U if of_activations else 0}
        return 2 * compare.product_bound(K) + 1.01 * rounding[self.precision]

    def run_forward(self, *rest, **options):
        if self.bandwidth:
            return ops.band_forward(
                self.x, self.w, self.bandwidth, *rest, **options, **self.options
            )
        return ops.linear_forward(self.x, self.w, *rest, **options, **self.options)

    def run_backward(self, activation=None, **options):
        function = ops.band_backward if self.bandwidth else ops.linear_backward
        return function(
            self.dy, self.x, self.w, self.bandwidth, activation, **options, **self.options
        )

    def check_forward(self, epilogues=True, **options):
        x, w = self.x.astype(np.float64), self.w.astype(np.float64) * self.mask
        K = x.shape[1]
        expected, scale = linear.forward(x, w), linear.forward(np.abs(x), np.abs(w))
        y = self.run_forward(**options)
        assert compare.error(y, expected, scale) <= self.bound(K, **options)
        if not epilogues:
            return
        expected, scale = expected + self.b, scale + np.abs(self.b)
        y, activated = self.run_forward(self.b, gelu=True, **options)
        # Where cuBLASLt has no fused epilogue, a dense product is rounded before it too.
        bound = self.bound(K, **options) + (
            bf16.U if self.precision == "bf16" and not self.bandwidth else 0
        )
        assert compare.error(y, expected, scale) <= bound
        more = bf16.U + GATE if self.precision == "bf16" else 5 * compare.U
        assert compare.error(activated, gelu.forward(expected), scale) <= 1.13 * bound + more
        expected, scale = expected + self.residual, scale + np.abs(self.residual)
        y = self.run_forward(self.b, self.residual, **options)
        assert compare.error(y, expected, scale) <= self.bound(K, False, **options)

    def check_backward(self, epilogues=True, **options):
        x, dy = self.x.astype(np.float64), self.dy.astype(np.float64)
        w = self.w.astype(np.float64) * self.mask
        dx, dw, db = linear.backward(dy, x, w)
        dx_scale, dw_scale, db_scale = linear.backward(np.abs(dy), np.abs(x), np.abs(w))
        actual = self.run_backward(**options)
        assert compare.error(actual[0], dx, dx_scale) <= self.bound(w.shape[0], **options)
        of_sums = self.bound(self.M, False, **options)
        assert compare.error(actual[1], dw * self.mask, dw_scale * self.mask) <= of_sums
        assert compare.error(actual[2], db, db_scale) <= 2 * compare.product_bound(self.M)
        if not epilogues:
            return
        with_gelu = self.run_backward(self.activation, **options)
        activation = self.activation.astype(np.float64)
        more = 12 * GATE + bf16.U if self.precision == "bf16" else 5 * compare.U
        error = compare.error(
            with_gelu[0], gelu.backward(dx, activation), dx_scale * (1 + np.abs(activation))
        )
        assert error <= 1.13 * self.bound(w.shape[0], **options) + more <= 2e-2
        for alone, together in zip(actual[1:], with_gelu[1:], strict=True):
            np.testing.assert_array_equal(alone, together)


@pytest.fixture(autouse=True)
def on_the_gpu(cuda):
    """Everything here runs on it."""


# (M, C, H): few rows, as decoding has; one more; rows, channels and units off every tile's edge.
SHAPES = [(1, 16, 64), (4, 33, 50), (5, 24, 96), (37, 64, 200), (130, 40, 33), (3, 300, 24)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("M", "C", "H"), SHAPES)
def test_dense(M, C, H, precision):
    case = Case("fc1", M, C, H, 0, precision)
    case.check_forward()
    case.check_backward()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_masked_weight_gets_no_gradient_outside_its_pattern(precision):
    case = Case("fc1", 20, 24, 90, 0, precision)
    bandwidth = 30
    _, dense, _ = case.run_backward()
    _, masked, _ = ops.linear_backward(case.dy, case.x, case.w, bandwidth, **case.options)
    mask = Case("fc1", 20, 24, 90, bandwidth, precision).mask
    np.testing.assert_array_equal(masked, np.where(mask, dense, 0))


# (M, C, H, bandwidth). In bf16 the tensor-core kernels take multiples of 8 only: the last shapes
# are for the plain ones.
BANDS = [
    (1, 48, 200, 30),
    (4, 40, 104, 30),
    (5, 16, 520, 6),  # hidden units that no channel reaches
    (70, 48, 192, 40),
    (130, 64, 264, 100),  # several blocks of hidden units, the last one short
    (65, 56, 72, 16),  # H is no multiple of C
    (200, 128, 128, 60),  # windows that move as fast as the tiles
    (40, 400, 800, 700),  # windows beyond what stays in shared memory, in two stretches
    (150, 136, 544, 300),
    (33, 30, 121, 30),
    (20, 33, 132, 13),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize(("M", "C", "H", "bandwidth"), BANDS)
def test_a_stored_band(M, C, H, bandwidth, layer, precision):
    case = Case(layer, M, C, H, bandwidth, precision)
    assert not case.mask.all()
    case.check_forward()
    case.check_backward()


@pytest.mark.parametrize(
    ("layer", "M", "C", "H", "bandwidth"),
    [("fc1", 6500, 640, 640, 40), ("fc1", 2100, 512, 512, 90), ("fc2", 1100, 64, 2048, 200)],
)
def test_tall_blocks_that_walk_down_many_rows(layer, M, C, H, bandwidth):
    """So many rows that blocks are of every height and go through more than one tile of rows."""
    case = Case(layer, M, C, H, bandwidth, "bf16")
    case.check_forward(epilogues=False)
    case.check_backward(epilogues=False)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize(("M", "C", "H", "bandwidth"), [(21, 48, 192, 40), (33, 30, 121, 30)])
def test_the_librarys_batched_products_agree(M, C, H, bandwidth, layer, precision):
    case = Case(layer, M, C, H, bandwidth, precision)
    case.check_forward(by_library=True)
    case.check_backward(by_library=True)


def test_the_library_is_for_bands_on_a_gpu():
    case = Case("fc1", 6, 16, 64, 20, "fp32")
    with pytest.raises(UsageError, match="of a GPU"):
        ops.band_forward(case.x, case.w, 20, by_library=True)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_weights_outside_the_band_are_never_read(layer, precision):
    case = Case(layer, 9, 40, 160, 50, precision)
    poisoned = np.where(case.mask, case.w, np.float32(np.nan))
    for M in (3, 9):
        results = []
        for w in (case.w, poisoned):
            part = Case(layer, 9, 40, 160, 50, precision)
            part.x, part.dy, part.w = case.x[:M], case.dy[:M], w
            results.append([part.run_forward(), *part.run_backward()])
        for plain, poison in zip(*results, strict=True):
            np.testing.assert_array_equal(plain, poison)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
@pytest.mark.parametrize(
    ("M", "C", "H", "bandwidth"),
    [(300, 64, 256, 80), (33, 30, 121, 30), (2, 48, 96, 9), (40, 24, 90, 0)],
)
def test_the_order_of_threads_changes_no_bits(M, C, H, bandwidth, layer, precision, monkeypatch):
    case = Case(layer, M, C, H, bandwidth, precision)

    def run():
        forward = case.run_forward(case.b, gelu=True)
        return [*forward, *case.run_backward(case.activation)]

    require_same_bits(run, monkeypatch)


@pytest.mark.parametrize("execution", ["dense", "band", "library"])
@pytest.mark.parametrize("which", ["fc1", "fc2"])
def test_the_benchmark_times_both_passes(which, execution):
    times = bench.linear_cuda(
        40, 32, 128, which, 40, execution, gelu=which == "fc1", repeats=2, calls=1
    )
    assert len(times["forward"]) == len(times["backward"]) == 2
    assert min(times["forward"] + times["backward"]) > 0


def test_the_benchmark_times_copies():
    times = bench.copy_cuda(1000, repeats=3, calls=2)
    assert len(times) == 3
    assert min(times) > 0
