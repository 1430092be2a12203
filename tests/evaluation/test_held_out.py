"""What is stored of a training, against what test.py says of the same scores."""

import numpy as np
import pandas as pd
import pytest

from evaluation.held_out import held_out_figures, pooled_sd, training_record
from evaluation.metrics import video_metrics
from mds import video_scores
from utils.training_record import checked_record, held_out_words


def index(n: int, original: bool = True, **columns) -> pd.DataFrame:
    """Two chunks of each of n real videos and n fakes of them."""
    rows = [
        {
            "video": f"{label}/{i:02}",
            "label": int(label == "real"),
            "track": 0,
            "chunk": f"{k:05}",
            "path": f"{label}/{i}/{k}",
            "start_s": float(k),
            **({"original": "" if label == "real" else f"real/{i:02}"} if original else {}),
            **columns,
        }
        for label in ("real", "fake")
        for i in range(n)
        for k in (0, 1)
    ]
    return pd.DataFrame(rows)


def scored(rows: pd.DataFrame, gap: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Scores of chunks: fakes are higher by `gap`, the video head is right, the audio head knows nothing."""
    rng = np.random.default_rng(seed)
    is_fake = rows.label == 0
    return rows.assign(
        end_s=rows.start_s + 1,
        dissimilarity=0.5 + gap * is_fake + rng.normal(0, 0.3, len(rows)),
        p_fake_video=0.2 + 0.5 * is_fake + rng.uniform(0, 0.3, len(rows)),
        p_fake_audio=rng.uniform(0, 1, len(rows)),
    )


def test_the_figures_are_those_of_test_py():
    held_out = index(12)
    chunks = scored(held_out)
    found = held_out_figures(held_out, chunks, False)
    scores = video_scores(chunks).merge(held_out.drop_duplicates("video")[["video", "original"]], on="video")
    metrics = video_metrics(scores, None, chunks)
    assert (found["n_real"], found["n_fake"], found["is_foreign"]) == (12, 12, False)
    assert found["auc"] == metrics["auc"]
    assert found["auc_ci95"] == metrics["clusters"]["auc_ci95_wider"]
    for name in ("video", "audio"):
        assert found["heads"][name]["auc"] == metrics["heads"][name]["auc"]
        assert found["heads"][name]["auc_ci95"] == metrics["heads"][name]["auc_ci95_clustered"]
    assert found["heads"]["video"]["auc"] == 1 > found["heads"]["audio"]["auc"]
    of_real = chunks[chunks.label == 1].groupby("video").p_fake_video.mean()
    assert sum(of_real > found["heads"]["video"]["real_p95"]) <= 0.05 * len(of_real)


def test_few_originals_or_none_leave_the_videos_interval():
    for held_out in (index(6), index(12, original=False)):
        chunks = scored(held_out)
        found = held_out_figures(held_out, chunks, False)
        metrics = video_metrics(video_scores(chunks), None)
        assert found["auc_ci95"] == metrics["auc_ci95_wider"]
    one = held_out_figures(index(1), scored(index(1)), False)
    assert one["auc_ci95"] is not None and one["auc_ci95"][0] < 0.5 and one["mds_sd"] is None


def test_the_spread_by_hand():
    scores = pd.DataFrame({"label": [0, 0, 0, 1, 1], "mds": [1.0, 2.0, 3.0, 0.0, 2.0]})
    assert pooled_sd(scores) == pytest.approx(np.sqrt((1 + 0 + 1 + 1 + 1) / 3))


def test_a_picture_with_a_foreign_sound_belongs_to_the_real_video():
    held_out = index(12, original=False).assign(sound="x")
    real = held_out[held_out.label == 1]
    found = training_record(real, held_out, scored(held_out))["held_out"]
    assert found["is_foreign"]
    assert "12 real videos and no fake, each with its own sound and with that of" in held_out_words(found)[0]
    # sounds that an index names for its chunks, as that of a control does, make no foreign ones of its fakes
    assert not training_record(held_out, held_out, scored(held_out))["held_out"]["is_foreign"]


def test_what_was_trained_on():
    trained = index(3, source="B").assign(source=["A"] * 4 + ["B"] * 7 + [""])
    trained = pd.concat([trained, index(5)[:10]])  # five real videos more, of which nothing is said
    found = training_record(trained, trained[:0], None)
    assert found == {
        "n_real": 5,
        "n_fake": 3,
        "n_chunks_real": 16,
        "n_chunks_fake": 6,
        "data_sets": ["A", "B"],
        "held_out": None,
    }
    assert training_record(index(2), index(2)[:0], None)["data_sets"] == []
    held_out = index(12)
    found = training_record(trained, held_out, scored(held_out))
    assert checked_record(found) == found


def test_one_stream_has_no_heads():
    held_out = index(12)
    chunks = scored(held_out).assign(p_fake_audio=np.nan)
    assert list(held_out_figures(held_out, chunks, False)["heads"]) == ["video"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"n_real": -1}, ValueError),
        ({"n_real": "many"}, ValueError),
        ({"n_chunks_fake": float("inf")}, OverflowError),
        ({"data_sets": "A"}, TypeError),
        ({"data_sets": [1]}, TypeError),
        ({"held_out": {}}, KeyError),
        ({"held_out": 3}, TypeError),
        ({"auc": 1.5}, ValueError),
        ({"auc": float("nan")}, ValueError),
        ({"auc_ci95": (0.8, 0.2)}, ValueError),
        ({"auc_ci95": (0.8,)}, ValueError),
        ({"mds_sd": -1.0}, ValueError),
        ({"mean_mds_fake": float("nan")}, ValueError),
        ({"heads": []}, AttributeError),
        ({"heads": {"video": {"auc": 1}}}, KeyError),
    ],
    ids=str,
)
def test_a_record_that_can_not_be(change, kind):
    good = training_record(index(3), index(12), scored(index(12)))
    held_out = {**good["held_out"], **{name: x for name, x in change.items() if name in good["held_out"]}}
    bad = {**good, "held_out": held_out}
    bad |= {name: value for name, value in change.items() if name in good}
    if "n_real" in change:
        bad["held_out"] = good["held_out"]
    with pytest.raises(kind):
        checked_record(bad)
