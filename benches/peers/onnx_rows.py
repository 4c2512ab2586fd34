"""ONNX Runtime on the CPU, a model for each row.

Weights are part of the model, so that it packs them. Inputs and the result are bound: a call makes
no objects of Python's, and writes into memory that is used again.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from cases import HEADS, HIDDEN

OPSET = 23
# a version of the format that this opset belongs to
IR_VERSION = 11
ELEMENTS = {"f32": (TensorProto.FLOAT, np.float32), "f16": (TensorProto.FLOAT16, np.float16),
            "f64": (TensorProto.DOUBLE, np.float64)}
THREADS = 1


class Graph:
    """Nodes and initializers as they come; a value is its name."""

    def __init__(self, element):
        self.element = element
        self.nodes, self.initializers = [], []

    def __call__(self, operation, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def array(self, array):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def scalar(self, number):
        return self.array(np.array(number, self.element))

    def shape(self, *dims):
        return self.array(np.array(dims, np.int64))


def mix(g, x, y):
    x = g("Tanh", g("Mul", x, g.scalar(0.5)))
    x = g("Exp", g("Add", x, y))
    x = g("Sigmoid", g("Mul", x, g.scalar(0.25)))
    x = g("Relu", g("Mul", g("Sub", x, y), y))
    return g("Add", x, g.scalar(1.0))


def chain(g, x, y):
    for _ in range(5):
        x = g("Add", g("Mul", x, y), y)
    return x


def mlp(g, x, up, down):
    inner = g("Gelu", g("MatMul", x, g.array(up)), approximate="tanh")
    return g("Softmax", g("MatMul", inner, g.array(down)), axis=-1)


def scores(g, q, k_t, size, mask):
    scaled = g("Mul", g("MatMul", q, k_t), g.scalar(size**-0.5))
    return g("Softmax", g("Add", scaled, mask), axis=-1)


def attention(size):
    def attention(g, q, k, v, mask):
        k = g("Transpose", k, perm=[0, 1, 3, 2])
        return g("MatMul", scores(g, q, k, size, mask), v)

    return attention


def minilm_layer(g, x, mask, *weights):
    pairs = list(zip(weights[::2], weights[1::2]))
    linear = lambda x, pair: g("Add", g("MatMul", x, g.array(pair[0].T)), g.array(pair[1]))
    norm = lambda x, pair: g("LayerNormalization", x, *map(g.array, pair), epsilon=1e-12)

    def heads(x, perm):
        x = g("Reshape", x, g.shape(0, 0, HEADS, HIDDEN // HEADS))
        return g("Transpose", x, perm=perm)

    perms = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]]
    q, k_t, v = (heads(linear(x, pair), perm) for pair, perm in zip(pairs[:3], perms))
    y = g("MatMul", scores(g, q, k_t, HIDDEN // HEADS, mask), v)
    y = g("Reshape", g("Transpose", y, perm=[0, 2, 1, 3]), g.shape(0, 0, HIDDEN))
    x = norm(g("Add", linear(y, pairs[3]), x), pairs[6])
    inner = g("Gelu", linear(x, pairs[4]))
    return norm(g("Add", linear(inner, pairs[5]), x), pairs[7])


def lora(g, x, w, a, b):
    update = g("MatMul", g("MatMul", x, g.array(a)), g.array(b))
    return g("Add", g("MatMul", x, g.array(w)), g("Mul", update, g.scalar(0.5)))


def one(operation, **attributes):
    return lambda g, *inputs: g(operation, *inputs, **attributes)


OPERATIONS = {
    "add": one("Add"),
    "mul": one("Mul"),
    "exp": one("Exp"),
    "tanh": one("Tanh"),
    "silu": lambda g, x: g("Mul", x, g("Sigmoid", x)),
    "gelu": one("Gelu", approximate="tanh"),
    "gelu_erf": one("Gelu"),
    "softmax": one("Softmax", axis=-1),
    "rms_norm": one("RMSNormalization", axis=-1, epsilon=1e-5),
    "layer_norm": lambda g, x, w: g("LayerNormalization", x, w, w, axis=-1, epsilon=1e-5),
    "chain10": chain,
    "chain10_mix": mix,
    "matmul": lambda g, x, w: g("MatMul", x, g.array(w)),
    "matmul_t": lambda g, x, w: g("Gemm", x, g.array(w), transB=1),
    "mlp": mlp,
    "minilm_layer": minilm_layer,
    "lora": lora,
}


def model(case, inputs, weights):
    element, dtype = ELEMENTS[case.dtype]
    graph = Graph(dtype)
    names = [f"x{at}" for at in range(len(inputs))]
    if case.operation == "attention":
        operation = attention(inputs[0].shape[-1])
    else:
        operation = OPERATIONS[case.operation]
    result = operation(graph, *names, *weights)
    values = [helper.make_tensor_value_info(name, element, array.shape)
              for name, array in zip(names, inputs)]
    results = [helper.make_tensor_value_info(result, element, None)]
    whole = helper.make_graph(graph.nodes, case.what, values, results, graph.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(whole, opset_imports=opsets, ir_version=IR_VERSION)


def start(threads):
    global THREADS
    THREADS = threads
    onnxruntime.set_default_logger_severity(3)


def prepare(case):
    """By contender, a function that runs the case."""
    if case.dtype not in ELEMENTS:
        return {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    inputs, weights = case.arrays()
    serialized = model(case, inputs, weights).SerializeToString()
    session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    cast = lambda array: array.astype(ELEMENTS[case.dtype][1])
    held = [onnxruntime.OrtValue.ortvalue_from_numpy(cast(array)) for array in inputs]
    for argument, value in zip(session.get_inputs(), held):
        binding.bind_ortvalue_input(argument.name, value)

    binding.bind_output(session.get_outputs()[0].name)

    def run():
        session.run_with_iobinding(binding)
        return binding

    # what is bound does not own its memory
    run.held = held
    return {"onnxruntime": run}


def numpy(binding):
    return binding.copy_outputs_to_cpu()[0].astype(np.float32)
