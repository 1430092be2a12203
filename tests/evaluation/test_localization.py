"""Spans out of curves, and AP and AR: hand-worked cases, and the published evaluators' figures."""

import json

import numpy as np
import pytest

from evaluation.span_files import name_as_labelled, read_labels, read_proposals
from evaluation.spans import average_precision, localization_metrics, span_iou
from tests.conftest import GOLDEN
from utils.cli import UserError
from verdicts.curve import best_proposals, cells, find_spans, propose, smooth

AP, AR = ("0.5", "0.75", "0.9", "0.95"), ("100", "50", "20", "10", "5")


def ap(labels, proposals, threshold=0.5, official=False) -> float:
    return average_precision(labels, {file: proposals.get(file, []) for file in labels}, threshold, official)


def test_iou_by_hand():
    spans = span_iou([[0.9, 0, 4], [0.8, 2, 3], [0.7, 5, 6]], [[0, 2], [2, 4]])
    assert spans.tolist() == [[0.5, 0.5], [0.0, 0.5], [0.0, 0.0]]
    assert span_iou([[1, 1]], [[1, 1]]).tolist() == [[0.0]] and span_iou([], [[0, 1]]).shape == (0, 1)


def test_perfect_proposals_have_an_ap_of_1_and_officially_less():
    labels = {"a": [[0, 1]], "b": [[2, 3]], "real": []}
    proposals = {"a": [[0.9, 0, 1]], "b": [[0.8, 2, 3]]}
    metrics = localization_metrics(labels, proposals)
    assert metrics["ap"] == dict.fromkeys(AP, 1.0)
    assert {n: metrics["ar"][n] for n in AR} == dict.fromkeys(AR, 1.0)
    official = localization_metrics(labels, proposals, official=True)
    assert official["ap"] == dict.fromkeys(AP, 0.5)  # 1 - 1/n: the curve is open at recall 0
    proposals["a"] = [[0.95, 5, 6], [0.9, 0, 1]]  # a false alarm on top of all
    assert ap(labels, proposals) == pytest.approx(2 / 3)  # precision 2/3 at every recall
    assert ap(labels, proposals, official=True) == pytest.approx(2 / 3)  # more than without the false alarm


def test_average_precision_by_hand():
    labels = {"a": [[0, 2], [4, 6]], "b": [[1, 2]], "c": [[3, 4]]}
    proposals = {"a": [[0.9, 0, 2], [0.7, 0, 2], [0.5, 4, 6]], "b": [[0.8, 7, 8], [0.6, 1, 2]], "c": []}
    # in order of score: hit, miss, miss (taken), hit, hit; precision 1, 1/2, 1/3, 1/2, 3/5 at recall 1/4, .,
    # ., 2/4, 3/4
    assert ap(labels, proposals) == pytest.approx(1 / 4 * 1 + 2 / 4 * 3 / 5)
    shuffled = {"a": [[0.5, 4, 6], [0.9, 0, 2], [0.7, 0, 2]], "b": [[0.6, 1, 2], [0.8, 7, 8]]}
    metrics = localization_metrics(labels, shuffled)
    assert metrics["ap"]["0.5"] == pytest.approx(1 / 4 + 3 / 10)  # the order in the file does not matter
    assert metrics["ar"]["5"] == pytest.approx(3 / 4)
    assert metrics["n_without_proposals"] == 1 and metrics["n_spans"] == 4


def test_an_iou_equal_to_the_threshold_is_a_hit_and_officially_a_miss():
    labels, proposals = {"a": [[0, 4]]}, {"a": [[0.9, 0, 3]]}  # IoU 0.75
    assert ap(labels, proposals, 0.75) == 1 and ap(labels, proposals, 0.75, official=True) == 0
    assert ap({"a": [[0.1, 0.4]]}, {"a": [[1, 0.1, 0.25]]}) == 1  # 0.5, though not in binary
    assert localization_metrics(labels, proposals)["ar"]["5"] == pytest.approx(6 / 10)  # 0.5, 0.55, ... 0.75
    assert localization_metrics(labels, proposals, official=True)["ar"]["5"] == pytest.approx(5 / 10)


def test_each_true_span_is_hit_once_by_the_best():
    labels = {"a": [[0, 10], [0, 8]]}
    assert (
        ap(labels, {"a": [[0.9, 0, 8], [0.8, 0, 10]]}, 0.75) == 1.0
    )  # each takes the span that it meets best
    assert ap(labels, {"a": [[0.9, 0, 8], [0.8, 0, 8]]}, 0.75) == 1.0
    assert ap(labels, {"a": [[0.9, 0, 8], [0.8, 0, 8], [0.7, 0, 8]]}, 0.75) == 1.0


def test_equal_scores_count_together():
    labels = {"a": [[0, 1]]}
    assert (
        ap(labels, {"a": [[0.5, 0, 1], [0.5, 5, 6]]}) == ap(labels, {"a": [[0.5, 5, 6], [0.5, 0, 1]]}) == 0.5
    )


def test_average_recall_takes_the_best_n():
    labels = {"a": [[0, 1]]}
    proposals = {"a": [[0.1, 0, 1], *[[0.9 - i / 100, 10 + i, 11 + i] for i in range(5)]]}
    metrics = localization_metrics(labels, proposals)
    assert (metrics["ar"]["5"], metrics["ar"]["10"]) == (0, 1)
    assert (
        localization_metrics(labels, proposals, official=True)["ar"]["5"] == 1
    )  # the first five of the file


@pytest.mark.parametrize("case", ["a", "b"])
def test_official_figures_equal_the_published_evaluators(case):
    facts = json.loads((GOLDEN / f"localization_{case}.json").read_text())
    metrics = localization_metrics(facts["labels"], facts["proposals"], official=True)
    assert {t: metrics["ap"][t] for t in facts["official_ap"]} == pytest.approx(
        facts["official_ap"], abs=1e-6
    )
    assert {n: metrics["ar"][n] for n in facts["official_ar"]} == pytest.approx(
        facts["official_ar"], abs=1e-6
    )


def test_no_proposals_no_labels():
    assert localization_metrics({"a": [[0, 1]]}, {})["ap"]["0.5"] == 0
    assert localization_metrics({"a": [[0, 1]]}, {"a": []}, official=True)["ar"]["100"] == 0
    assert localization_metrics({"a": [[0, 1]]}, {"other": [[1, 0, 1]]})["n_unlabelled"] == 1
    with pytest.raises(UserError, match="no fake span"):
        localization_metrics({"a": []}, {"a": [[1, 0, 1]]})


def test_cells_meet_half_way_and_end_with_their_chunks():
    begin, end, runs = cells(np.array([0.0, 1.0, 2.0]))
    assert begin.tolist() == [0, 1, 2] and end.tolist() == [1, 2, 3] and runs == [slice(0, 3)]
    begin, end, runs = cells(np.array([0.0, 0.2, 0.4, 3.0]))  # a hole from 1.4 to 3
    assert begin == pytest.approx([0, 0.6, 0.8, 3]) and end == pytest.approx([0.6, 0.8, 1.4, 4])
    assert runs == [slice(0, 3), slice(3, 4)]
    assert cells(np.array([]))[2] == []


def test_spans_by_hand():
    start = np.arange(8.0)
    scores = np.array([1, 5, 5, 1, 9, 1, 1, 5.0])
    assert find_spans(start, scores, 4) == [(5.0, 1.0, 3.0), (9.0, 4.0, 5.0), (5.0, 7.0, 8.0)]
    assert find_spans(start, scores, 4, fill_s=1) == [(5.0, 1.0, 5.0), (5.0, 7.0, 8.0)]  # (5 + 5 + 1 + 9) / 4
    assert find_spans(start, scores, 4, min_s=1.5) == [(5.0, 1.0, 3.0)]
    assert find_spans(start, scores, 10) == [] and find_spans(start, scores, 5)[0] == (
        5.0,
        1.0,
        3.0,
    )  # at or above
    holed = np.array([0, 1, 2, 4, 5.0])  # nothing is known of second 3
    assert find_spans(holed, np.full(5, 9.0), 4, fill_s=9) == [(9.0, 0.0, 3.0), (9.0, 4.0, 6.0)]
    assert find_spans(np.array([]), np.array([]), 4) == []


def test_spans_of_overlapping_chunks_have_no_bias():
    """A chunk scores by how much of it is fake; the span found must be the fake one, not a chunk longer."""
    start = np.arange(0, 9.01, 0.2)
    share = np.clip(np.minimum(start + 1, 6.5) - np.maximum(start, 3.5), 0, 1)
    ((_, begin, end),) = find_spans(start, smooth(start, share, 0.2), 0.5)
    assert begin == pytest.approx(3.5, abs=0.11) and end == pytest.approx(6.5, abs=0.11)


def test_smoothing_keeps_to_its_run():
    start = np.array([0, 1, 2, 5, 6.0])
    uneven = np.array([0, 0.2, 0.4, 1.0, 1.2, 1.4, 2.0])
    bump = np.exp(-(((uneven - 1.2) / 0.3) ** 2))
    even = np.arange(0, 2.01, 0.05)
    fine = smooth(even, np.exp(-(((even - 1.2) / 0.3) ** 2)), 0.2)
    assert smooth(uneven, bump, 0.2)[4] == pytest.approx(
        np.interp(1.2, even, fine), rel=0.1
    )  # whatever the spacing
    assert smooth(start, np.array([1, 1, 1, 9, 9.0]), 2.0) == pytest.approx([1, 1, 1, 9, 9])
    assert smooth(start, np.array([1, 5, 1, 9, 9.0]), 0.2) == pytest.approx([1, 5, 1, 9, 9], abs=1e-3)
    rough = np.tile([0.0, 2.0], 20)
    assert np.ptp(smooth(np.arange(40) * 0.2, rough, 0.4)[5:-5]) < 0.05


def test_proposals_rank_the_span_at_the_threshold_first():
    start = np.arange(0, 9.01, 0.2)
    share = 1 + 9 * np.clip(np.minimum(start + 1, 6.5) - np.maximum(start, 3.5), 0, 1)
    best, *others = propose(start, share, 5.0)
    assert best[1:] == pytest.approx([3.5, 6.5], abs=0.25) and len(others) > 2
    assert all(best[0] >= other[0] for other in others)
    assert propose(np.array([]), np.array([]), 5.0) == []
    assert propose(np.arange(3.0), np.full(3, 7.0), 5.0) == [[7.0, 0.0, 3.0]]
    assert propose(np.arange(3.0), np.full(3, 7.0), 8.0) == [
        [pytest.approx(7 * 0.05**2), 0.0, 3.0]
    ]  # below the threshold


def test_nearly_equal_proposals_are_one():
    assert best_proposals([[0.5, 0, 1], [0.9, 0, 1.05], [0.7, 3, 4]]) == [[0.9, 0, 1.05], [0.7, 3, 4]]
    assert len(best_proposals([[i, i, i + 1] for i in range(300)])) == 100


def test_files_find_their_labels():
    labels = ["test/fake/a.mp4", "test/real/a.mp4", "test/fake/b.mp4"]
    assert name_as_labelled(["test/fake/a.mp4", "b.mp4", "a.mp4", "x.mp4"], labels) == {
        "test/fake/a.mp4": "test/fake/a.mp4",
        "b.mp4": "test/fake/b.mp4",
    }
    assert name_as_labelled(["/data/test/real/a.mp4"], [*labels, "a.mp4"]) == {
        "/data/test/real/a.mp4": "test/real/a.mp4"
    }
    assert name_as_labelled(["x/b.mp4", "b.mp4"], ["b.mp4"]) == {"b.mp4": "b.mp4"}
    assert name_as_labelled(["x/b.mp4", "y/b.mp4"], ["b.mp4"]) == {}  # which one?


def test_the_script_scores_proposals(scripts, tmp_path, capsys):
    proposals, labels = tmp_path / "p.json", tmp_path / "l.json"
    proposals.write_text('{"fake/a.mp4": [[0.9, 1, 2]], "x.mp4": [[1.0, 0, 1]]}')
    labels.write_text(
        '[{"file": "test/fake/a.mp4", "fake_periods": [[1, 2]]}, {"file": "b", "fake_periods": [[0, 9]]}]'
    )
    flags = ["--proposals", str(proposals), "--labels", str(labels), "--scores_dir", str(tmp_path)]
    scripts["test"].main(flags)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["ap"]["0.95"] == 0.5 and metrics["ar"]["5"] == 0.5
    out = capsys.readouterr().out
    assert (
        "AP at IoU 0.95                     0.5000\n" in out
        and "1 files with fake spans have no proposal" in out
    )
    assert "1 files with proposals have no label" in out
    scripts["test"].main([*flags, "--official"])
    assert json.loads((tmp_path / "metrics.json").read_text())["ap"]["0.95"] == 0
    proposals.write_text('{"x.mp4": [[1.0, 0, 1]]}')
    with pytest.raises(
        UserError, match="none of the 1 files with proposals, the first x.mp4, is among the 2 labels"
    ):
        scripts["test"].main(flags)
    with pytest.raises(SystemExit):
        scripts["test"].parse_args(["--proposals", "p.json"])


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (read_proposals, "[]", "holds a list, expected an object"),
        (read_proposals, "{", "can't be read as JSON"),
        (
            read_proposals,
            '{"a": [[0.9, 0]]}',
            "a has .0.9, 0., expected finite numbers .score, begin_s, end_s.",
        ),
        (read_proposals, '{"a": [[NaN, 0, 1]]}', "expected finite numbers"),
        (read_proposals, '{"a": [[0.9, 2, 1]]}', "begin_s <= end_s"),
        (read_proposals, '{"a": [[1, 0, 1' + 400 * "0" + "]]}", "expected finite numbers"),
        (read_proposals, '{"a": {"b": 1}}', "expected a list of"),
        (read_proposals, "[" * 100_000, "can't be read as JSON"),
        (read_labels, "[]", "holds nothing"),
        (read_labels, "{}", "holds nothing"),
        (read_labels, '{"a": 1}', "holds a dict, expected a list of records"),
        (
            read_labels,
            '[{"file": "a"}]',
            "record 0 is .*expected a list of records with file and fake_periods or fake_segments",
        ),
        (
            read_labels,
            '[{"file": "a", "fake_periods": [["0", "1"]]}]',
            "expected finite numbers .begin_s, end_s.",
        ),
        (
            read_labels,
            '[{"file": "a", "fake_periods": []}, {"file": "a", "fake_periods": []}]',
            "a is there twice",
        ),
    ],
)
def test_wrong_files_give_one_line(tmp_path, read, text, words):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none.json")


def test_both_names_of_true_spans(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(
        '[{"file": "a", "fake_periods": [[1, 2]]}, {"file": "b", "fake_segments": [[0.5, 2]], "x": 1}]'
    )
    assert read_labels(path) == {"a": [[1, 2]], "b": [[0.5, 2]]}
    path.write_text(
        '[{"file": "a", "fake_periods": [], "split": "dev"}, '
        '{"file": "b", "fake_periods": [], "split": "test"}]'
    )
    assert read_labels(path, "test") == {"b": []}
    with pytest.raises(UserError, match="no record of the split 'val'; it has dev, test"):
        read_labels(path, "val")
