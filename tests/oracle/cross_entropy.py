"""Softmax cross entropy over the V real entries of padded logits."""

import numpy as np


def forward(logits, targets, V):
    """logits (..., Vp), targets (...) ints -> (sum of losses in nats, count).

    A negative target is ignored: it adds to neither. Entries V..Vp of the logits take no part.
    """
    kept = targets >= 0
    log_p = _log_softmax(logits[kept][:, :V])
    return -log_p[np.arange(len(log_p)), targets[kept]].sum(), int(kept.sum())


def backward(logits, targets, V, scale):
    """Returns dlogits (..., Vp), the gradient of scale * sum; 0 at ignored targets and past V."""
    kept = targets >= 0
    p = np.exp(_log_softmax(logits[kept][:, :V]))
    p[np.arange(len(p)), targets[kept]] -= 1
    rows = np.zeros((len(p), logits.shape[-1]))
    rows[:, :V] = scale * p
    dlogits = np.zeros_like(logits)
    dlogits[kept] = rows
    return dlogits


def _log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
