"""The rows of `cargo bench --bench kernels`, by other libraries on the CPU.

    python3 -m venv env && env/bin/pip install numpy torch jax onnx onnxruntime mkl
    env/bin/python benches/peers/kernels.py --compile-only [part of a row's name ...]
    env/bin/python benches/peers/kernels.py [--json] [part of a row's name ...]
        [--libraries torch,jax,onnx,mkl,numpy] [--rounds 7]

The first call only fills the cache of `torch.compile`, which takes minutes (and a C++ compiler;
where it fails, that contender is left out). A library that is not installed is left out, with a line
on standard error. `compare.py` sets the lines beside those of the Rust bench.

Each library has a process for each number of threads, one and all cores', because some learn it
only from the environment, and because threads that still spin would disturb the next one's turn.
Contenders take turns; each row is the median of its rounds at the better number of threads. Results
are compared first. As in the Rust bench a call hands out its result and drops it; ONNX Runtime and
MKL write into the same memory again.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import statistics
import sys
import time

LIBRARIES = ["torch", "jax", "onnx", "mkl", "numpy"]
# what others set for the machine may slow a library down
SETTINGS = ("OPENBLAS_", "GOTO_", "NVPL_", "MKL_", "OMP_", "KMP_", "GOMP_", "DNNL_", "ONEDNN_",
            "XLA_", "NPROC")
TURN = 0.02
# threads that have nothing to do spin for some milliseconds, not for hundreds; within a turn they
# always have
SPIN = {"KMP_BLOCKTIME": "5", "OPENBLAS_THREAD_TIMEOUT": "22"}


def environment(threads):
    """Leaves the libraries their defaults, but for the number of threads."""
    for name in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[name]
    for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"]:
        os.environ[name] = str(threads)
    os.environ.update(SPIN)


def seconds(run, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - start


def calls_of(run):
    """How many calls make up a turn."""
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < TURN:
        run()
        calls += 1
    return calls


def settle():
    """Waits until none of this process' threads spins."""
    quiet, before = 0, time.process_time()
    # in vain for those that spin on and on
    for _ in range(100):
        time.sleep(0.004)
        now = time.process_time()
        quiet = quiet + 1 if now - before < 0.0005 else 0
        if quiet == 3:
            return
        before = now


class Library:
    """In its own process: what it prepared of the present row."""

    def __init__(self, name, threads):
        from cases import cases

        self.module = importlib.import_module(f"{name}_rows")
        self.module.start(threads)
        self.cases = cases()
        self.runs = {}

    def prepare(self, what):
        """By contender, some of the result's elements, or why there is none."""
        self.runs, answers = {}, {}
        try:
            runs = self.module.prepare(self.cases[what])
        except Exception as error:  # no such operation there
            return {"": first_line(error)}
        for contender, run in runs.items():
            try:
                result = self.module.numpy(run()).ravel()
                # an odd step, so that all columns are seen
                answers[contender] = result[:: result.size // 65536 | 1].copy()
                self.runs[contender] = (run, calls_of(run))
            except Exception as error:  # no compiler, say
                answers[contender] = first_line(error)
        settle()
        return answers

    def time(self, contender):
        """Microseconds of a call."""
        run, calls = self.runs[contender]
        seconds(run, min(calls, 3))
        took = seconds(run, calls)
        settle()
        return took * 1e6 / calls


def first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


def serve(name, threads, pipe):
    """Answers the first process until it closes."""
    try:
        library = Library(name, threads)
    except ImportError as error:
        pipe.send(f"{error}")
        return
    pipe.send(None)
    while (request := pipe.recv()) is not None:
        method, argument = request
        pipe.send(getattr(library, method)(argument))


class Process:
    """A library with so many threads."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        environment(threads)
        self.process = context.Process(target=serve, args=(name, threads, other), daemon=True)
        self.process.start()
        other.close()

    def ask(self, method, argument):
        self.pipe.send((method, argument))
        return self.pipe.recv()

    def close(self):
        self.pipe.send(None)
        self.process.join()


def start(names):
    counts = sorted({1, len(os.sched_getaffinity(0))})
    processes = [Process(name, threads) for name in names for threads in counts]
    there = []
    for process in processes:
        missing = process.pipe.recv()
        if missing is None:
            there.append(process)
        elif process.threads == 1:
            print(f"{process.name} is left out: {missing}", file=sys.stderr)
    return there


def prepare(case, processes):
    """The processes that have an answer, by contender, and all of the same answer."""
    import numpy as np

    for process in processes:
        process.pipe.send(("prepare", case.what))
    contenders, expected = {}, None
    for process in processes:
        for contender, answer in process.pipe.recv().items():
            if isinstance(answer, str):
                name = contender or process.name
                print(f"{case.what} {name}, {process.threads} threads: {answer}", file=sys.stderr)
                continue
            expected = answer if expected is None else expected
            assert answer.shape == expected.shape, (case.what, contender)
            worst = float(np.max(np.abs(answer - expected) / (1 + np.abs(expected))))
            assert worst <= case.tolerance, f"{case.what} {contender}: another answer, by {worst}"
            contenders.setdefault(contender, []).append(process)
    return contenders


def measure(contenders, rounds):
    """Microseconds by contender."""
    times = {}
    for _ in range(rounds):
        for contender, processes in contenders.items():
            for process in processes:
                took = process.ask("time", contender)
                times.setdefault(contender, {}).setdefault(process.threads, []).append(took)
    return {contender: min(statistics.median(took) for took in by_threads.values())
            for contender, by_threads in times.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", help="parts of the names of rows; all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--libraries", type=lambda names: names.split(","), default=LIBRARIES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile-only", action="store_true")
    options = parser.parse_args()

    from cases import cases

    processes = start(["torch"] if options.compile_only else options.libraries)
    for case in cases().values():
        if options.rows and not any(part in case.what for part in options.rows):
            continue
        contenders = prepare(case, processes)
        if options.compile_only:
            continue
        for contender, us in measure(contenders, options.rounds).items():
            if options.json:
                line = {"what": case.what, "contender": contender, "us": round(us, 2)}
                print(json.dumps(line), flush=True)
            else:
                print(f"{case.what:24} {contender:16} {us:12.2f} µs", flush=True)
    for process in processes:
        process.close()


if __name__ == "__main__":
    main()
