"""GPT-2 with loss, gradients and training: the other oracles put together.

Parameters are a dict of float64 arrays under llm.c's names, layers stacked in front:
wte (Vp, C), wpe (maxT, C), ln1w ln1b (L, C), qkvw (L, 3C, C), qkvb (L, 3C), attprojw (L, C, C),
attprojb (L, C), ln2w ln2b (L, C), fcw (L, H, C), fcb (L, H), fcprojw (L, C, H), fcprojb (L, C),
lnfw lnfb (C). The head is tied: logits = x wte^T.
"""

from dataclasses import dataclass, field

import numpy as np

from . import adamw, attention, band, cross_entropy, embedding, gelu, layernorm, linear

NAMES = (
    *("wte", "wpe", "ln1w", "ln1b", "qkvw", "qkvb", "attprojw", "attprojb"),
    *("ln2w", "ln2b", "fcw", "fcb", "fcprojw", "fcprojb", "lnfw", "lnfb"),
)
# Weight decay applies to these: one layer's array has two dimensions.
MATRICES = ("wte", "wpe", "qkvw", "attprojw", "fcw", "fcprojw")


@dataclass(frozen=True)
class Training:
    """Settings of a training run; bandwidths on the hidden axis, 0 = dense."""

    steps: int
    learning_rate: float = 3e-4
    fc1_bandwidth: int = 0
    fc2_bandwidth: int = 0
    mask_init: bool = True
    warmup: int = 0
    min_lr: float | None = None
    grad_clip: float = 0.0
    optimizer: adamw.Settings = field(default_factory=adamw.Settings)


class GPT2:
    def __init__(self, parameters, num_heads, vocab_size):
        """Copies the parameters (any float type) to float64."""
        self.parameters = {n: np.array(parameters[n], dtype=np.float64) for n in NAMES}
        self.NH, self.V = num_heads, vocab_size
        self.L = len(self.parameters["fcw"])

    @classmethod
    def from_checkpoint(cls, header, tensors):
        """The model that pyllmc._core.read_checkpoint's answer describes."""
        return cls(tensors, header["num_heads"], header["vocab_size"])

    def forward(self, inputs):
        """inputs (B, T) ints -> logits (B, T, Vp) and what backward needs."""
        p = self.parameters
        x = embedding.forward(inputs, p["wte"], p["wpe"])
        saved = []
        for layer in range(self.L):
            w = {n: p[n][layer] for n in NAMES[2:-2]}
            n1, mean1, rstd1 = layernorm.forward(x, w["ln1w"], w["ln1b"])
            qkv = linear.forward(n1, w["qkvw"], w["qkvb"])
            att, probabilities, _ = attention.forward(qkv, self.NH)
            mid = x + linear.forward(att, w["attprojw"], w["attprojb"])
            n2, mean2, rstd2 = layernorm.forward(mid, w["ln2w"], w["ln2b"])
            hidden = linear.forward(n2, w["fcw"], w["fcb"])
            active = gelu.forward(hidden)
            norms = ((x, mean1, rstd1), (mid, mean2, rstd2))
            saved.append((w, norms, n1, qkv, att, probabilities, n2, hidden, active))
            x = mid + linear.forward(active, w["fcprojw"], w["fcprojb"])
        final, mean, rstd = layernorm.forward(x, p["lnfw"], p["lnfb"])
        return linear.forward(final, p["wte"]), (inputs, saved, (x, mean, rstd), final)

    def backward(self, dlogits, cache):
        """Returns the gradients, a dict like the parameters."""
        inputs, saved, (x, mean, rstd), final = cache
        p = self.parameters
        g = {n: np.zeros_like(p[n]) for n in NAMES}
        dfinal, dwte_head, _ = linear.backward(dlogits, final, p["wte"])
        dx, g["lnfw"], g["lnfb"] = layernorm.backward(dfinal, x, p["lnfw"], mean, rstd)
        for layer in reversed(range(self.L)):
            w, (norm1, norm2), n1, qkv, att, probabilities, n2, hidden, active = saved[layer]
            d = {}
            dactive, d["fcprojw"], d["fcprojb"] = linear.backward(dx, active, w["fcprojw"])
            dhidden = gelu.backward(dactive, hidden)
            dn2, d["fcw"], d["fcb"] = linear.backward(dhidden, n2, w["fcw"])
            dmid, d["ln2w"], d["ln2b"] = layernorm.backward(
                dn2, norm2[0], w["ln2w"], norm2[1], norm2[2]
            )
            dx = dx + dmid
            datt, d["attprojw"], d["attprojb"] = linear.backward(dx, att, w["attprojw"])
            dqkv = attention.backward(datt, qkv, probabilities, self.NH)
            dn1, d["qkvw"], d["qkvb"] = linear.backward(dqkv, n1, w["qkvw"])
            dbefore, d["ln1w"], d["ln1b"] = layernorm.backward(
                dn1, norm1[0], w["ln1w"], norm1[1], norm1[2]
            )
            dx = dx + dbefore
            for name, value in d.items():
                g[name][layer] = value
        dwte, g["wpe"] = embedding.backward(dx, inputs, p["wte"], p["wpe"])
        g["wte"] = dwte + dwte_head
        return g

    def loss(self, inputs, targets):
        """Mean loss in nats over the targets >= 0."""
        total, count = cross_entropy.forward(self.forward(inputs)[0], targets, self.V)
        return total / count

    def loss_and_gradients(self, inputs, targets):
        """Mean loss over the targets >= 0, and its gradients."""
        return self.accumulate([(inputs, targets)])

    def accumulate(self, batches):
        """Mean loss over all targets >= 0 of several (inputs, targets), and its gradients."""
        scale = 1 / sum(int((targets >= 0).sum()) for _, targets in batches)
        loss, gradients = 0.0, {n: np.zeros_like(p) for n, p in self.parameters.items()}
        for inputs, targets in batches:
            logits, cache = self.forward(inputs)
            loss += cross_entropy.forward(logits, targets, self.V)[0] * scale
            dlogits = cross_entropy.backward(logits, targets, self.V, scale)
            for name, gradient in self.backward(dlogits, cache).items():
                gradients[name] += gradient
        return loss, gradients

    def masks(self, training):
        """Masks of fcw and fcprojw; a dense one is left out."""
        H, C = self.parameters["fcw"].shape[1:]
        masks = {}
        if training.fc1_bandwidth:
            masks["fcw"] = band.fc1_mask(H, C, training.fc1_bandwidth)
        if training.fc2_bandwidth:
            masks["fcprojw"] = band.fc2_mask(C, H, training.fc2_bandwidth)
        return masks

    def train(self, batches, training):
        """Trains in place; batches[s] lists the (inputs, targets) accumulated in update s.

        With mask_init the initial weights are masked, else the first forward and backward see them
        dense. The gradient norm is taken after masking and before clipping.
        Returns losses, gradient norms, learning rates (one an update) and the moments m and v.
        """
        masks = self.masks(training)
        if training.mask_init:
            for name, mask in masks.items():
                self.parameters[name] *= mask
        m = {n: np.zeros_like(p) for n, p in self.parameters.items()}
        v = {n: np.zeros_like(p) for n, p in self.parameters.items()}
        losses, norms, rates = [], [], []
        for step in range(training.steps):
            loss, gradients = self.accumulate(batches[step])
            for name, mask in masks.items():
                gradients[name] *= mask
            norm = adamw.global_norm(gradients)
            scale = adamw.clip_scale(norm, training.grad_clip)
            for gradient in gradients.values():
                gradient *= scale
            lr = adamw.learning_rate(
                step, training.learning_rate, training.warmup, training.min_lr, training.steps
            )
            adamw.update(
                self.parameters, gradients, m, v, step, lr, training.optimizer, MATRICES, masks
            )
            losses.append(loss)
            norms.append(norm)
            rates.append(lr)
        return losses, norms, rates, m, v


def by_layer(stacked):
    """A dict like the parameters under the core's names: h.<layer>.<name> for what is per layer."""
    split = {}
    for name, array in stacked.items():
        if name in NAMES[2:-2]:
            split |= {f"h.{layer}.{name}": array[layer] for layer in range(len(array))}
        else:
            split[name] = array
    return split


def random_parameters(C, L, maxT, Vp, seed, H=None):
    """Float32 parameters with every entry random, so that each one's gradient is tested.

    Padded rows of wte are random too: they must have no effect on the loss.
    """
    H = 4 * C if H is None else H
    rng = np.random.default_rng(seed)
    shapes = {
        "wte": (Vp, C),
        "wpe": (maxT, C),
        "qkvw": (L, 3 * C, C),
        "qkvb": (L, 3 * C),
        "attprojw": (L, C, C),
        "attprojb": (L, C),
        "fcw": (L, H, C),
        "fcb": (L, H),
        "fcprojw": (L, C, H),
        "fcprojb": (L, C),
    }
    parameters = {}
    for name in NAMES:
        if name.startswith("ln"):
            shape = (C,) if name.startswith("lnf") else (L, C)
            drawn = (name[-1] == "w") + 0.1 * rng.standard_normal(shape)
        else:
            drawn = 0.1 * rng.standard_normal(shapes[name])
        parameters[name] = drawn.astype(np.float32)
    return parameters
