"""A straightforward Vid2Seq in Python, as people run it today: vid2seq.py BUNDLE FOLDER OUT

One video after the other: ffmpeg with `fps=1` decodes it, PyTorch encodes the pictures, transformers' `generate` writes the
events. BUNDLE is a bundle of ours, of which only `bundle.json`, the weights and the tokenizer are read; the networks are
PyTorch's and transformers' own. FOLDER holds videos, with what is said in a `.vtt` of the same name. OUT becomes JSON: for
each video its `events` (times in milliseconds) and the `seconds` of each stage.

It is meant to be fair: the model is loaded once, all cores are used, nothing is kept in gradients, and of a long video only
the pictures that the model looks at are encoded, though those who published the model encode every picture.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

BATCH = 32
VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".mpg", ".webm"}
STAGES = ["probe", "decode", "encode", "generate"]


def main(bundle, folder, out):
    torch.set_grad_enabled(False)
    model = Model(Path(bundle))
    files = [file for file in sorted(Path(folder).iterdir()) if file.suffix in VIDEOS]
    Path(out).write_text(json.dumps({file.name: model.video(file) for file in files}))


class Model:
    def __init__(self, bundle):
        self.manifest = json.loads((bundle / "bundle.json").read_text())
        self.weights = load_file(bundle / "model.safetensors")
        self.text = t5(self.manifest["t5"], self.weights)
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(bundle / "tokenizer.model"))
        decoding = self.manifest["decoding"]
        self.beams, self.tokens = decoding["beams"], decoding["max_output_tokens"]
        self.penalty = decoding["length_penalty"]

    def video(self, file):
        marks = [time.perf_counter()]

        def marked(value):
            marks.append(time.perf_counter())
            return value

        width, height, duration = marked(probe(file))
        frames = marked(decode(file, width, height, self.manifest["vision"]["image_size"]))
        features = self.features(chosen(frames, self.manifest["frames"]))
        memory = marked(temporal(self.manifest["temporal"], self.weights, features))
        events = marked(self.events(memory, cues(file.with_suffix(".vtt")), duration))
        seconds = dict(zip(STAGES, np.diff(marks).tolist()))
        return {"events": events, "seconds": seconds}

    def features(self, frames):
        rows = [vision(self.manifest["vision"], self.weights, some) for some in frames.split(BATCH)]
        found = torch.cat(rows)
        missing = self.manifest["frames"]["count"] - len(found)
        return F.pad(found, (0, 0, 0, missing))

    def events(self, video, said, duration):
        ids = torch.tensor([self.input_ids(said, duration)])
        words = self.text.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        memory = torch.cat([video[None], words], dim=1)
        found = self.text.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory),
            attention_mask=torch.ones(memory.shape[:2], dtype=torch.long),
            do_sample=False,
            num_beams=self.beams,
            max_new_tokens=self.tokens,
            length_penalty=self.penalty,
            output_scores=True,
            return_dict_in_generate=True,
        )
        scores = self.text.compute_transition_scores(found.sequences, found.scores, found.beam_indices)
        tokens = found.sequences[0, 1:].tolist()
        return self.parse(tokens, scores[0].tolist(), duration)

    def input_ids(self, said, duration):
        rule, times = self.manifest["text"], self.manifest["time_tokens"]
        ids = []
        for start, end, text in said:
            if start < 0 or end > duration:
                continue
            text = text.strip().capitalize()
            text += "" if text.endswith(".") else "."
            for moment in (start, end):
                ids.append(times["first_id"] + int((times["bins"] - 1) * moment / duration))
            ids += self.pieces.encode(text)
        return ids[: rule["max_input_tokens"] - 1] + [rule["eos_id"]]

    def parse(self, tokens, scores, duration):
        rule, times = self.manifest["text"], self.manifest["time_tokens"]
        first, last = times["first_id"], times["first_id"] + times["bins"] - 1
        is_time = lambda token: first <= token <= last
        if rule["eos_id"] in tokens:
            tokens = tokens[: tokens.index(rule["eos_id"])]
        kept = [(token, score) for token, score in zip(tokens, scores) if is_time(token) or 2 < token < len(self.pieces)]
        starts = [at for at in range(len(kept) - 1) if is_time(kept[at][0]) and is_time(kept[at + 1][0])]
        events = []
        for at, end in zip(starts, starts[1:] + [len(kept)]):
            text = [(token, score) for token, score in kept[at + 2 : end] if not is_time(token)]
            caption = " ".join(self.pieces.decode([token for token, _ in text]).split())
            bounds = [(token - first) * duration / (times["bins"] - 1) for token, _ in kept[at : at + 2]]
            if caption and bounds[0] < bounds[1]:
                score = float(np.mean([score for _, score in kept[at : at + 2] + text]))
                start_ms, end_ms = (round(1000 * bound) for bound in bounds)
                events.append({"start_ms": start_ms, "end_ms": end_ms, "caption": tidy(caption), "score": score})
        return events


def tidy(text):
    for mark in [".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"]:
        text = text.replace(f" {mark}", mark)
    return text


def probe(file):
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", "-select_streams", "v:0"]
    told = json.loads(subprocess.run([*command, file], check=True, capture_output=True).stdout)
    stream = told["streams"][0]
    duration = stream.get("duration") or told["format"]["duration"]
    return stream["width"], stream["height"], float(duration)


def decode(file, width, height, size):
    """All pictures of the video, one a second: `[pictures, size, size, 3]`."""
    if height >= width:
        width, height = size, int(height * size / width)
    else:
        width, height = int(width * size / height), size
    left, top = (width - size) // 2, (height - size) // 2
    filters = f"fps=1,scale={width}:{height},format=rgb24,crop={size}:{size}:{left}:{top}"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", file, "-an", "-sn", "-vf", filters]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    pixels = subprocess.run(command, check=True, capture_output=True).stdout
    return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(-1, size, size, 3)


def chosen(frames, rule):
    count, total = rule["count"], len(frames)
    if total <= count:
        return frames
    if rule["pick"] == "floor":
        return frames[[at * total // count for at in range(count)]]
    return frames[np.linspace(0.0, total - 1, count, dtype=np.float32).astype(np.int64)]


def cues(file):
    """What is said: start and end in seconds, and the words."""
    if not file.exists():
        return []
    moment = r"(?:(\d+):)?(\d+):(\d+\.\d+)"
    found = []
    for block in re.split(r"\n\s*\n", file.read_text()):
        times = re.search(f"{moment} --> {moment}", block)
        if times:
            parts = [float(part or 0) for part in times.groups()]
            start, end = (h * 3600 + m * 60 + s for h, m, s in (parts[:3], parts[3:]))
            found.append((start, end, " ".join(block[times.end() :].split("\n")[1:])))
    return found


def linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"].T, weights.get(f"{name}.bias"))


def norm(weights, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def block(weights, name, x, heads, eps, activation):
    """A layer of a transformer with its norms first."""
    parts = linear(weights, f"{name}.attention.query_key_value", norm(weights, f"{name}.attention_norm", x, eps))
    parts = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts.chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    x = x + linear(weights, f"{name}.attention.output", mixed)
    wide = linear(weights, f"{name}.feed_forward.input", norm(weights, f"{name}.feed_forward_norm", x, eps))
    return x + linear(weights, f"{name}.feed_forward.output", activation(wide))


def vision(rule, weights, frames):
    """OpenAI's CLIP: the first token becomes the feature."""
    mean, std = (torch.tensor(rule[name]) for name in ("mean", "std"))
    pixels = ((frames.float() / 255 - mean) / (std + rule["std_eps"])).permute(0, 3, 1, 2)
    eps = rule["layer_norm_eps"]
    patches = F.conv2d(pixels, weights["vision.patch_embedding.weight"], stride=rule["patch"])
    patches = patches.flatten(2).transpose(1, 2)
    first = weights["vision.class_embedding"].expand(len(frames), 1, rule["width"])
    x = torch.cat([first, patches], dim=1) + weights["vision.position_embedding"]
    x = norm(weights, "vision.input_norm", x, eps)
    for layer in range(rule["layers"]):
        x = block(weights, f"vision.{layer}", x, rule["heads"], eps, lambda wide: wide * torch.sigmoid(1.702 * wide))
    x = norm(weights, "vision.output_norm", x[:, 0], eps)
    return linear(weights, "vision.projection", x)


def temporal(rule, weights, features):
    gelu = {"erf": "none", "tanh": "tanh"}[rule["activation"]]
    eps = rule["layer_norm_eps"]
    x = (features + weights["temporal.position_embedding"])[None]
    for layer in range(rule["depth"]):
        x = block(weights, f"temporal.{layer}", x, rule["heads"], eps, lambda wide: F.gelu(wide, approximate=gelu))
    x = norm(weights, "temporal.output_norm", x, eps)
    return linear(weights, "temporal.projection", x)[0] if rule["projection"] else x[0]


def t5(rule, weights):
    """transformers' own T5 with our weights."""
    assert rule["feed_forward"] == "relu" and rule["tied"], "a T5 of version 1.0"
    config = T5Config(
        vocab_size=rule["vocab_size"],
        d_model=rule["d_model"],
        d_kv=rule["d_kv"],
        d_ff=rule["d_ff"],
        num_layers=rule["encoder_layers"],
        num_decoder_layers=rule["decoder_layers"],
        num_heads=rule["heads"],
        relative_attention_num_buckets=rule["relative_buckets"],
        relative_attention_max_distance=rule["relative_max_distance"],
        layer_norm_epsilon=rule["layer_norm_eps"],
        decoder_start_token_id=0,
        tie_word_embeddings=True,
    )
    table = weights["text.embedding.weight"]
    state = {"shared.weight": table}
    for side, layers in [("encoder", rule["encoder_layers"]), ("decoder", rule["decoder_layers"])]:
        ours = f"text.{side}"
        state[f"{side}.embed_tokens.weight"] = table
        state[f"{side}.final_layer_norm.weight"] = weights[f"{ours}.output_norm.weight"]
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        state[bias] = weights[f"{ours}.relative_bias.weight"]
        for layer in range(layers):
            state |= t5_layer(weights, f"{ours}.{layer}", f"{side}.block.{layer}.layer", side == "decoder")
    state["lm_head.weight"] = table
    model = T5ForConditionalGeneration(config).eval()
    model.load_state_dict(state)
    return model


def t5_layer(weights, ours, theirs, is_decoder):
    kinds = [("self_attention", "SelfAttention"), ("cross_attention", "EncDecAttention")]
    kinds = kinds if is_decoder else [("attention", "SelfAttention")]
    state = {}
    for number, (our, their) in enumerate(kinds):
        state[f"{theirs}.{number}.layer_norm.weight"] = weights[f"{ours}.{our}_norm.weight"]
        for part, letter in [("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")]:
            weight = weights[f"{ours}.{our}.{part}.weight"]
            state[f"{theirs}.{number}.{their}.{letter}.weight"] = weight.T.contiguous()
    last = len(kinds)
    state[f"{theirs}.{last}.layer_norm.weight"] = weights[f"{ours}.feed_forward_norm.weight"]
    for part, letters in [("input", "wi"), ("output", "wo")]:
        weight = weights[f"{ours}.feed_forward.{part}.weight"]
        state[f"{theirs}.{last}.DenseReluDense.{letters}.weight"] = weight.T.contiguous()
    return state


if __name__ == "__main__":
    main(*sys.argv[1:])
