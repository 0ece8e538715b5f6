"""Numerical gradients, to check the oracles' own."""

import numpy as np


def gradient(function, x, step=1e-5):
    """Central differences of function() with respect to every entry of x, which is restored.

    function takes no argument, reads x and returns a number; its error is of order step^2.
    """
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        centre = x[index]
        x[index] = centre + step
        above = function()
        x[index] = centre - step
        below = function()
        x[index] = centre
        result[index] = (above - below) / (2 * step)
    return result
