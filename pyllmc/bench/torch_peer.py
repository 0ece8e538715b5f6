# mypy: ignore-errors
"""PyTorch's side of the benchmarks: run as a script by any interpreter that has torch.

Reads one JSON request a line from stdin and answers each with one JSON line. {"do": "prepare", ...}
builds what is to be timed and runs it until it is warm, {"do": "round", "id": ...} times it. The
model is a GPT-2 as anyone would write it: nn.Linear, scaled_dot_product_attention, tied head,
AdamW.
"""

from __future__ import annotations

import sys

# The script's own folder, whose modules torch must not take for others of their names.
sys.path.pop(0)

import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.qkv, self.out = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.fc1, self.fc2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.heads, c // self.heads).transpose(1, 2)
            for part in self.qkv(self.ln1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.fc2(F.gelu(self.fc1(self.ln2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, channels, layers, heads, vocab, sequence_length, **_):
        super().__init__()
        self.wte = nn.Embedding(vocab, channels)
        self.wpe = nn.Embedding(sequence_length, channels)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(channels)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def autocast(precision):
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def step(mode, precision, shape, **_):
    model = Gpt2(**shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0, fused=True)
    run = torch.compile(model) if mode == "compiled" else model
    size = (shape["batch_size"], shape["sequence_length"] + 1)
    data = torch.randint(0, shape["vocab"], size)
    tokens, targets = data[:, :-1].contiguous(), data[:, 1:].contiguous()

    def once():
        with autocast(precision):
            loss = run(tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return once


def linear(precision, M, channels, hidden, which, **_):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    inputs, outputs = (channels, hidden) if which == "fc1" else (hidden, channels)
    layer = nn.Linear(inputs, outputs, dtype=dtype)
    x = torch.randn(M, inputs, dtype=dtype, requires_grad=True)
    dy = torch.randn(M, outputs, dtype=dtype)

    def once():
        x.grad = None
        layer(x).backward(dy)

    return once


def loss(mode, precision, M, channels, vocab, **_):
    wte = nn.Parameter(0.02 * torch.randn(vocab, channels))
    x = torch.randn(M, channels, requires_grad=True)
    targets = torch.randint(0, vocab, (M,))

    def head(x, wte, targets):
        return F.cross_entropy(F.linear(x, wte), targets)

    run = torch.compile(head) if mode == "compiled" else head

    def once():
        x.grad = wte.grad = None
        with autocast(precision):
            value = run(x, wte, targets)
        value.backward()

    return once


KINDS = {"step": step, "linear": linear, "loss": loss}


def reset_peak_memory():
    """From here on the peak is that of the timed work, not of compiling it (Linux only)."""
    try:
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")
    except OSError:
        pass


def peak_memory():
    try:
        with open("/proc/self/status") as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith("VmHWM")) << 10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main():
    ready = []
    torch.manual_seed(0)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "prepare":
            torch.set_num_threads(request["threads"])
            once = KINDS[request["kind"]](**request)
            for _ in range(3):
                once()
            ready.append(once)
            reset_peak_memory()
            answer = {"id": len(ready) - 1, "torch": torch.__version__}
        else:
            once, times = ready[request["id"]], []
            once()
            for _ in range(request["repeats"]):
                start = time.perf_counter()
                once()
                times.append(time.perf_counter() - start)
            answer = {"seconds": statistics.median(times), "peak_memory": peak_memory()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
