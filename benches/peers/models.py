"""MiniLM by ONNX Runtime, PyTorch and sentence-transformers, as benches/models.rs measures it.

    pip install torch sentence-transformers onnx onnxscript onnxruntime
    python benches/peers/models.py FOLDER [--seconds 4] [--producers 1 8 64] [--contenders ...]

FOLDER is the model that CANDLEWICK_MINILM names there. One line of JSON for each contender and number
of producers, with the fields of `cargo bench --bench models -- --json`. Every contender's vectors
are compared with sentence-transformers' first.

- `onnxruntime1`, `2`: each producer calls `run` with its sentence; so many threads inside of it.
- `onnxruntime_sorted8`: one thread takes what is queued, sorts it by length, and runs it by eights.
- `pytorch`, `pytorch_sorted8`: the same with the module itself; `sentence_transformers`: its `encode`.
"""

import argparse
import json
import os
import queue
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

CORES = len(os.sched_getaffinity(0))
SENTENCES = Path(__file__).parents[2] / "examples/models/tests/sentences.txt"


class Torch:
    """The transformer, the mean of its states and their scaling, as one module."""

    def __init__(self, folder):
        import torch
        from sentence_transformers import SentenceTransformer

        self.torch = torch
        torch.set_num_threads(CORES)
        self.whole = SentenceTransformer(folder, device="cpu").eval()
        self.tokenizer = self.whole.tokenizer
        transformer = self.whole[0].auto_model

        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.transformer = transformer

            def forward(self, ids, mask):
                states = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
                wide = mask.unsqueeze(-1).to(states.dtype)
                mean = (states * wide).sum(1) / wide.sum(1)
                return torch.nn.functional.normalize(mean)

        self.module = Module().eval()

    def __call__(self, ids, mask):
        with self.torch.inference_mode():
            ids, mask = map(self.torch.from_numpy, (ids, mask))
            return self.module(ids, mask).numpy()

    def export(self, file):
        torch = self.torch
        example = (torch.ones(2, 9, dtype=torch.int64), torch.ones(2, 9, dtype=torch.int64))
        batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=512)
        shapes = {"ids": {0: batch, 1: length}, "mask": {0: batch, 1: length}}
        torch.onnx.export(
            self.module, example, file, dynamo=True, dynamic_shapes=shapes, verbose=False,
            input_names=["ids", "mask"], output_names=["vectors"],
        )


def onnx(file, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


def padded(rows):
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return ids, mask


class Alone:
    """Whoever asks runs it."""

    def __init__(self, run):
        self.run = run

    def ask(self, row):
        return self.run(*padded([row]))[0]

    def close(self):
        pass


class Sorted:
    """One thread runs what is queued, sorted by length, by eights."""

    def __init__(self, run):
        self.run = run
        self.queue = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def ask(self, row):
        answer = queue.SimpleQueue()
        self.queue.put((row, answer))
        return answer.get()

    def serve(self):
        while True:
            waiting = [self.queue.get()]
            while not self.queue.empty() and len(waiting) < 64:
                waiting.append(self.queue.get())
            if None in waiting:
                return
            waiting.sort(key=lambda item: len(item[0]))
            for at in range(0, len(waiting), 8):
                chunk = waiting[at : at + 8]
                for (_, answer), vector in zip(chunk, self.run(*padded([row for row, _ in chunk]))):
                    answer.put(vector)

    def close(self):
        self.queue.put(None)
        self.thread.join()


def closed_loop(ask, items, producers, seconds):
    """Latencies, of producers that have one request in flight each."""
    took = [[] for _ in range(producers)]
    begin = time.perf_counter() + 0.3  # warm by then
    end = begin + seconds

    def produce(producer):
        request = 0
        while True:
            item = items[(producer * 29 + request * 13) % len(items)]
            start = time.perf_counter()
            ask(item)
            now = time.perf_counter()
            if now > end:
                return
            if start >= begin:
                took[producer].append(now - start)
            request += 1

    threads = [threading.Thread(target=produce, args=(p,)) for p in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate([np.array(t) for t in took])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--producers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--contenders", nargs="+")
    options = parser.parse_args()

    model = Torch(options.folder)
    lines = [line for line in SENTENCES.read_text().splitlines() if line]
    rows = [model.tokenizer(line)["input_ids"] for line in lines]
    expected = model.whole.encode(lines, normalize_embeddings=True)
    folder = tempfile.TemporaryDirectory()
    file = os.path.join(folder.name, "model.onnx")
    model.export(file)

    encode = lambda line: model.whole.encode(line, normalize_embeddings=True, show_progress_bar=False)
    contenders = {
        "onnxruntime1": lambda: Alone(onnx(file, 1)),
        "onnxruntime2": lambda: Alone(onnx(file, CORES)),
        "onnxruntime_sorted8": lambda: Sorted(onnx(file, CORES)),
        "pytorch": lambda: Alone(model),
        "pytorch_sorted8": lambda: Sorted(model),
        "sentence_transformers": None,
    }
    for name in options.contenders or contenders:
        contender = contenders[name] and contenders[name]()
        ask, items = (contender.ask, rows) if contender else (encode, lines)
        for item, vector in zip(items, expected):
            cosine = float(np.dot(ask(item), vector))
            assert cosine > 0.9999, (name, item, cosine)
        for producers in options.producers:
            took = closed_loop(ask, items, producers, options.seconds)
            p50, p99 = np.percentile(took, [50, 99]) * 1e6
            print(json.dumps({
                "workload": "minilm", "contender": name, "producers": producers,
                "per_second": round(len(took) / options.seconds, 1),
                "p50_us": round(p50, 1), "p99_us": round(p99, 1),
            }), flush=True)
        if contender:
            contender.close()


if __name__ == "__main__":
    main()
