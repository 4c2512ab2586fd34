"""The server by the clients that people have: `openai` and `tritonclient`.

Called with the server's address, the model's name, and a file of JSON with texts and their vectors.
"""

import json
import sys

import numpy as np
import openai
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, model, file = sys.argv[1:]
with open(file) as f:
    expected = json.load(f)
texts, vectors = expected["texts"], np.array(expected["vectors"], np.float32)


def same(got, want):
    np.testing.assert_array_equal(np.array(got, np.float32), want)


def refused(error, call):
    try:
        call()
    except error as e:
        return e
    raise AssertionError(f"{error} was not raised")


client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
for encoding in [None, "float", "base64"]:  # None asks for base64 and decodes it
    how = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(model=model, input=texts, **how)
    if encoding == "base64":
        import base64

        got = [np.frombuffer(base64.b64decode(d.embedding), "<f4") for d in answer.data]
    else:
        got = [d.embedding for d in answer.data]
    same(got, vectors)
assert answer.usage.total_tokens > 0
same(client.embeddings.create(model=model, input=texts[0]).data[0].embedding, vectors[0])
assert [m.id for m in client.models.list()] == [model]
assert client.models.retrieve(model).id == model
refused(openai.NotFoundError, lambda: client.embeddings.create(model="other", input="x"))
e = refused(openai.BadRequestError, lambda: client.embeddings.create(model=model, input=[]))
assert "0 texts" in str(e), e
print("openai", openai.__version__, "agrees")

client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
assert client.get_model_metadata(model)["outputs"][0]["name"] == "embedding"


def tensor(name, array, datatype, binary):
    it = triton.InferInput(name, list(array.shape), datatype)
    it.set_data_from_numpy(array, binary_data=binary)
    return it


for binary in [True, False]:
    inputs = [tensor("text", np.array(texts, object), "BYTES", binary)]
    for outputs in [None, [triton.InferRequestedOutput("embedding", binary_data=binary)]]:
        same(client.infer(model, inputs, outputs=outputs).as_numpy("embedding"), vectors)
    ids = expected["ids"]
    longest = max(map(len, ids))
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    ids = np.array([row + [0] * (longest - len(row)) for row in ids])
    inputs = [tensor("input_ids", ids, "INT64", binary), tensor("attention_mask", mask, "INT64", binary)]
    same(client.infer(model, inputs, request_id="7").as_numpy("embedding"), vectors)
e = refused(InferenceServerException, lambda: client.infer("other", inputs))
assert "is not served here" in str(e), e
print("tritonclient agrees")
