#!/usr/bin/env python3
"""Makes vectors.safetensors: inputs and results that neither Candle nor candlewick computed.

Needs numpy, scipy and safetensors (made with numpy 2.4, scipy 1.17, safetensors 0.8). Results are
computed in float64 from the float32 inputs and rounded once; integers are exact. The names are
`case/input` and `case/expected`; tests/reference.rs has one entry for each case.
"""
import pathlib

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import save_file
from scipy import special

rng = np.random.default_rng(20)
tensors = {}


def f32(x):
    return np.ascontiguousarray(np.asarray(x, dtype=np.float32))


def case(name, expected, **inputs):
    for key, value in {**inputs, "expected": expected}.items():
        value = np.asarray(value)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        tensors[f"{name}/{key}"] = np.ascontiguousarray(value)


def wide(x):
    return np.asarray(x, dtype=np.float64)


INF, NAN = np.inf, np.nan
TINY = np.float32(1e-45)
EDGES = f32([0.0, -0.0, TINY, -TINY, 1e-38, -1e-38, 1e-20, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.5, -2.5, 9.5, -9.5,
             20.0, -20.0, 88.0, -88.0, 3e38, -3e38, INF, -INF, NAN])
TAILS = f32(np.concatenate([EDGES, np.linspace(-10, 10, 201), rng.normal(0, 1e-3, 32)]))


def unary(name, x, f):
    with np.errstate(all="ignore"):
        case(name, f(wide(x)), x=x)


# functions of one number
unary("exp", f32(np.concatenate([EDGES, np.linspace(-104, 89, 300)])), np.exp)
unary("log", f32(np.concatenate([EDGES, np.geomspace(1e-44, 3e38, 300)])), np.log)
unary("sin", f32(np.concatenate([EDGES[:-8], np.linspace(-300, 300, 300), [1e5, 1e8, 3e38]])), np.sin)
unary("cos", f32(np.concatenate([EDGES[:-8], np.linspace(-300, 300, 300), [1e5, 1e8, 3e38]])), np.cos)
unary("tanh", TAILS, np.tanh)
unary("erf", TAILS, special.erf)
unary("sigmoid", TAILS, special.expit)
FINITE = TAILS[np.isfinite(TAILS)]
unary("silu", FINITE, lambda x: x * special.expit(x))
unary("gelu", FINITE[np.abs(FINITE) < 1e10],
      lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
unary("gelu_erf", FINITE, lambda x: 0.5 * x * (1 + special.erf(x / np.sqrt(2))))
unary("elu", TAILS, lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)))
unary("relu", TAILS[~np.isnan(TAILS)], lambda x: np.maximum(x, 0))
unary("sqrt", TAILS, np.sqrt)
unary("recip", TAILS, lambda x: 1 / x)
unary("sign", TAILS[~np.isnan(TAILS)], np.sign)
unary("floor", TAILS, np.floor)
unary("ceil", TAILS, np.ceil)
# half away from zero, as C's round
unary("round", TAILS, lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x))
unary("powf", f32(np.concatenate([EDGES, np.linspace(0.01, 30, 100)])), lambda x: np.power(x, 2.5))
unary("clamp", TAILS[~np.isnan(TAILS)], lambda x: np.clip(x, -1.25, 3.0))

# two operands
a, b = f32(rng.normal(size=(5, 1, 4))), f32(rng.normal(size=(3, 4)))
case("broadcast_sub", wide(a) - wide(b), x=a, y=b)
case("broadcast_div", wide(a) / wide(b), x=a, y=b)
case("maximum", np.maximum(a[:, 0], b[0]), x=f32(a[:, 0]), y=f32(np.broadcast_to(b[0], (5, 4))))
i, j = rng.integers(-9, 9, (4, 6)), rng.integers(1, 5, (4, 6))
case("int_div", np.trunc(i / j).astype(np.int64), x=i, y=j)  # towards zero, as in C
case("lt", (i < j).astype(np.uint8), x=i, y=j)
case("where_cond", np.where(i > 0, 1.5 * i, -1.0 * j), c=(i > 0).astype(np.uint8), x=f32(1.5 * i), y=f32(-1.0 * j))

# rows
big = f32(rng.normal(0, 3, (6, 33)) + 1000)
masked = f32(rng.normal(0, 2, (5, 17)))
masked[:, ::3] = -INF
for name, x, axis in [("softmax_offset", big, 1), ("softmax_masked", masked, 1),
                      ("softmax_middle", f32(rng.normal(0, 2, (3, 7, 5))), 1)]:
    case(name, special.softmax(wide(x), axis=axis), x=x)
case("log_softmax", special.log_softmax(wide(big), axis=1), x=big)


def norms(x, alpha, beta, eps):
    x, alpha, beta = wide(x), wide(alpha), wide(beta)
    centered = x - x.mean(-1, keepdims=True)
    layer = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + eps) * alpha + beta
    rms = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * alpha
    return layer, rms


alpha, beta = f32(rng.normal(1, 0.2, 65)), f32(rng.normal(0, 0.2, 65))
for name, mean in [("", 0.0), ("_far", 300.0)]:
    x = f32(rng.normal(mean, 1, (4, 65)))
    layer, rms = norms(x, alpha, beta, 1e-5)
    case(f"layer_norm{name}", layer, x=x, alpha=alpha, beta=beta)
    case(f"rms_norm{name}", rms, x=x, alpha=alpha)
x = f32(rng.normal(5, 2, (4, 3, 6)))
case("var", wide(x).var(1, ddof=1), x=x)
case("mean", wide(x).mean((0, 2)), x=x)
case("sum_keepdim", wide(x).sum(1, keepdims=True), x=x)
case("max", x.max(2), x=x)
case("min_keepdim", x.min(0, keepdims=True), x=x)
ties = rng.integers(0, 4, (5, 9)).astype(np.float32)
case("argmax", ties.argmax(1).astype(np.uint32), x=ties)
case("argmin", ties.argmin(0).astype(np.uint32), x=ties)
distinct = f32(rng.permutation(40).reshape(4, 10))
case("argsort", distinct.argsort(1).astype(np.uint32), x=distinct)

# products
x, y = f32(rng.normal(size=(3, 1, 5, 7))), f32(rng.normal(size=(2, 7, 4)))
case("broadcast_matmul", wide(x) @ wide(y), x=x, y=y)
x, y = f32(rng.normal(size=(6, 5))), f32(rng.normal(size=(6, 4)))
case("matmul_transposed", wide(x).T @ wide(y), x=x, y=y)
x, y, z = f32(rng.normal(size=(4, 32))), f32(rng.normal(size=(32, 4))), f32(rng.normal(size=(4, 24)))
case("lora", 0.5 * (wide(x) @ wide(y) @ wide(z)), x=x, a=y, b=z)

# windows
x, k = f32(rng.normal(size=(2, 4, 9, 8))), f32(rng.normal(size=(6, 2, 3, 2)))


def conv2d(x, k, padding, stride, dilation, groups):
    x = np.pad(wide(x), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    k = wide(k)
    high, width = (dilation * (n - 1) + 1 for n in k.shape[2:])
    windows = sliding_window_view(x, (high, width), (2, 3))[:, :, ::stride, ::stride, ::dilation, ::dilation]
    inner, outer = k.shape[1], k.shape[0] // groups
    parts = [np.einsum("bchwij,ocij->bohw", windows[:, g * inner:(g + 1) * inner], k[g * outer:(g + 1) * outer])
             for g in range(groups)]
    return np.concatenate(parts, 1)


case("conv2d", conv2d(x, k, 1, 2, 1, 2), x=x, k=k)
case("conv2d_dilated", conv2d(x, k, 2, 1, 2, 2), x=x, k=k)
x1, k1 = f32(rng.normal(size=(2, 3, 11))), f32(rng.normal(size=(4, 3, 3)))
pad = np.pad(wide(x1), ((0, 0), (0, 0), (1, 1)))
case("conv1d", np.einsum("bcwi,oci->bow", sliding_window_view(pad, 3, 2)[:, :, ::2], wide(k1)), x=x1, k=k1)
pool = sliding_window_view(wide(x), (3, 2), (2, 3))[:, :, ::2, ::2]
case("max_pool2d", pool.max((4, 5)), x=x)
case("avg_pool2d", pool.mean((4, 5)), x=x)
rows, columns = np.arange(18) * 9 // 18, np.arange(12) * 8 // 12
case("upsample_nearest2d", x[:, :, rows][:, :, :, columns], x=x)

# by index
table, ids = f32(rng.normal(size=(7, 5))), rng.integers(0, 7, (2, 3)).astype(np.uint32)
flat = ids.reshape(-1)
case("embedding", table[flat], table=table, ids=flat)
case("index_select", table.T[:, flat], x=f32(table.T), ids=flat)
picks = rng.integers(0, 5, (7, 3)).astype(np.uint32)
case("gather", np.take_along_axis(table, picks.astype(np.int64), 1), x=table, ids=picks)
source = f32(rng.normal(size=(7, 3)))
added = wide(table)
for r in range(7):
    for c in range(3):
        added[r, picks[r, c]] += wide(source)[r, c]
case("scatter_add", added, x=table, ids=picks, source=source)
added = wide(table)
np.add.at(added, flat, wide(f32(np.ones((6, 5)))))
case("index_add", added, x=table, ids=flat)

# rotary embedding
x = f32(rng.normal(size=(1, 2, 5, 8)))
angles = np.outer(np.arange(5), 10000.0 ** (-np.arange(4) / 4))
cos, sin = f32(np.cos(angles)), f32(np.sin(angles))
c, s, h = wide(cos), wide(sin), wide(x)
case("rope", np.concatenate([h[..., :4] * c - h[..., 4:] * s, h[..., :4] * s + h[..., 4:] * c], -1), x=x, cos=cos, sin=sin)
even, odd = h[..., ::2], h[..., 1::2]
case("rope_i", np.stack([even * c - odd * s, even * s + odd * c], -1).reshape(x.shape), x=x, cos=cos, sin=sin)

# casts: as Rust and as C23, towards zero and saturating; NumPy leaves what does not fit undefined
x = f32([-3.7, -1.0, -0.5, 0.0, 0.5, 1.5, 2.5, 127.9, 254.99, 255.0, 300.0, -1e9, 1e9])
case("to_u8", np.clip(np.trunc(wide(x)), 0, 255).astype(np.uint8), x=x)
case("to_i64", np.trunc(wide(x)).astype(np.int64), x=x)
x = f32(np.concatenate([rng.normal(0, 100, 60), [65504.0, 65519.9, 65520.0, 6e-8, 2.9e-8, 2049.0, 2051.0]]))
with np.errstate(over="ignore"):
    case("to_f16", x.astype(np.float16).astype(np.float32), x=x)

# moving
x = f32(rng.normal(size=(3, 4, 5)))
case("permute", x.transpose(2, 0, 1), x=x)
case("narrow_cat", np.concatenate([x[:, 1:3], x[:, ::-1][:, :1]], 1), x=x)
case("pad_repeat", np.tile(np.pad(x, ((0, 0), (1, 2), (0, 0))), (2, 1, 1)), x=x)

path = pathlib.Path(__file__).parent / "vectors.safetensors"
save_file(tensors, path)
print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")
