"""Makes the three files in data/ that the `digits` example reads.

    pip install numpy scikit-learn safetensors
    python examples/digits/train.py

data/digits.safetensors     images: u8 [1797, 64], values 0..16, row by row; labels: u8 [1797]
data/weights.safetensors    w1 [64, 128], b1 [128], w2 [128, 10], b2 [10], all f32 (seed 1)
data/weights_b.safetensors  the same network from another seed (2), for the swap under load

The network is log_softmax(gelu(x / 16 @ w1 + b1) @ w2 + b2), with the tanh form of gelu. Images
whose index is a multiple of 5 are held out: they are not looked at here except to print how many
of them the finished network gets right.

Nothing is drawn from the clock or the operating system, so a second run on the same machine with
the same versions of the packages writes the same bytes. Another BLAS may round differently.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one order of summation

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

DATA = Path(__file__).resolve().parent / "data"
HIDDEN = 128
EPOCHS = 150
BATCH = 32
RATE = 2e-3
DECAY = 2e-3  # of the weights, per step and unit of rate
NOISE = 0.1  # of the inputs, in units of full ink: keeps 1437 images from being learnt by heart
C = np.float32(np.sqrt(2.0 / np.pi))


def gelu(z):
    """The value, and the derivative for the way back."""
    t = np.tanh(C * (z + np.float32(0.044715) * z**3))
    slope = 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * C * (1 + np.float32(3 * 0.044715) * z**2)
    return 0.5 * z * (1 + t), slope


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def forward(p, x):
    return log_softmax(gelu(x @ p["w1"] + p["b1"])[0] @ p["w2"] + p["b2"])


def gradients(p, x, y):
    """Of the mean cross-entropy."""
    hidden, slope = gelu(x @ p["w1"] + p["b1"])
    d_logits = np.exp(log_softmax(hidden @ p["w2"] + p["b2"]))
    d_logits[np.arange(len(y)), y] -= 1
    d_logits /= np.float32(len(y))
    d_hidden = (d_logits @ p["w2"].T) * slope
    return {
        "w1": x.T @ d_hidden,
        "b1": d_hidden.sum(axis=0),
        "w2": hidden.T @ d_logits,
        "b2": d_logits.sum(axis=0),
    }


def train(x, y, seed):
    """Adam with decoupled weight decay; the rate falls along a cosine."""
    rng = np.random.default_rng(seed)
    p = {
        "w1": rng.normal(0, np.sqrt(2 / 64), (64, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 10)),
        "b2": np.zeros(10),
    }
    p = {name: value.astype(np.float32) for name, value in p.items()}
    m = {name: np.zeros_like(value) for name, value in p.items()}
    v = {name: np.zeros_like(value) for name, value in p.items()}
    steps = EPOCHS * (len(x) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            pick = order[start : start + BATCH]
            noise = rng.normal(0, NOISE, (BATCH, 64)).astype(np.float32)
            g = gradients(p, x[pick] + noise, y[pick])
            step += 1
            rate = np.float32(RATE * 0.5 * (1 + np.cos(np.pi * step / steps)))
            for name in p:
                m[name] += np.float32(0.1) * (g[name] - m[name])
                v[name] += np.float32(0.001) * (g[name] ** 2 - v[name])
                m_hat = m[name] / np.float32(1 - 0.9**step)
                v_hat = v[name] / np.float32(1 - 0.999**step)
                if name.startswith("w"):
                    p[name] *= 1 - rate * np.float32(DECAY)
                p[name] -= rate * m_hat / (np.sqrt(v_hat) + np.float32(1e-8))
    return p


def main():
    digits = load_digits()
    images = digits.data.astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    assert images.shape == (1797, 64) and images.max() == 16
    assert (images == digits.data).all(), "the pixels are whole numbers"
    DATA.mkdir(exist_ok=True)
    save_file({"images": images, "labels": labels}, DATA / "digits.safetensors")

    x = images.astype(np.float32) / np.float32(16)
    held_out = np.arange(len(x)) % 5 == 0
    for seed, name in [(1, "weights"), (2, "weights_b")]:
        p = train(x[~held_out], labels[~held_out], seed)
        assert all(value.dtype == np.float32 for value in p.values())
        right = forward(p, x).argmax(axis=1) == labels
        print(
            f"{name}: {right[held_out].sum()} of {held_out.sum()} held-out images right"
            f" ({right[held_out].mean():.2%}), {right[~held_out].mean():.2%} of the others"
        )
        save_file(p, DATA / f"{name}.safetensors")


if __name__ == "__main__":
    main()
