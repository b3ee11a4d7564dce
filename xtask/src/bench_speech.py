"""Transcribes files with faster-whisper: bench_speech.py MODEL_FOLDER FILE...

Beam of 5, voice detector, word times, one thread, float32. Prints a JSON list with the text of each file.
"""
import json
import sys

from faster_whisper import WhisperModel

model = WhisperModel(sys.argv[1], device="cpu", compute_type="float32", cpu_threads=1)
texts = []
for path in sys.argv[2:]:
    segments, _ = model.transcribe(path, beam_size=5, vad_filter=True, word_timestamps=True)
    texts.append("".join(segment.text for segment in segments))
print(json.dumps(texts))
