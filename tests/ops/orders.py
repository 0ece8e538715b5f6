"""Running a kernel again with its threads and blocks in other orders: races show as other bits."""

import numpy as np

VARIABLE = "PYLLMC_EMULATION_ORDER"  # a GPU ignores it, and orders them as it likes


def require_same_bits(call, monkeypatch):
    """Asserts that a call's arrays do not depend on the order."""
    once = call()
    for order in ("descending", "7"):
        monkeypatch.setenv(VARIABLE, order)
        for first, second in zip(once, call(), strict=True):
            np.testing.assert_array_equal(first, second)
    monkeypatch.delenv(VARIABLE)
