"""GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415), as GPT-2 uses it."""

import numpy as np

SCALE = np.sqrt(2 / np.pi)
CUBIC = 0.044715


def forward(x):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), elementwise."""
    return 0.5 * x * (1 + np.tanh(SCALE * (x + CUBIC * x**3)))


def backward(dout, x):
    """Returns dx."""
    tanh = np.tanh(SCALE * (x + CUBIC * x**3))
    slope = 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * SCALE * (1 + 3 * CUBIC * x**2)
    return dout * slope
