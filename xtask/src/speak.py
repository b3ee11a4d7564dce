"""Speaks sentences with a Piper voice: speak.py VOICE ESPEAK ESPEAK_DATA FOLDER SENTENCE...

Writes FOLDER/0.wav, 1.wav, ... (mono, 16 bit) without silence around the speech, and prints their lengths in
milliseconds as a JSON list. The voice's noise is off, so the same sentence always sounds the same.
"""
import ctypes
import json
import os
import sys
import wave

import numpy
import onnxruntime

PHONEMES_IN_UTF8, TEXT_IN_UTF8, RETRIEVAL = 0x02, 1, 2
SILENCE = 0.01  # of the loudest sample


def phonemes(library, sentence):
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    text = ctypes.create_string_buffer(sentence.encode())
    rest = ctypes.c_void_p(ctypes.addressof(text))
    clauses = []
    while rest.value:
        clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), TEXT_IN_UTF8, PHONEMES_IN_UTF8).decode())
    return " ".join(clauses) + "."


def speech(session, ids_of, spoken):
    ids = ids_of["^"] + [0]
    for symbol in spoken:
        for number in ids_of.get(symbol, []):
            ids += [number, 0]
    ids += ids_of["$"]
    sound = session.run(None, {
        "input": numpy.array([ids], numpy.int64),
        "input_lengths": numpy.array([len(ids)], numpy.int64),
        "scales": numpy.array([0.0, 1.0, 0.0], numpy.float32),
    })[0].squeeze()
    heard = numpy.flatnonzero(numpy.abs(sound) > SILENCE * numpy.abs(sound).max())
    sound = sound[heard[0]:heard[-1] + 1]
    return (sound / numpy.abs(sound).max() * 30000).astype(numpy.int16)


def main(voice, espeak, espeak_data, folder, *sentences):
    library = ctypes.CDLL(espeak)
    if library.espeak_Initialize(RETRIEVAL, 0, espeak_data.encode(), 0) < 0:
        sys.exit(f"espeak-ng cannot read {espeak_data}")
    if library.espeak_SetVoiceByName(b"en-us") != 0:
        sys.exit("espeak-ng has no voice en-us")
    with open(voice + ".json") as file:
        settings = json.load(file)
    rate = settings["audio"]["sample_rate"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(voice, options, providers=["CPUExecutionProvider"])
    lengths = []
    for number, sentence in enumerate(sentences):
        sound = speech(session, settings["phoneme_id_map"], phonemes(library, sentence))
        with wave.open(os.path.join(folder, f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(sound.tobytes())
        lengths.append(len(sound) * 1000 // rate)
    print(json.dumps(lengths))


main(*sys.argv[1:])
