"""What others take for the parts of the model, on one thread, with the same weights: bench_model.py PART FOLDER RUNS [WINDOWS]

PART is one of
    inputs       writes `pictures.safetensors`, `words.safetensors` and `mixed.safetensors`, words of windows of many lengths
                 filled up with zeros; prints nothing of use
    limits       how fast one core multiplies matrices and reads memory
    encode       PyTorch, eager, the vision encoder
    generate     `generate` of transformers, WINDOWS in a batch
    ctranslate2  CTranslate2, WINDOWS in a batch
FOLDER holds `vid2seq.pth` and `clip.pt` as they are released, and the inputs. Prints JSON: `seconds` of each of the RUNS after
one that is not timed, and what was found: `features` of each picture, or `rows` with the `tokens` of the best sequence of each
window.
"""
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

PICTURES, WINDOWS, WORDS, BEAMS, TOKENS = 16, 16, 256, 4, 64


def main(part, folder, runs, windows=1):
    folder, runs, windows = Path(folder), int(runs), int(windows)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    parts = {
        "inputs": lambda: inputs(folder),
        "limits": lambda: limits(runs),
        "encode": lambda: encode(folder, runs),
        "generate": lambda: generate(folder, runs, windows),
        "ctranslate2": lambda: ctranslate2(folder, runs, windows),
    }
    print(json.dumps(parts[part]()))


def inputs(folder):
    numbers = np.random.default_rng(8)
    frames = numbers.integers(0, 256, (PICTURES, 224, 224, 3), dtype=np.uint8)
    save_file({"frames": frames}, folder / "pictures.safetensors")
    ids = numbers.integers(3, 32_000, (WINDOWS, WORDS), dtype=np.int64)
    save_file({"input_ids": ids}, folder / "words.safetensors")
    mixed = numbers.integers(3, 32_000, (WINDOWS, 496), dtype=np.int64)
    for window, row in enumerate(mixed):
        row[16 + window * 7 % WINDOWS * 32 :] = 0
    save_file({"input_ids": mixed}, folder / "mixed.safetensors")


def limits(runs):
    square = torch.randn(2048, 2048)
    _, products = timed(runs, lambda: square @ square)
    large = torch.ones(1 << 28)
    _, sums = timed(runs, lambda: large.sum())
    return {"flops": 2 * 2048**3 / min(products), "bytes": 4 * large.numel() / min(sums)}


def timed(runs, work):
    answer, seconds = work(), []
    for _ in range(runs):
        started = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - started)
    return answer, seconds


def encode(folder, runs):
    clip = torch.load(folder / "clip.pt", weights_only=True)
    weights = {name.removeprefix("visual."): weight.float() for name, weight in clip.items()}
    frames = torch.from_numpy(load_file(folder / "pictures.safetensors")["frames"])
    features, seconds = timed(runs, lambda: vision(weights, frames))
    return {"seconds": seconds, "features": features.tolist()}


def vision(weights, frames):
    """OpenAI's CLIP: a transformer with the norm first, of heads 64 wide, whose first token becomes the feature."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]) + 1e-8
    pixels = ((frames.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    kernel = weights["conv1.weight"]
    width = kernel.shape[0]
    norm = lambda x, name: F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"])
    linear = lambda x, name: F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
    patches = F.conv2d(pixels, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    first = weights["class_embedding"].expand(len(frames), 1, width)
    x = torch.cat([first, patches], dim=1) + weights["positional_embedding"]
    x = norm(x, "ln_pre")
    layers = sum(name.endswith("attn.in_proj_weight") for name in weights)
    for block in (f"transformer.resblocks.{layer}" for layer in range(layers)):
        normalised = norm(x, f"{block}.ln_1")
        projected = F.linear(
            normalised, weights[f"{block}.attn.in_proj_weight"], weights[f"{block}.attn.in_proj_bias"]
        )
        heads = (part.unflatten(-1, (-1, 64)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{block}.attn.out_proj")
        wide = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        x = x + linear(wide * torch.sigmoid(1.702 * wide), f"{block}.mlp.c_proj")
    return norm(x[:, 0], "ln_post") @ weights["proj"]


def t5(folder):
    from transformers import T5Config, T5ForConditionalGeneration

    released = torch.load(folder / "vid2seq.pth", weights_only=True)["model"]
    prefix = "t5_model."
    weights = {name[len(prefix) :]: weight for name, weight in released.items() if name.startswith(prefix)}
    config = T5Config(
        vocab_size=len(weights["shared.weight"]),
        d_model=768,
        d_kv=64,
        d_ff=3072,
        num_layers=12,
        num_heads=12,
        decoder_start_token_id=0,
        tie_word_embeddings=True,
    )
    model = T5ForConditionalGeneration(config).eval()
    model.load_state_dict(weights)
    ids = torch.from_numpy(load_file(folder / "words.safetensors")["input_ids"])
    return model, ids


def generate(folder, runs, windows):
    model, ids = t5(folder)

    def work():
        found = []
        for some in ids.split(windows):
            found += model.generate(
                some,
                attention_mask=torch.ones_like(some),
                do_sample=False,
                num_beams=BEAMS,
                max_new_tokens=TOKENS,
                length_penalty=1.0,
            )
        return found

    found, seconds = timed(runs, work)
    rows = [row[1:].tolist() for row in found]
    return {"seconds": seconds, "rows": [{"tokens": row, "sum": total(model, some, row)} for some, row in zip(ids, rows)]}


def total(model, ids, tokens):
    """The sum of the log probabilities of some tokens, all seen at once."""
    labels = torch.tensor([tokens])
    logits = model(input_ids=ids[None], labels=labels).logits.double().log_softmax(-1)
    return logits.gather(-1, labels[..., None]).sum().item()


class Pieces:
    """A vocabulary without texts: each token is called by its number."""

    pad_token, eos_token, unk_token = "0", "1", "2"

    def __init__(self, size):
        self.size = size

    def get_vocab(self):
        return {str(number): number for number in range(self.size)}

    def convert_ids_to_tokens(self, number):
        return str(number)


def ctranslate2(folder, runs, windows):
    from ctranslate2 import Translator
    from ctranslate2.converters.transformers import T5Loader

    model, ids = t5(folder)
    place = folder / "ctranslate2"
    if not place.exists():
        spec = T5Loader()(model, Pieces(model.config.vocab_size))
        spec.validate()
        spec.optimize(quantization="float32")
        place.mkdir()
        spec.save(str(place))
    del model
    translator = Translator(str(place), device="cpu", intra_threads=1, inter_threads=1, compute_type="float32")
    sources = [[str(number) for number in row] for row in ids.tolist()]
    options = {"beam_size": BEAMS, "max_decoding_length": TOKENS, "length_penalty": 1.0, "max_batch_size": windows}
    found, seconds = timed(runs, lambda: translator.translate_batch(sources, **options))
    return {"seconds": seconds, "rows": [{"tokens": [int(token) for token in row.hypotheses[0]]} for row in found]}


main(*sys.argv[1:])
