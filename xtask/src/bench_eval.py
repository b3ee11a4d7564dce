"""Scores predictions with the published Python scorers: bench_eval.py PREDICTIONS REFERENCES...

The protocol is that of densevid_eval: for each threshold and video, the pairs of predictions and references that overlap
enough, with the word that matches nothing for a prediction without any; CIDEr, BLEU and ROUGE-L over the pairs of a video,
then means over videos and thresholds. Prints one JSON object.
"""
import json
import sys

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

THRESHOLDS = [0.3, 0.5, 0.7, 0.9]


def read(paths):
    predictions = json.load(open(paths[0]))["results"]
    events = lambda entry: list(zip(entry["timestamps"], entry["sentences"]))
    sets = [{v: events(e) for v, e in json.load(open(path)).items()} for path in paths[1:]]
    predictions = {v: [(e["timestamp"], e["sentence"]) for e in es] for v, es in predictions.items()}
    return predictions, sets


def tokenise(predictions, sets):
    captions = {}
    for name, videos in [("p", predictions)] + [(str(n), videos) for n, videos in enumerate(sets)]:
        for video, events in videos.items():
            for place, (_, text) in enumerate(events):
                captions[f"{name}/{video}/{place}"] = [{"caption": text}]
    return {key: tokens[0] for key, tokens in PTBTokenizer().tokenize(captions).items()}


def iou(a, b):
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = min(max(a[1], b[1]) - min(a[0], b[0]), a[1] - a[0] + b[1] - b[0])
    return inter / (union + 1e-8)


def localisation(predicted, sets, threshold):
    precision = recall = 0.0
    for references in sets:
        hits = [[iou(p[0], r[0]) > threshold for r in references] for p in predicted]
        precision = max(precision, sum(map(any, hits)) / max(len(predicted), 1))
        recall = max(recall, sum(map(any, zip(*hits))) / len(references))
    return precision, recall


def captions(video, predicted, sets, tokens, threshold):
    gts, res = {}, {}
    for place, (span, _) in enumerate(predicted):
        hypothesis = tokens[f"p/{video}/{place}"]
        found = [
            tokens[f"{n}/{video}/{other}"]
            for n, references in sets
            for other, (reference, _) in enumerate(references)
            if iou(span, reference) >= threshold
        ]
        for reference in found or ["qxzjvkwqxzj"]:
            key = len(gts)
            gts[key], res[key] = [reference], [hypothesis]
    if not gts:
        return [0.0] * 6
    cider, _ = Cider().compute_score(gts, res)
    rouge, _ = Rouge().compute_score(gts, res)
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    return [float(cider), float(rouge)] + bleu


def main(paths):
    predictions, sets = read(paths)
    tokens = tokenise(predictions, sets)
    names = ["cider", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"]
    sums = dict.fromkeys(names + ["precision", "recall", "f1_of_means"], 0.0)
    for threshold in THRESHOLDS:
        scored = []
        for video, predicted in predictions.items():
            having = [(n, videos[video]) for n, videos in enumerate(sets) if video in videos]
            where = localisation(predicted, [references for _, references in having], threshold)
            scored.append(list(where) + captions(video, predicted, having, tokens, threshold))
        precision, recall, *means = [sum(column) / len(scored) for column in zip(*scored)]
        f1 = 2 * precision * recall / (precision + recall)
        for name, mean in zip(sums, means + [precision, recall, f1]):
            sums[name] += mean / len(THRESHOLDS)
    print(json.dumps(sums))


main(sys.argv[1:])
