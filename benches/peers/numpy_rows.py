"""Products by NumPy, whose wheels bring OpenBLAS."""


def start(threads):
    """The number of threads is a variable of the environment, which is set by now."""


def prepare(case):
    """By contender, a function that runs the case."""
    if case.operation not in ("matmul", "matmul_t"):
        return {}
    (x,), (w,) = case.arrays()
    w = w.T if case.operation == "matmul_t" else w
    return {"openblas": lambda: x @ w}


def numpy(result):
    return result
