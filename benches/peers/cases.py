"""The rows of `cargo bench --bench kernels`: their names, and what goes into them.

What an operation is stands in each library's file, as one writes it there. Every process makes the
same numbers, so that results can be compared.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

PRODUCTS = [
    (1, 512, 512), (4, 512, 512), (8, 512, 512), (16, 512, 512), (32, 512, 512), (64, 512, 512),
    (1, 512, 2048), (1, 2048, 512), (32, 512, 2048),
    (1, 4096, 4096), (2, 4096, 4096), (4, 4096, 4096), (8, 4096, 4096), (32, 4096, 4096),
    (64, 64, 64), (256, 256, 256), (1024, 1024, 1024),
]

# batch, heads, queries, keys, size of a head
ATTENTION = {
    "attention_prefill": (8, 12, 128, 128, 32),
    "attention_long": (1, 8, 2048, 2048, 64),
    "attention_decode": (1, 32, 1, 1024, 128),
}

# of a layer of MiniLM
HIDDEN, HEADS, INNER = 384, 12, 1536


@dataclass(frozen=True)
class Case:
    """Inputs change from call to call, weights may be prepared. Both are made when asked for."""

    what: str
    operation: str
    inputs: tuple
    weights: tuple = ()
    dtype: str = "f32"

    def arrays(self):
        """Inputs and weights."""
        return [make() for make in self.inputs], [make() for make in self.weights]

    @property
    def tolerance(self):
        """Of the larger of 1 and the result. Some libraries round halves after each operation."""
        return {"bf16": 6e-2, "f16": 1e-2}.get(self.dtype, 1e-3)


def random(role, *dims, scale=1.0):
    return partial(numbers, role, dims, scale)


@lru_cache(maxsize=12)
def numbers(role, dims, scale):
    """Normal numbers, the same in every process."""
    seed = zlib.crc32(f"{role} {dims}".encode())
    array = np.random.default_rng(seed).standard_normal(dims, dtype=np.float32)
    return array * np.float32(scale)


def elementwise():
    for size, dims in [("medium", (64, 512)), ("large", (4096, 4096))]:
        x, y, row = random("x", *dims), random("y", *dims), random("row", dims[1])
        for operation in ["add", "mul"]:
            yield Case(f"{operation}_{size}", operation, (x, y))
        yield Case(f"broadcast_add_{size}", "add", (x, row))
        for operation in ["exp", "tanh", "silu", "gelu", "gelu_erf", "softmax"]:
            yield Case(f"{operation}_{size}", operation, (x,))
        for operation in ["rms_norm", "layer_norm"]:
            yield Case(f"{operation}_{size}", operation, (x, row))
        for operation in ["chain10", "chain10_mix"]:
            yield Case(f"{operation}_{size}", operation, (x, y))
        for dtype in ["f16", "bf16", "f64"]:
            yield Case(f"chain10_mix_{dtype}_{size}", "chain10_mix", (x, y), dtype=dtype)
            yield Case(f"softmax_{dtype}_{size}", "softmax", (x,), dtype=dtype)


def products():
    for m, k, n in PRODUCTS:
        x = random("x", m, k)
        yield Case(f"matmul_{m}x{k}x{n}", "matmul", (x,), (random("w", k, n),))
        yield Case(f"matmul_t_{m}x{k}x{n}", "matmul_t", (x,), (random("w", n, k),))


def layer(what, batch, length):
    """A layer of MiniLM; weights in pairs: right side, transposed, and bias; then the norms."""
    shapes = [(HIDDEN, HIDDEN)] * 4 + [(INNER, HIDDEN), (HIDDEN, INNER)]
    weights = []
    for at, (rows, columns) in enumerate(shapes):
        weights.append(random(f"w{at}", rows, columns, scale=0.05))
        weights.append(random(f"b{at}", rows, scale=0.1))
    weights += [random(f"norm{at}", HIDDEN) for at in range(4)]
    x, mask = random("x", batch, length, HIDDEN), random("mask", batch, 1, 1, length)
    return Case(what, "minilm_layer", (x, mask), tuple(weights))


def blocks():
    for rows in [1, 8, 32, 64]:
        weights = (random("up", 512, 2048), random("down", 2048, 512))
        yield Case(f"mlp_b{rows}", "mlp", (random("x", rows, 512),), weights)
    yield layer("minilm_layer", 8, 128)
    yield layer("minilm_layer_b1", 1, 32)
    for what, (batch, heads, t, s, d) in ATTENTION.items():
        q = random("q", batch, heads, t, d)
        k, v = random("k", batch, heads, s, d), random("v", batch, heads, s, d)
        yield Case(what, "attention", (q, k, v, random("mask", batch, 1, 1, s)))
    for rows in [1, 32]:
        weights = (random("w", 512, 512), random("a", 512, 8), random("b", 8, 512))
        yield Case(f"lora_b{rows}", "lora", (random("x", rows, 512),), weights)


def cases():
    """All rows, by name."""
    rows = [*elementwise(), *products(), *blocks()]
    return {case.what: case for case in rows}
