"""Brings 100 frames of a video, evenly apart, with PyAV: bench_decode.py FILE exact|keyframe

Seeks to the key frame before each moment, and decodes up to it, or takes the key frame. One thread. Prints how many.
"""
import sys

import av

path, mode = sys.argv[1:]
with av.open(path) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    if mode == "keyframe":
        stream.codec_context.skip_frame = "NONKEY"
    length = container.duration / av.time_base
    brought = 0
    for place in range(100):
        moment = (place + 0.5) * length / 100
        container.seek(int(moment / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if mode == "keyframe" or frame.time + 1 / float(stream.average_rate) > moment:
                frame.reformat(width=398, height=224, format="rgb24").to_ndarray()
                brought += 1
                break
print(brought)
