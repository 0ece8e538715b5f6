"""Both matrix multiplications, the library's and the built-in one, against float64."""

import os
import subprocess
import sys

import numpy as np
import pytest
from oracle import compare

from pyllmc import _core
from pyllmc._core import ops

# Around the built-in kernel's panels of 32 columns and 256 deep.
SHAPES = [(1, 1, 1), (3, 5, 2), (17, 31, 33), (64, 32, 256), (33, 65, 257), (5, 130, 600)]


@pytest.mark.parametrize("multiply", [ops.gemm, ops.gemm_builtin], ids=["library", "builtin"])
@pytest.mark.parametrize("trans_b", [False, True], ids=["b", "bT"])
@pytest.mark.parametrize("trans_a", [False, True], ids=["a", "aT"])
@pytest.mark.parametrize(("M", "N", "K"), SHAPES, ids=[f"M{M}-N{N}-K{K}" for M, N, K in SHAPES])
def test_product(M, N, K, trans_a, trans_b, multiply):
    rng = np.random.default_rng(M + N + K)
    a = rng.standard_normal((K, M) if trans_a else (M, K), dtype=np.float32)
    b = rng.standard_normal((N, K) if trans_b else (K, N), dtype=np.float32)
    a64 = (a.T if trans_a else a).astype(np.float64)
    b64 = (b.T if trans_b else b).astype(np.float64)
    actual = multiply(a, b, trans_a, trans_b)
    scale = np.abs(a64) @ np.abs(b64)
    assert compare.error(actual, a64 @ b64, scale) <= compare.product_bound(K)


def test_builtin_kernel_can_be_asked_for():
    """On request the library is not used, and the result is the built-in kernel's, bit for bit."""
    script = (
        "import numpy as np\n"
        "from pyllmc import _core\n"
        "a = np.random.default_rng(0).standard_normal((40, 50), dtype=np.float32)\n"
        "same = (_core.ops.gemm(a, a.T) == _core.ops.gemm_builtin(a, a.T)).all()\n"
        "print(_core.build_info()['gemm'], same)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYLLMC_GEMM": "builtin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["built-in", "True"]


def test_build_info_names_the_library():
    info = _core.build_info()
    assert info["gemm"] == "built-in" or os.path.exists(info["gemm_path"])
