"""Products by MKL itself, of the package `mkl`: `cblas_sgemm`, and with a weight packed before.

Called by ctypes, which costs about a microsecond, into memory that is used again.
"""

import ctypes
import importlib.metadata

import numpy as np

ROW_MAJOR, NO_TRANS, TRANS, PACKED, B_MATRIX = 101, 111, 112, 151, 162


def load():
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError("the package mkl is not installed") from error
    for file in files:
        if file.name.startswith("libmkl_rt.so"):
            return ctypes.CDLL(str(file.locate().resolve()), mode=ctypes.RTLD_GLOBAL)
    raise ImportError("the package mkl has no libmkl_rt here")


MKL = load()
MKL.cblas_sgemm_pack_get_size.restype = ctypes.c_size_t


def start(threads):
    # not fewer, should it think that the cores are one
    MKL.MKL_Set_Dynamic(0)
    MKL.MKL_Set_Num_Threads(threads)


def call(function, *arguments):
    """A function that is called with arguments that are converted already."""
    kinds = {int: ctypes.c_int, float: ctypes.c_float}
    pointer = lambda array: ctypes.c_void_p(array.ctypes.data)
    converted = [kinds.get(type(argument), pointer)(argument) for argument in arguments]
    return lambda: function(*converted)


def prepare(case):
    """By contender, a function that runs the case."""
    if case.operation not in ("matmul", "matmul_t"):
        return {}
    (x,), (w,) = case.arrays()
    transposed = TRANS if case.operation == "matmul_t" else NO_TRANS
    m, k = x.shape
    n = w.shape[0] if transposed == TRANS else w.shape[1]
    stride = w.shape[1]
    packed = np.empty(MKL.cblas_sgemm_pack_get_size(B_MATRIX, m, n, k), np.uint8)
    call(MKL.cblas_sgemm_pack, ROW_MAJOR, B_MATRIX, transposed, m, n, k, 1.0, w, stride, packed)()
    plain_result, packed_result = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
    plain = call(MKL.cblas_sgemm, ROW_MAJOR, NO_TRANS, transposed, m, n, k,
                 1.0, x, k, w, stride, 0.0, plain_result, n)
    compute = call(MKL.cblas_sgemm_compute, ROW_MAJOR, NO_TRANS, PACKED, m, n, k,
                   x, k, packed, stride, 0.0, packed_result, n)

    def with_result(run, result, *held):
        def whole():
            run()
            return result

        # what the pointers point to lives as long
        whole.held = held
        return whole

    return {"mkl": with_result(plain, plain_result, x, w),
            "mkl_packed": with_result(compute, packed_result, x, packed)}


def numpy(result):
    return result
