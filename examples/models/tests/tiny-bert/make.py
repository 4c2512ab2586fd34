"""Writes the tiny BERT beside this file: fixed random weights, in Hugging Face's layout.

    python3 make.py        (needs numpy)

Two layers, 32 wide, a few hundred word pieces. The weights are larger than a fresh model's, so that
attention and the perceptron do something: an error in either changes the vectors.
"""

import json
import struct
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
HIDDEN, LAYERS, HEADS, WIDE, POSITIONS = 32, 2, 4, 64, 96

WORDS = """a about after again air all along also always an and animal another answer any are around as ask at
away back be because been before began being below between big book both boy but by call came can car
carry change children city close color come could country cut day did different do does done door down
draw each earth eat end enough even every eye face family far father feet few find first follow food
for form found four from gave get girl give go good got great group grow had hand hard has have he head
hear help her here high him his home horse house how i idea if important in into is it its just keep
kind knew know land large last later learn left let letter life light like line list little live long
look made make man many may me mean men might mile more morning most mother mountain move much must my
name near need never new next night no north not now number of off often old on once one only open or
other our out over own page paper part people place plant play point put question quick quickly rain
read really right river room run said same saw say school sea second see seem sentence set she ship
short should show side sing sleep slow small so some song soon sound spell stand start state still stop
story study such sun take talk tell ten than that the their them then there these they thing think this
those thought three through time to together too took town tree try turn two under until up us use very
voice walk want was watch water way we well went were what when where which while white who why will
wind with without wood word work world would write year you young your""".split()
PIECES = ["##s", "##ed", "##ing", "##ly", "##er", "##est", "##y", "##e"]
CHARACTERS = list("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-")


def vocabulary():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for piece in CHARACTERS + WORDS + PIECES + ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"]:
        if piece not in pieces:
            pieces.append(piece)
    return {piece: i for i, piece in enumerate(pieces)}


def tokenizer(vocab):
    def special(name):
        return {"id": vocab[name], "content": name, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True}

    def token(name, kind=0):
        return {"SpecialToken": {"id": name, "type_id": kind}}

    def sequence(name, kind=0):
        return {"Sequence": {"id": name, "type_id": kind}}

    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special(n) for n in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [token("[CLS]"), sequence("A"), token("[SEP]")],
            "pair": [token("[CLS]"), sequence("A"), token("[SEP]"), sequence("B", 1), token("[SEP]", 1)],
            "special_tokens": {n: {"id": n, "ids": [vocab[n]], "tokens": [n]} for n in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    }


def weights(vocab):
    random = np.random.default_rng(20)
    tensors = {}

    def matrix(name, rows, columns, scale):
        tensors[name] = random.normal(0, scale, (rows, columns)).astype(np.float32)

    def linear(name, rows, columns):
        matrix(name + ".weight", rows, columns, 1.5 / columns**0.5)
        tensors[name + ".bias"] = random.normal(0, 0.2, rows).astype(np.float32)

    def norm(name):
        tensors[name + ".weight"] = random.normal(1, 0.2, HIDDEN).astype(np.float32)
        tensors[name + ".bias"] = random.normal(0, 0.2, HIDDEN).astype(np.float32)

    matrix("embeddings.word_embeddings.weight", len(vocab), HIDDEN, 1)
    matrix("embeddings.position_embeddings.weight", POSITIONS, HIDDEN, 0.3)
    matrix("embeddings.token_type_embeddings.weight", 2, HIDDEN, 0.3)
    norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", WIDE, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, WIDE)
        norm(f"{layer}.output.LayerNorm")
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


def main():
    vocab = vocabulary()
    config = {
        "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": HIDDEN, "initializer_range": 0.02,
        "intermediate_size": WIDE, "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS,
        "model_type": "bert", "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "pad_token_id": vocab["[PAD]"], "position_embedding_type": "absolute", "type_vocab_size": 2,
        "use_cache": True, "vocab_size": len(vocab),
    }
    kind = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": kind + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": kind + "Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": kind + "Normalize"},
    ]
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False,
               "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
    for name, value in [("config.json", config), ("modules.json", modules),
                        ("1_Pooling/config.json", pooling)]:
        (HERE / name).write_text(json.dumps(value, indent=2) + "\n")
    (HERE / "tokenizer.json").write_text(json.dumps(tokenizer(vocab), separators=(",", ":")) + "\n")
    (HERE / "model.safetensors").write_bytes(safetensors(weights(vocab)))


main()
