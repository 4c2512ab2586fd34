"""JAX on the CPU, compiled by `jax.jit`."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn

from cases import HEADS, HIDDEN

DTYPES = {"f32": jnp.float32, "f16": jnp.float16, "bf16": jnp.bfloat16, "f64": jnp.float64}


def mix(x, y):
    x = jnp.tanh(x * 0.5)
    x = jnp.exp(x + y)
    x = nn.sigmoid(x * 0.25)
    return nn.relu((x - y) * y) + 1.0


def chain(x, y):
    for _ in range(5):
        x = x * y + y
    return x


def rms_norm(x, w):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * w


def layer_norm(x, w, b, eps):
    x = x - jnp.mean(x, -1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * w + b


def mlp(x, up, down):
    return nn.softmax(nn.gelu(x @ up, approximate=True) @ down, -1)


def attention(q, k, v, mask):
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5 + mask
    return nn.softmax(scores, -1) @ v


def minilm_layer(x, mask, *weights):
    pairs = list(zip(weights[::2], weights[1::2]))
    linear = lambda x, pair: x @ pair[0].T + pair[1]
    batch, length, _ = x.shape
    heads = lambda x: x.reshape(batch, length, HEADS, HIDDEN // HEADS).swapaxes(1, 2)
    q, k, v = (heads(linear(x, pair)) for pair in pairs[:3])
    y = attention(q, k, v, mask).swapaxes(1, 2).reshape(batch, length, HIDDEN)
    x = layer_norm(linear(y, pairs[3]) + x, *pairs[6], 1e-12)
    inner = nn.gelu(linear(x, pairs[4]), approximate=False)
    return layer_norm(linear(inner, pairs[5]) + x, *pairs[7], 1e-12)


OPERATIONS = {
    "add": jnp.add,
    "mul": jnp.multiply,
    "exp": jnp.exp,
    "tanh": jnp.tanh,
    "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=True),
    "gelu_erf": lambda x: nn.gelu(x, approximate=False),
    "softmax": lambda x: nn.softmax(x, -1),
    "rms_norm": rms_norm,
    "layer_norm": lambda x, w: layer_norm(x, w, w, 1e-5),
    "chain10": chain,
    "chain10_mix": mix,
    "matmul": jnp.matmul,
    "matmul_t": lambda x, w: x @ w.T,
    "mlp": mlp,
    "minilm_layer": minilm_layer,
    "attention": attention,
    "lora": lambda x, w, a, b: x @ w + (x @ a) @ b * 0.5,
}


def start(threads):
    """The number of threads is a variable of the environment, which is set by now."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    # whoever waits for each result is faster without a thread between
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def prepare(case):
    """By contender, a function that runs the case."""
    arrays = [jnp.asarray(array, DTYPES[case.dtype]) for array in sum(case.arrays(), [])]
    compiled = jax.jit(OPERATIONS[case.operation])
    return {"jax": lambda: compiled(*arrays).block_until_ready()}


def numpy(result):
    return np.asarray(result.astype(jnp.float32))
