"""PyTorch on the CPU, eager and by `torch.compile`.

Compiled, weights are frozen, which lets it pack them.
"""

import numpy as np
import torch
from torch import nn
from torch._inductor import config as inductor
from torch.nn import functional as f

from cases import HEADS, HIDDEN

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}


def mix(x, y):
    x = torch.tanh(x * 0.5)
    x = torch.exp(x + y)
    x = torch.sigmoid(x * 0.25)
    return torch.relu((x - y) * y) + 1.0


def chain(x, y):
    for _ in range(5):
        x = x * y + y
    return x


def mlp(x, up, down):
    return torch.softmax(f.gelu(x @ up, approximate="tanh") @ down, -1)


def attention(q, k, v, mask):
    return f.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def minilm_layer(x, mask, *weights):
    pairs = list(zip(weights[::2], weights[1::2]))
    batch, length, _ = x.shape
    heads = lambda x: x.view(batch, length, HEADS, HIDDEN // HEADS).transpose(1, 2)
    q, k, v = (heads(f.linear(x, *pair)) for pair in pairs[:3])
    y = attention(q, k, v, mask).transpose(1, 2).reshape(batch, length, HIDDEN)
    x = f.layer_norm(f.linear(y, *pairs[3]) + x, (HIDDEN,), *pairs[6], 1e-12)
    inner = f.gelu(f.linear(x, *pairs[4]))
    return f.layer_norm(f.linear(inner, *pairs[5]) + x, (HIDDEN,), *pairs[7], 1e-12)


OPERATIONS = {
    "add": torch.add,
    "mul": torch.mul,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "silu": f.silu,
    "gelu": lambda x: f.gelu(x, approximate="tanh"),
    "gelu_erf": f.gelu,
    "softmax": lambda x: torch.softmax(x, -1),
    "rms_norm": lambda x, w: f.rms_norm(x, (x.shape[-1],), w, 1e-5),
    "layer_norm": lambda x, w: f.layer_norm(x, (x.shape[-1],), w, w, 1e-5),
    "chain10": chain,
    "chain10_mix": mix,
    "matmul": torch.matmul,
    "matmul_t": f.linear,
    "mlp": mlp,
    "minilm_layer": minilm_layer,
    "attention": attention,
    "lora": lambda x, w, a, b: x @ w + (x @ a) @ b * 0.5,
}


class Module(nn.Module):
    """An operation that has its weights."""

    def __init__(self, operation, weights):
        super().__init__()
        self.operation = operation
        self.weights = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights)

    def forward(self, *inputs):
        return self.operation(*inputs, *self.weights)


def start(threads):
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    inductor.freezing = True
    # one kernel or two for a row: a pool of compilers takes longer to start
    inductor.compile_threads = 1


def prepare(case):
    """By contender, a function that runs the case."""
    cast = lambda arrays: [torch.from_numpy(array).to(DTYPES[case.dtype]) for array in arrays]
    inputs, weights = map(cast, case.arrays())
    operation = OPERATIONS[case.operation]
    runs = {"pytorch": lambda: operation(*inputs, *weights)}
    # a lone product is the same call, compiled or not
    if not case.operation.startswith("matmul"):
        torch.compiler.reset()
        compiled = torch.compile(Module(operation, weights).eval())
        runs["pytorch_compiled"] = lambda: compiled(*inputs)
    return runs


def numpy(result):
    return result.to(torch.float32).numpy().astype(np.float32, copy=False)
