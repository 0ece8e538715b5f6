"""The emulation of CUDA that the other tests of kernels rest on."""

import subprocess


def test_it_does_what_hardware_does_and_refuses_what_hardware_would_punish(emulation):
    done = subprocess.run([emulation / "test_emulation"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
