"""A batch that memory does not suffice for is refused, and the model goes on with others."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from oracle.inputs import Shape, write_model

SHAPE = Shape(B=2, T=16, C=32, L=2, NH=2, V=61, Vp=64, max_T=16)
CHILD = """
import json, resource, sys
import numpy as np
from pyllmc._core import Model
from pyllmc.errors import UsageError

model = Model(sys.argv[1], gradients=True)
few, many = (np.ones((B, 16), np.int32) for B in (2, 50000))
call = getattr(model, sys.argv[2])
before = call(few, few)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
try:
    refused = call(many, many)
except UsageError as error:
    refused = str(error)
after = call(few, few)
print(json.dumps([before[:2], refused, after[:2]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much is in use")
@pytest.mark.parametrize("call", ["loss", "loss_and_gradients"])
def test_a_model_outlives_a_batch_that_does_not_fit(call, tmp_path):
    write_model(tmp_path / "model.bin", SHAPE)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "model.bin"), call],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    before, refused, after = json.loads(done.stdout)
    assert refused.startswith("cannot allocate ")
    assert after == before
