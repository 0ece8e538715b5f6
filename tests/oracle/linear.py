"""Linear layer y = x w^T + b."""


def forward(x, w, b=0.0):
    """x (..., in), w (out, in), b (out,) -> (..., out)."""
    return x @ w.T + b


def backward(dout, x, w):
    """Returns dx (..., in), dw (out, in), db (out,)."""
    rows = dout.reshape(-1, dout.shape[-1])
    return dout @ w, rows.T @ x.reshape(-1, x.shape[-1]), rows.sum(axis=0)
