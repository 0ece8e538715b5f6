"""Products on every instruction set that this processor has, against the oracle; bf16 to the bit.

PYLLMC_ISA chooses the tiles of products. The loader chooses among the versions of all other kernels
(softmax, LayerNorm, AdamW, exp): `make processor-check` runs those that it leaves out here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracle import bf16, compare, cross_entropy, linear

# The instruction set is chosen once a process, so each has a process of its own.
CHILD = """
import sys
import numpy as np
from pyllmc._core import ops
given = dict(np.load(sys.argv[1]))
out = {}
for precision in ("fp32", "bf16"):
    for M in (3, 5, 29):
        x, dy, targets = given["x"][:M], given["dy"][:M], given["targets"][:M]
        w = given["w"]
        for name, band, forward, backward in (
            ("dense", (), ops.linear_forward, ops.linear_backward),
            ("banded", (60,), ops.band_forward, ops.band_backward),
        ):
            key = f"{precision}-{M}-{name}"
            out[key + "-y"] = forward(x, w, *band, precision=precision)
            out[key + "-dx"], out[key + "-dw"], _ = backward(dy, x, w, *band, precision=precision)
        head = ops.classifier(x, w, targets, len(w) - 3, precision=precision)
        for part, value in zip(("loss", "count", "dx", "dw"), head):
            out[f"{precision}-{M}-head-{part}"] = value
np.savez(sys.argv[2], **out)
"""
C, H = 37, 150  # odd pairs, ragged panels of every width
ISAS = ["plain", "avx2", "avx512", "best"]


def draw() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    shapes = {"x": (29, C), "w": (H, C), "dy": (29, H)}
    arrays = {name: rng.standard_normal(s, dtype=np.float32) for name, s in shapes.items()}
    return arrays | {"targets": rng.integers(-1, H - 3, 29, dtype=np.int32)}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    folder: Path = tmp_path_factory.mktemp("isa")
    np.savez(folder / "in.npz", **draw())
    found = {}
    for isa in ISAS:
        environment = {k: v for k, v in os.environ.items() if k != "PYLLMC_ISA"}
        if isa != "best":
            environment["PYLLMC_ISA"] = isa
        out = folder / f"{isa}.npz"
        subprocess.run(
            [sys.executable, "-c", CHILD, str(folder / "in.npz"), str(out)],
            env=environment, check=True, timeout=60,
        )  # fmt: skip
        found[isa] = dict(np.load(out))
    return found


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("M", [3, 5, 29])
def test_products(M, precision, isa, outputs):
    given = draw()
    j, i = np.arange(H)[:, None], np.arange(C)
    masks = {"dense": np.ones((H, C)), "banded": 2 * np.abs(j * C - i * H) <= 60 * C}
    rounded = bf16.rounded if precision == "bf16" else np.float64
    for name, mask in masks.items():
        x, w, dy = (rounded(a) for a in (given["x"][:M], given["w"], given["dy"][:M]))
        found = {part: outputs[isa][f"{precision}-{M}-{name}-{part}"] for part in ("y", "dx", "dw")}
        w = w * mask
        dx, dw, _ = linear.backward(dy, x, w)
        dx_scale, dw_scale, _ = linear.backward(np.abs(dy), np.abs(x), np.abs(w))
        assert compare.error(found["dx"], dx, dx_scale) <= compare.product_bound(H)
        assert compare.error(found["dw"], dw * mask, dw_scale * mask) <= compare.product_bound(M)
        if M <= 4:  # a handful of rows keeps its fp32 operands
            x, w = given["x"][:M].astype(np.float64), given["w"].astype(np.float64) * mask
        y, scale = linear.forward(x, w), linear.forward(np.abs(x), np.abs(w))
        assert compare.error(found["y"], y, scale) <= compare.product_bound(C)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("M", [3, 5, 29])
def test_head(M, precision, isa, outputs):
    given = draw()
    rounded = bf16.rounded if precision == "bf16" else np.float64
    x, w, targets = rounded(given["x"][:M]), rounded(given["w"]), given["targets"][:M]
    logits = linear.forward(x, w)
    total, count = cross_entropy.forward(logits, targets, H - 3)
    dlogits = cross_entropy.backward(logits, targets, H - 3, 1.0)
    dx, dw, _ = linear.backward(dlogits, x, w)
    found = {p: outputs[isa][f"{precision}-{M}-head-{p}"] for p in ("loss", "count", "dx", "dw")}
    assert found["count"] == count
    assert found["loss"] == pytest.approx(total, rel=1e-5)
    scales = np.abs(dlogits)
    scales[targets >= 0, targets[targets >= 0]] = 1
    dx_scale, dw_scale, _ = linear.backward(scales, np.abs(x), np.abs(w))
    bound = 1e-5 + (bf16.U if precision == "bf16" else 0)
    assert compare.error(found["dx"], dx, dx_scale) <= bound
    assert compare.error(found["dw"], dw, dw_scale) <= bound


@pytest.mark.parametrize("isa", ISAS[:-1])
def test_bf16_products_have_the_same_bits_on_every_instruction_set(isa, outputs):
    """Products of bf16 are exact in fp32 and are added in one order, natively or not."""
    for kind in ("dense", "banded"):
        for part in ("y", "dx", "dw"):
            for M in (5, 29):
                name = f"bf16-{M}-{kind}-{part}"
                np.testing.assert_array_equal(outputs[isa][name], outputs["best"][name], name)


def test_an_unknown_set_is_refused():
    code = "from pyllmc._core import ops; ops.linear_forward([[1.0]] * 5, [[1.0]])"
    child = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYLLMC_ISA": "sse9"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert child.returncode == 1
    assert "UsageError: PYLLMC_ISA is 'sse9': set it to avx512, avx2 or plain" in child.stderr


def test_the_environment_chooses(outputs):
    """A fused multiply-add rounds once, the plain set's product and sum twice."""
    processor = Path("/proc/cpuinfo")
    if not processor.exists() or " avx2 " not in processor.read_text():
        pytest.skip("this processor has no AVX2 to leave out")
    name = "fp32-29-dense-y"
    assert (outputs["plain"][name] != outputs["avx2"][name]).any()
