"""Writes NAME.json beside itself: what CTranslate2 says of a Whisper, for our graphs to be compared with.

    python make.py NAME MODEL_FOLDER RECORDING.wav

NAME is `base` or `tiny-en`, MODEL_FOLDER holds `model.bin` (the halves put together), the recording is beckett.wav.
Needs ctranslate2 4.8.5 (MIT), faster-whisper 1.2.1 (MIT), numpy 2.4.6. All in float32 on the processor.
"""

import json
import sys
from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper.audio import decode_audio
from faster_whisper.feature_extractor import FeatureExtractor

name, folder, recording = sys.argv[1:]
model = ctranslate2.models.Whisper(folder, device="cpu", compute_type="float32")
sound = decode_audio(recording)[: 16000 * 10]


def picture(bands):
    padded = np.zeros(480000, np.float32)
    padded[: len(sound)] = sound
    return FeatureExtractor(feature_size=bands)(padded, padding=0)[:, :3000].astype(np.float32)


def sampled(values, step):
    """Every `step`th value of a flattened array."""
    return [float(f"{value:.6g}") for value in np.asarray(values).reshape(-1)[::step]]


mel = picture(80)
memory = model.encode(ctranslate2.StorageView.from_array(mel[None]))
start = [50258, 50259, 50359] if model.is_multilingual else [50257]
silent = {"suppress_blank": False, "suppress_tokens": []}
plain = start + [50363 if model.is_multilingual else 50362]
greedy = model.generate(
    memory, [plain], beam_size=1, max_length=200, return_logits_vocab=True, return_scores=True,
    return_no_speech_prob=True, **silent
)[0]
tokens = greedy.sequences_ids[0]
said = {
    "recording": Path(recording).name,
    "sound": sampled(sound, 9973),
    "mel": {"step": 997, "values": sampled(mel, 997)},
    "mel_128": {"step": 997, "values": sampled(picture(128), 997)},
    "memory": {"step": 1009, "values": sampled(np.array(memory), 1009)},
    "prompt": plain,
    "tokens": tokens,
    "logits": {"step": 521, "values": [sampled(row, 521) for row in greedy.logits[0][:6]]},
    "no_speech": greedy.no_speech_prob,
    "languages": {} if not model.is_multilingual else {
        code[2:-2]: probability for code, probability in model.detect_language(memory)[0][:5]
    },
}
Path(__file__).with_name(f"{name}.json").write_text(json.dumps(said) + "\n")
print({key: (value if len(str(value)) < 300 else len(str(value))) for key, value in said.items()})
