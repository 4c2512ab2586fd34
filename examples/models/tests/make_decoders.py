"""Writes the tiny Llama and the tiny Qwen2 beside this file: fixed random weights, in Hugging Face's
layout.

    python3 make_decoders.py        (needs numpy)

Two layers, 48 wide, four heads of queries and two of keys and values. The weights are larger than a
fresh model's, so that attention and the gate do something, and so that the highest score stands
well above the second.
"""

import json
import struct
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
HIDDEN, LAYERS, HEADS, KV_HEADS, WIDE, VOCABULARY, POSITIONS = 48, 2, 4, 2, 80, 160, 256


def weights(seed, biases, tied):
    random = np.random.default_rng(seed)
    tensors = {}

    def matrix(name, rows, columns, scale=1.5):
        values = random.normal(0, scale / columns**0.5, (rows, columns))
        tensors[name] = values.astype(np.float32)

    def vector(name, size, mean, spread):
        tensors[name] = random.normal(mean, spread, size).astype(np.float32)

    # with tied weights, large ones would only repeat the last word
    matrix("model.embed_tokens.weight", VOCABULARY, HIDDEN, 0.7 if tied else 7)
    size = HIDDEN // HEADS
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        for part, rows in (("q", HIDDEN), ("k", KV_HEADS * size), ("v", KV_HEADS * size)):
            matrix(f"{layer}.self_attn.{part}_proj.weight", rows, HIDDEN)
            if biases:
                vector(f"{layer}.self_attn.{part}_proj.bias", rows, 0, 0.3)
        matrix(f"{layer}.self_attn.o_proj.weight", HIDDEN, HIDDEN)
        matrix(f"{layer}.mlp.gate_proj.weight", WIDE, HIDDEN)
        matrix(f"{layer}.mlp.up_proj.weight", WIDE, HIDDEN)
        matrix(f"{layer}.mlp.down_proj.weight", HIDDEN, WIDE, 4)
        vector(f"{layer}.input_layernorm.weight", HIDDEN, 1, 0.2)
        vector(f"{layer}.post_attention_layernorm.weight", HIDDEN, 1, 0.2)
    vector("model.norm.weight", HIDDEN, 1, 0.2)
    if not tied:
        matrix("lm_head.weight", VOCABULARY, HIDDEN, 4)
    return tensors


def safetensors(tensors):
    header, data = {}, b""
    for name, tensor in sorted(tensors.items()):
        bytes_ = tensor.tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def write(name, seed, biases, tied, extra):
    config = {
        "hidden_act": "silu", "hidden_size": HIDDEN, "intermediate_size": WIDE,
        "max_position_embeddings": POSITIONS, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tied, "vocab_size": VOCABULARY, **extra,
    }
    folder = HERE / name
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "model.safetensors").write_bytes(safetensors(weights(seed, biases, tied)))


write("tiny-llama", 30, False, False, {
    "model_type": "llama", "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": [2, 3],
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                     "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
})
write("tiny-qwen2", 31, True, True, {
    "model_type": "qwen2", "rope_theta": 1000000.0, "bos_token_id": 1, "eos_token_id": 2,
    "sliding_window": 256, "max_window_layers": 2, "use_sliding_window": False,
})
