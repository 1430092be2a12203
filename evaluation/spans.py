"""Temporal localization: from a curve of dissimilarity to spans of time, and how well proposed spans meet the true ones.

Two ways to score.  The correct one: proposals in order of their scores, a hit at an IoU of at least the threshold, each true
span hit once, and the curve of precision closed at recall 0, so that perfect proposals have AP 1.  The official one gives the
figures of LAV-DF's and AV-Deepfake1M's published evaluators: an IoU above the threshold, the order in the file decides who
hits, and the curve is open at recall 0, so that n true spans allow an AP of 1 - 1/n.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from utils.cli import UserError
from utils.constants import LABELS
from utils.files import load_json, parse_json, read_table
from utils.media import CHUNK_FRAMES, FPS

CHUNK_S = CHUNK_FRAMES / FPS
AP_IOUS = (0.5, 0.75, 0.9, 0.95)
AR_IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
AR_COUNTS = (100, 50, 30, 20, 10, 5)  # proposals of a file that count
SMOOTH_S, FILL_S, MIN_SPAN_S = 0.4, 0.3, 0.2
REACH = 4  # standard deviations, beyond which a Gaussian is nothing
N_LEVELS = 40  # of the curve, at which spans are proposed
MIN_NEARNESS = 0.05  # IoU that counts for a span far from all at the threshold
BLOCK = 256  # spans whose IoU with others is computed at a time: an hour of video has thousands
MAX_PROPOSALS = 100  # of a file
SAME_IOU = 0.9  # of two proposals with a larger IoU the better one stays
LABEL_FIELDS = ("fake_periods", "fake_segments")  # of LAV-DF, of AV-Deepfake1M
HUGE = 1e300  # no number of seconds, and no score
EPS = 1e-9  # spans are decimal numbers: 0.75 may come out as 0.7499999999999999

Spans = Sequence[Sequence[float]]


def cells(start_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """Which time the score of each chunk stands for: from half-way to the chunk before to half-way to the next.

    Args:
        start_s: (n,) first seconds of overlapping or consecutive chunks, rising.

    Returns:
        Begin and end of each cell in seconds, (n,) each, and the runs of chunks without a hole between them. A run begins
        with its first chunk and ends with its last one.
    """
    if not len(start_s):
        return start_s, start_s, []
    is_hole = np.diff(start_s) > CHUNK_S + 1e-6
    between = (start_s[:-1] + start_s[1:] + CHUNK_S) / 2
    begin = np.concatenate([start_s[:1], np.where(is_hole, start_s[1:], between)])
    end = np.concatenate([np.where(is_hole, start_s[:-1] + CHUNK_S, between), start_s[-1:] + CHUNK_S])
    bounds = [0, *(np.flatnonzero(is_hole) + 1).tolist(), len(start_s)]
    return begin, end, [slice(*pair) for pair in itertools.pairwise(bounds)]


def smooth(start_s: np.ndarray, scores: np.ndarray, smooth_s: float = SMOOTH_S) -> np.ndarray:
    """The scores (n,) of chunks, each run smoothed over time by a Gaussian with a standard deviation of `smooth_s` seconds.

    A chunk weighs as much as the time that it stands for, so that chunks need not be evenly spaced.
    """
    smoothed = np.array(scores, np.float64)
    begin, end, runs = cells(start_s)
    for run in runs if smooth_s > 0 else ():
        times, widths, values = start_s[run], (end - begin)[run], scores[run]
        near = np.searchsorted(times, times - REACH * smooth_s), np.searchsorted(times, times + REACH * smooth_s, "right")
        for i, (first, stop) in enumerate(zip(*near, strict=True)):
            weights = widths[first:stop] * np.exp(-(((times[first:stop] - times[i]) / smooth_s) ** 2) / 2)
            smoothed[run.start + i] = np.average(values[first:stop], weights=weights)
    return smoothed


def find_spans(
    start_s: np.ndarray, scores: np.ndarray, threshold: float, fill_s: float = FILL_S, min_s: float = MIN_SPAN_S
) -> list[tuple[float, float, float]]:
    """The spans in which a curve is at least `threshold`; a hole in it ends a span.

    Gaps of at most `fill_s` seconds are filled, then spans shorter than `min_s` dropped.

    Args:
        start_s, scores: (n,) of chunks in order of time.

    Returns:
        (score, begin_s, end_s) in order of time; the score is the mean of the curve over the span.
    """
    begin, end, runs = cells(start_s)
    spans = []
    for run in runs:
        merged: list[list[int]] = []  # first and last chunk
        for i in range(run.start, run.stop):
            if scores[i] < threshold:
                continue
            if merged and begin[i] - end[merged[-1][1]] <= fill_s + EPS:
                merged[-1][1] = i
            else:
                merged.append([i, i])
        for first, last in merged:
            if end[last] - begin[first] >= min_s - EPS:
                inside = slice(first, last + 1)
                score = np.average(scores[inside], weights=end[inside] - begin[inside])
                spans.append((float(score), float(begin[first]), float(end[last])))
    return spans


def propose(start_s: np.ndarray, scores: np.ndarray, threshold: float) -> list[list[float]]:
    """Proposals for the fake spans of a track: the spans at the threshold and, since their ends are uncertain, at other levels.

    A span's score is its mean, times the square of its IoU with the nearest span at the threshold: on the curves of training
    videos this ranks better than the mean alone, or than its contrast with what is beside the span.

    Args:
        start_s, scores: (n,) of chunks in order of time.

    Returns:
        [score, begin_s, end_s] of each, the best first.
    """
    if not len(scores):
        return []
    found = find_spans(start_s, scores, threshold)
    levels = np.quantile(scores, np.linspace(0, 1, N_LEVELS)).tolist()
    spans = {span[1:]: span[0] for level in levels for span in find_spans(start_s, scores, level)}
    spans |= {span[1:]: span[0] for span in found}
    blocks = [list(spans)[i : i + BLOCK] for i in range(0, len(spans), BLOCK)]
    nearest = np.concatenate([span_iou(block, found).max(1, initial=MIN_NEARNESS) for block in blocks])
    rounded = [(round(begin_s, 3), round(end_s, 3)) for begin_s, end_s in spans]
    scored = zip(spans.values(), nearest.tolist(), rounded, strict=True)
    return best_proposals([mean * near**2, *span] for mean, near, span in scored)


def best_proposals(proposals: Iterable[Sequence[float]]) -> list[list[float]]:
    """Of proposals that are nearly the same the best; at most `MAX_PROPOSALS`, the best first."""
    kept: list[list[float]] = []
    for proposal in sorted(proposals, key=lambda p: (-p[0], *p[1:])):
        if len(kept) < MAX_PROPOSALS and not (kept and span_iou([proposal], kept).max() > SAME_IOU):
            kept.append(list(proposal))
    return kept


def span_iou(a: Spans, b: Spans) -> np.ndarray:
    """Intersection over union of spans; the last two numbers of each are begin and end: (len(a), len(b)), 0..1."""
    a, b = (np.array([span[-2:] for span in spans], np.float64).reshape(-1, 2) for spans in (a, b))
    shared = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    hull = np.maximum(a[:, None, 1], b[None, :, 1]) - np.minimum(a[:, None, 0], b[None, :, 0])  # their union, if they meet
    return np.clip(shared, 0, None) / np.maximum(hull, EPS)


def hits(proposals: Spans, labels: Spans, threshold: float, official: bool) -> np.ndarray:
    """Which proposals of a file, in their order, hit a true span that none before has hit: (n,) bool."""
    is_hit = np.zeros(len(proposals), bool)
    overlap = span_iou(proposals, labels)
    if official:  # each true span in turn takes the first proposal that is left
        for j in range(len(labels)):
            free = np.flatnonzero((overlap[:, j] > threshold) & ~is_hit)
            is_hit[free[:1]] = True
        return is_hit
    left = np.ones(len(labels), bool)
    for i in range(len(proposals)):  # each proposal in turn takes the nearest true span that is left
        nearest = np.where(left, overlap[i], -1.0)
        if len(labels) and nearest.max() >= threshold - EPS:
            left[nearest.argmax()] = False
            is_hit[i] = True
    return is_hit


def average_precision(labels: dict[str, Spans], proposals: dict[str, Spans], threshold: float, official: bool) -> float:
    """The area under the curve of precision against recall, interpolated, over the proposals of all files; 0..1.

    Args:
        labels: the true spans (begin, end) of each file.
        proposals: (score, begin, end) of each of these files, in the order that counts.
        threshold: IoU of a hit.
    """
    found = [hits(proposals[file], labels[file], threshold, official) for file in labels]
    scores = np.array([p[0] for file in labels for p in proposals[file]], np.float64)
    order = np.argsort(-scores, kind="stable")
    n_hits = np.concatenate([np.zeros(0, bool), *found])[order].cumsum()
    precision, recall = n_hits / np.arange(1, len(order) + 1), n_hits / sum(map(len, labels.values()))
    if official:
        recall, precision = np.append(recall, 1.0)[::-1], np.append(precision, 0.0)[::-1]
        return float(np.abs(np.diff(recall)) @ np.maximum.accumulate(precision)[:-1])
    is_last = np.append(np.diff(scores[order]) < 0, True)[: len(order)]  # proposals of equal score come together
    recall, precision = recall[is_last], precision[is_last]
    return float(np.diff(recall, prepend=0.0) @ np.maximum.accumulate(precision[::-1])[::-1])


def average_recall(labels: dict[str, Spans], proposals: dict[str, Spans], n: int, official: bool) -> float:
    """The share of true spans that one of the first n proposals of their file meets, averaged over `AR_IOUS`; 0..1."""
    n_met, best = np.zeros(len(AR_IOUS)), []
    for file, spans in labels.items():
        if len(spans):
            overlap = span_iou(proposals[file][:n], spans)
            best.append(overlap.max(0) if len(overlap) else np.zeros(len(spans)))
    for best_iou in best:
        reached = best_iou[:, None] > AR_IOUS if official else best_iou[:, None] >= np.subtract(AR_IOUS, EPS)
        n_met += reached.sum(0)
    return float(n_met.mean() / sum(map(len, labels.values())))


def localization_metrics(labels: dict[str, Spans], proposals: dict[str, Spans], official: bool = False) -> dict:
    """AP and AR of proposals.

    Args:
        labels: the true fake spans (begin, end) of each file, none of a real one.
        proposals: (score, begin, end) by file; those of other files do not count, files without any have none.
        official: as the published evaluators compute them.

    Returns:
        ap: by IoU; ar: by number of proposals; rates 0..1. n_files, n_spans, n_proposals; n_without_proposals: files with
        fake spans for which nothing was proposed; n_unlabelled: files with proposals and without labels.

    Raises:
        UserError: no true span.
    """
    n_spans = sum(map(len, labels.values()))
    if not n_spans:
        raise UserError(f"the labels of {len(labels)} files hold no fake span; AP and AR need at least one.")
    own = {file: proposals.get(file, []) for file in labels}
    if not official:
        own = {file: sorted(spans, key=lambda p: -p[0]) for file, spans in own.items()}
    return {
        "ap": {str(t): average_precision(labels, own, t, official) for t in AP_IOUS},
        "ar": {str(n): average_recall(labels, own, n, official) for n in AR_COUNTS},
        "official": official,
        "n_files": len(labels),
        "n_spans": n_spans,
        "n_proposals": sum(map(len, own.values())),
        "n_without_proposals": sum(1 for file, spans in labels.items() if len(spans) and not own[file]),
        "n_unlabelled": len(proposals.keys() - labels.keys()),
    }


def score_proposals(proposals: dict[str, Spans], labels: dict[str, Spans], official: bool) -> dict:
    """`localization_metrics` of proposals whose files are named as `name_as_labelled` allows; UserError if none has a label."""
    names = name_as_labelled(proposals, labels)
    if proposals and not names:
        raise UserError(f"none of the {len(proposals)} files with proposals, the first {next(iter(proposals))}, is among the "
                        f"{len(labels)} labels, the first {next(iter(labels))}; name them alike.")  # fmt: skip
    return localization_metrics(labels, {names.get(file, file): spans for file, spans in proposals.items()}, official)


def localization_lines(metrics: dict) -> Iterator[str]:
    """The figures of `localization_metrics` as lines for the screen."""
    how = "; as the published evaluators compute it: AP is open at recall 0, so below 1" if metrics["official"] else ""
    yield f"{metrics['n_files']} files with {metrics['n_spans']} fake spans, {metrics['n_proposals']} proposals{how}"
    if metrics["n_without_proposals"]:
        yield f"{metrics['n_without_proposals']} files with fake spans have no proposal: they count as missed"
    if metrics["n_unlabelled"]:
        yield f"{metrics['n_unlabelled']} files with proposals have no label: they are left out"
    yield from (f"AP at IoU {threshold:<23}  {value:.4f}" for threshold, value in metrics["ap"].items())
    ious = f"IoU {AR_IOUS[0]} to {AR_IOUS[-1]}"
    yield from (f"AR of the best {f'{n} proposals':<19} {value:.4f}   mean over {ious}" for n, value in metrics["ar"].items())


def read_json(path: Path, expected: str) -> object:
    """Read a JSON file; UserError if it can't be read."""
    try:
        return load_json(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path} can't be read as JSON ({why}); expected {expected}.") from error


def checked_spans(spans: object, n: int, where: str) -> list[list[float]]:
    """Spans out of a file: lists of n finite numbers, the last two begin <= end; UserError for anything else."""
    expected = "[score, begin_s, end_s]" if n == 3 else "[begin_s, end_s]"
    if not isinstance(spans, list):
        raise UserError(f"{where} is {str(spans)[:80]}, expected a list of {expected}.")
    for span in spans:
        is_span = isinstance(span, list) and len(span) == n and all(type(x) in (int, float) and abs(x) < HUGE for x in span)
        if not (is_span and span[-2] <= span[-1]):
            raise UserError(f"{where} has {str(span)[:80]}, expected finite numbers {expected} with begin_s <= end_s.")
    return spans


def read_proposals(path: Path) -> dict[str, list[list[float]]]:
    """Read proposals: a JSON object {file: [[score, begin_s, end_s], ...]}; UserError for anything else."""
    expected = '{"file": [[score, begin_s, end_s], ...], ...}'
    value = read_json(path, expected)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, expected an object {expected}.")
    return {file: checked_spans(spans, 3, f"{path}: {file}") for file, spans in value.items()}


def read_labels(path: Path, split: str | None = None) -> dict[str, list[list[float]]]:
    """Read true spans: a JSON list of records with `file` and `fake_periods` (LAV-DF) or `fake_segments` (AV-Deepfake1M), each
    a list of [begin_s, end_s]; of those whose field `split` is `split`, if one is given. Or an index.csv of collect.py, in which
    videos of unknown periods are left out. UserError for anything else.
    """
    if path.suffix == ".csv":
        return read_index_labels(path)
    expected = f"a list of records with file and {' or '.join(LABEL_FIELDS)}"
    records = read_json(path, expected)
    if not isinstance(records, list) or not records:
        raise UserError(f"{path} holds {'nothing' if not records else f'a {type(records).__name__}'}, expected {expected}.")
    labels, splits = {}, set()
    for i, record in enumerate(records):
        field = next((name for name in LABEL_FIELDS if name in record), None) if isinstance(record, dict) else None
        if field is None or not isinstance(record.get("file"), str):
            raise UserError(f"{path}: record {i} is {str(record)[:80]}, expected {expected}.")
        if record["file"] in labels:
            raise UserError(f"{path}: {record['file']} is there twice, expected one record per file.")
        spans = checked_spans(record[field], 2, f"{path}: {record['file']}")
        splits.add(str(record.get("split")))
        if split in (None, record.get("split")):
            labels[record["file"]] = spans
    if not labels:
        raise UserError(f"{path} has no record of the split {split!r}; it has {', '.join(sorted(splits))}.")
    return labels


def name_as_labelled(files: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """The labels' name of each file that has one.

    That is the same name, else the longest one that the file's path ends with ("/data/test/fake/a.mp4": "test/fake/a.mp4"),
    else the only one that ends with the file's name ("a.mp4": "test/fake/a.mp4"). Where several files would have one name so,
    none of them has it, but the one of the same name.
    """
    known = set(labels)
    longer: dict[str, list[str]] = {}  # by each tail of theirs
    for name in known:
        for tail in tails(name)[1:]:
            longer.setdefault(tail, []).append(name)
    names = {}
    for file in files:
        found = [tail for tail in tails(file) if tail in known][:1] or longer.get(file, [])
        if len(found) == 1:
            names[file] = found[0]
    n_files = Counter(names.values())
    return {file: name for file, name in names.items() if file == name or n_files[name] == 1}


def tails(name: str) -> list[str]:
    """A path with "/" and what is left of it without its first part, its first two, ..."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def read_index_labels(path: Path) -> dict[str, list[list[float]]]:
    """True spans of the videos of an index.csv, by `file`; UserError if it holds none."""
    rows = read_table(path)
    if not rows or not {"file", "label", "fake_periods"} <= rows[0].keys():
        raise UserError(f"{path} can't be read as an index; expected the columns file, label and fake_periods.")
    labels: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["fake_periods"] or row["label"] == str(LABELS["real"]):
            try:
                spans = parse_json(row["fake_periods"].encode(errors="surrogateescape") or b"[]")
            except ValueError as error:
                raise UserError(
                    f"{path}: {row['file']} has the fake_periods {row['fake_periods'][:80]!r}, expected JSON."
                ) from error
            labels[row["file"]] = checked_spans(spans, 2, f"{path}: {row['file']}")
    return labels
