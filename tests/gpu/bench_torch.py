# mypy: ignore-errors
"""PyTorch on the same GPU and shapes: compiled, with the whole step in one CUDA graph; plain cuBLAS
for the linear layer. The model is that of pyllmc/bench/torch_peer.py.

The argument: `compile` fills PyTorch's caches, `torch` measures, `autotune` measures the slower
compilation that tries more kernels.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch
from shapes import LINEAR_CHANNELS, LINEAR_ROWS, ROUND_VOCAB, SHAPES, timed

PEER = Path(__file__).resolve().parents[2] / "pyllmc" / "bench" / "torch_peer.py"
SMALL, MIDDLE, LARGE = SHAPES
# Shape, precision, vocabulary of the model; what matters most first.
RUNS = [
    (SMALL, "bf16", ROUND_VOCAB),
    (LARGE, "bf16", ROUND_VOCAB),
    (MIDDLE, "bf16", ROUND_VOCAB),
    (SMALL, "bf16", SHAPES[SMALL][3]),
    (SMALL, "tf32", ROUND_VOCAB),
]
# With "default" the step is recorded here, with the others by PyTorch.
MODES = {"torch": ["default", "reduce-overhead"], "autotune": ["max-autotune"]}
MODES["compile"] = MODES["torch"]


def peer_module():
    sys.path.insert(0, "")  # the script takes the first entry away
    spec = importlib.util.spec_from_file_location("torch_peer", PEER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tell(name, result, **more):
    print(json.dumps({"name": name, **result, **more, "torch": torch.__version__}), flush=True)


class Step:
    """Forward, backward and AdamW of one batch, by a compiled model."""

    def __init__(self, gpt2, shape, precision, vocab, mode):
        channels, layers, heads, tokens, batch, length = SHAPES[shape]
        self.model = gpt2(channels, layers, heads, vocab, length).cuda()
        self.bf16 = precision == "bf16"
        self.run = torch.compile(self.model, mode=mode)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=3e-4, weight_decay=0.0, fused=True, capturable=True
        )
        data = torch.randint(0, tokens, (batch, length + 1), device="cuda")
        self.tokens, self.targets = data[:, :-1].contiguous(), data[:, 1:].contiguous()

    def once(self):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bf16):
            loss = self.run(self.tokens, self.targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def recorded(self):
        """once(), captured in one CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.once()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.once()
        return graph.replay


def waiting(call):
    def once():
        call()
        torch.cuda.synchronize()

    return once


def step(gpt2, shape, precision, vocab, mode, only_compile):
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    name = f"torch {shape} {precision} {mode} V={vocab}"
    one = None
    try:
        one = Step(gpt2, shape, precision, vocab, mode)
        if only_compile:
            waiting(one.once)()
            print(f"compiled {name}", flush=True)
        else:
            call = one.recorded() if mode == "default" else one.once
            tell(name, timed(waiting(call), 2.0))
    except Exception as error:  # the others are measured all the same
        print(f"no {name}: {type(error).__name__}: {error}", flush=True)
    del one
    torch._dynamo.reset()
    torch.cuda.empty_cache()


def linear():
    """y = x w^T + b, dx = dy w, dw = dy^T x and db by cuBLAS, recorded ten times."""
    for which, inputs, outputs in (
        ("fc1", LINEAR_CHANNELS, 4 * LINEAR_CHANNELS),
        ("fc2", 4 * LINEAR_CHANNELS, LINEAR_CHANNELS),
    ):
        make = {"device": "cuda", "dtype": torch.bfloat16}
        x, w = torch.randn(LINEAR_ROWS, inputs, **make), torch.randn(outputs, inputs, **make)
        dy, b = torch.randn(LINEAR_ROWS, outputs, **make), torch.randn(outputs, **make)

        def once(x=x, w=w, dy=dy, b=b):
            torch.nn.functional.linear(x, w, b)
            return dy @ w, dy.T @ x, dy.sum(0)

        once()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(10):
                once()
        result = timed(waiting(graph.replay), 0.5)
        result = {key: result[key] / 10 for key in ("ms", "ms_90")}
        tell(f"{which} C={LINEAR_CHANNELS} M={LINEAR_ROWS} bf16 dense by torch", result)


def main():
    todo = sys.argv[1]
    torch.manual_seed(0)
    gpt2 = peer_module().Gpt2
    if todo == "torch":
        linear()
    for mode in MODES[todo]:
        for shape, precision, vocab in RUNS:
            if mode == "default" or (precision, vocab) == ("bf16", ROUND_VOCAB):
                step(gpt2, shape, precision, vocab, mode, todo == "compile")


if __name__ == "__main__":
    main()
