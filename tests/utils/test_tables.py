"""One reader of tables: rows, dicts and data frames of a file agree, and the words of a schema are said."""

import numpy as np
import pytest

from utils.cli import UserError
from utils.tables import Schema, read_frame, read_rows, read_table

SCHEMA = Schema("video", ("video", "label"), "make it again", if_none="look elsewhere", numbers=("score",))
TEXT = 'video,label,score,\n\'=a,1,0.5\n\n"b\nc",0,nan,\n'


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_rows_dicts_and_frames_agree(tmp_path, mark):
    path = tmp_path / "t.csv"
    path.write_text(mark + TEXT)
    header = ["video", "label", "score", ""]
    assert list(read_rows(path)) == [(1, header), (2, ["=a", "1", "0.5", ""]), (5, ["b\nc", "0", "nan", ""])]
    rows = read_table(path, SCHEMA)
    assert rows == [dict(zip(header[:3], cells[:3], strict=True)) for _, cells in list(read_rows(path))[1:]]
    frame = read_frame(path, SCHEMA)
    assert frame.video.tolist() == [row["video"] for row in rows]
    assert frame.label.tolist() == [1, 0] and frame.label.dtype == np.int64
    assert frame.score[0] == 0.5 and np.isnan(frame.score[1])


@pytest.mark.parametrize("read", [read_table, read_frame])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"can't be read as CSV \(No such file or directory\); make it again.$"),
        ("", r"can't be read as CSV \(it is empty; expected a header and a row per video\); make it again.$"),
        ("video\na\n", "has no column label; expected at least video and label; make it again.$"),
        ("video,label,score\n", "lists no video; look elsewhere.$"),
        ("video,label,score\na,1,0,x\n", r"\(line 2 has more cells than the header\); make it again.$"),
        (
            "video,label,score\na,1,0\nb,0,1,x\n",
            r"\(line 3 has more cells than the header\); make it again.$",
        ),
    ],
)
def test_a_table_that_is_not_of_the_schema(tmp_path, read, text, words):
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read(path, SCHEMA)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_without_a_schema_a_table_may_be_missing(tmp_path):
    assert read_table(tmp_path / "none.csv") == []
    (tmp_path / "t.csv").write_text("")
    assert read_table(tmp_path / "t.csv") == []
