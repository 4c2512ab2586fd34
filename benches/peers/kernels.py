"""The rows of `cargo bench --bench kernels`, by PyTorch on the CPU, eager and compiled.

    python3 -m venv env && env/bin/pip install torch numpy
    env/bin/python benches/peers/kernels.py [--json] [part of a row's name ...]

Each row at the better of one and all threads; medians of rounds. `torch.compile` needs a C++
compiler and is left out where it fails.
"""

import json
import math
import os
import statistics
import sys
import time

import torch
from torch.nn import functional as f

PRODUCTS = [
    (1, 512, 512), (4, 512, 512), (8, 512, 512), (16, 512, 512), (32, 512, 512), (64, 512, 512),
    (1, 512, 2048), (1, 2048, 512), (32, 512, 2048),
    (1, 4096, 4096), (2, 4096, 4096), (4, 4096, 4096), (8, 4096, 4096), (32, 4096, 4096),
    (64, 64, 64), (256, 256, 256), (1024, 1024, 1024),
]


def mix(x, y):
    x = torch.tanh(x * 0.5)
    x = torch.exp(x + y)
    x = torch.sigmoid(x * 0.25)
    return torch.relu((x - y) * y) + 1.0


def chain(x, y):
    for _ in range(5):
        x = x * y + y
    return x


def rms_norm(x, w):
    return f.rms_norm(x, (x.shape[-1],), w, 1e-5)


def attention(q, k, v, mask):
    return f.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Layer:
    """A layer of MiniLM."""

    def __init__(self):
        linear = lambda a, b: (torch.randn(b, a) * 0.05, torch.randn(b) * 0.1)
        self.own = [linear(384, 384) for _ in range(4)]
        self.up, self.down = linear(384, 1536), linear(1536, 384)
        self.norms = [(torch.randn(384), torch.randn(384)) for _ in range(2)]

    def __call__(self, x, mask):
        batch, length, _ = x.shape
        heads = lambda x: x.view(batch, length, 12, 32).transpose(1, 2)
        q, k, v = (heads(f.linear(x, *w)) for w in self.own[:3])
        y = attention(q, k, v, mask).transpose(1, 2).reshape(batch, length, 384)
        x = f.layer_norm(f.linear(y, *self.own[3]) + x, (384,), *self.norms[0], 1e-12)
        inner = f.gelu(f.linear(x, *self.up))
        return f.layer_norm(f.linear(inner, *self.down) + x, (384,), *self.norms[1], 1e-12)


def cases():
    for size, dims in [("medium", (64, 512)), ("large", (4096, 4096))]:
        x, y, row = torch.randn(dims), torch.randn(dims), torch.randn(dims[1])
        yield f"add_{size}", torch.add, (x, y)
        yield f"mul_{size}", torch.mul, (x, y)
        yield f"broadcast_add_{size}", torch.add, (x, row)
        yield f"exp_{size}", torch.exp, (x,)
        yield f"tanh_{size}", torch.tanh, (x,)
        yield f"silu_{size}", f.silu, (x,)
        yield f"gelu_{size}", lambda x: f.gelu(x, approximate="tanh"), (x,)
        yield f"gelu_erf_{size}", f.gelu, (x,)
        yield f"softmax_{size}", lambda x: torch.softmax(x, -1), (x,)
        yield f"rms_norm_{size}", rms_norm, (x, row)
        yield f"layer_norm_{size}", lambda x, w: f.layer_norm(x, (x.shape[-1],), w, w), (x, row)
        yield f"chain10_{size}", chain, (x, y)
        yield f"chain10_mix_{size}", mix, (x, y)
    for m, k, n in PRODUCTS:
        x, w, t = torch.randn(m, k), torch.randn(k, n), torch.randn(n, k).t()
        yield f"matmul_{m}x{k}x{n}", torch.matmul, (x, w)
        yield f"matmul_t_{m}x{k}x{n}", torch.matmul, (x, t)
    for rows in [1, 8, 32, 64]:
        x, up, down = torch.randn(rows, 512), torch.randn(512, 2048), torch.randn(2048, 512)
        mlp = lambda x, up, down: torch.softmax(f.gelu(x @ up, approximate="tanh") @ down, -1)
        yield f"mlp_b{rows}", mlp, (x, up, down)
    yield "minilm_layer", Layer(), (torch.randn(8, 128, 384), torch.randn(8, 1, 1, 128))
    yield "minilm_layer_b1", Layer(), (torch.randn(1, 32, 384), torch.randn(1, 1, 1, 32))
    for name, (batch, heads, t, s, d) in {
        "attention_prefill": (8, 12, 128, 128, 32),
        "attention_long": (1, 8, 2048, 2048, 64),
        "attention_decode": (1, 32, 1, 1024, 128),
    }.items():
        q, k, v = torch.randn(batch, heads, t, d), *torch.randn(2, batch, heads, s, d)
        yield name, attention, (q, k, v, torch.randn(batch, 1, 1, s))


def microseconds(run, rounds=9):
    run()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < 0.02:
        run()
        calls += 1
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        times.append((time.perf_counter() - start) * 1e6 / calls)
    return statistics.median(times)


def best(run):
    threads = {1, len(os.sched_getaffinity(0))}
    times = []
    for count in threads:
        torch.set_num_threads(count)
        times.append(microseconds(run))
    return min(times)


def main():
    as_json = "--json" in sys.argv
    only = [arg for arg in sys.argv[1:] if not arg.startswith("--")]
    torch.set_grad_enabled(False)
    for what, function, inputs in cases():
        if only and not any(part in what for part in only):
            continue
        contenders = {"torch": function}
        if "large" in what or "mlp" in what or "layer" in what:
            contenders["torch_compile"] = torch.compile(function)
        for contender, function in contenders.items():
            try:
                us = best(lambda: function(*inputs))
            except Exception as error:  # no compiler, say
                print(f"{what} {contender}: {error}", file=sys.stderr)
                continue
            assert math.isfinite(us)
            if as_json:
                print(json.dumps({"what": what, "contender": contender, "us": round(us, 2)}))
            else:
                print(f"{what:24} {contender:14} {us:12.2f} µs", flush=True)


if __name__ == "__main__":
    main()
