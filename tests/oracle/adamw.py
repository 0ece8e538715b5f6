"""AdamW with decoupled weight decay, masks, global-norm clipping and learning-rate schedules.

Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2; eps is added outside the square root.
Parameters, gradients and moments are dicts of arrays by name; a mask is looked up by the same name
and a name without one is dense.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Settings:
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


def global_norm(gradients):
    """The Euclidean norm of all gradients together."""
    return math.sqrt(sum(float((g * g).sum()) for g in gradients.values()))


def clip_scale(norm, clip):
    """clip / norm when the norm exceeds clip, else 1; clip 0 means no clipping."""
    return clip / norm if clip > 0 and norm > clip else 1.0


def learning_rate(step, lr, warmup=0, min_lr=None, steps=0):
    """Learning rate of update `step` (from 0) of `steps`.

    Linear over the first `warmup` updates, lr (step+1) / warmup; then constant, or, with min_lr,
    a cosine that would reach min_lr at update `steps`.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    if min_lr is None:
        return lr
    progress = (step - warmup) / (steps - warmup)
    return min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * progress))


def update(parameters, gradients, m, v, step, lr, settings, decayed=(), masks=None):
    """One update, in place; t = step + 1 in the bias corrections.

    `decayed` names the parameters that weight decay applies to. Outside a mask the gradient counts
    as 0, so the moments stay 0 there, and the updated parameter is set to 0.
    """
    t = step + 1
    for name, parameter in parameters.items():
        mask = (masks or {}).get(name, 1.0)
        gradient = gradients[name] * mask
        m[name] = settings.beta1 * m[name] + (1 - settings.beta1) * gradient
        v[name] = settings.beta2 * v[name] + (1 - settings.beta2) * gradient**2
        m_hat = m[name] / (1 - settings.beta1**t)
        v_hat = v[name] / (1 - settings.beta2**t)
        decay = settings.weight_decay if name in decayed else 0.0
        parameter -= lr * (m_hat / (np.sqrt(v_hat) + settings.eps) + decay * parameter)
        parameter *= mask
