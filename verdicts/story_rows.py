"""The file's own story as a page tells it: rows of names and values."""

import re
from collections.abc import Sequence

from verdicts.schema import EditFacts, FileFacts, KeyFrames, PictureFacts, StreamFacts, Tag

BOILERPLATE = re.compile(r" - H\.26\d.*? - (?=options)")  # of x264: what H.264 is, and an address


def story_rows(facts: FileFacts) -> list[tuple[str, list[tuple[str, str]]]]:
    """The story as a page tells it: titles, each with names and values."""
    groups = [("The file", file_rows(facts))]
    if video := facts["video"]:
        groups.append(("Its pictures", picture_rows(video, facts["key_frames"])))
    if audio := facts["audio"]:
        sampled = f"{amount(audio['rate_hz'], 'Hz')}, {amount(audio['channels'])}"
        groups.append(("Its sound", [("sampled", sampled), *stream_rows(audio)]))
    judged = [(name, amount(version)) for name, version in facts["versions"].items()]
    when = [("date", facts["date_utc"]), ("command", amount(facts["command"]))]
    return [*groups, ("What judged it", [*when, *judged])]


def amount(value: object, unit: str = "") -> str:
    """A fact with its unit."""
    if value is None:
        return "not said"
    form = ",d" if isinstance(value, int) else ".10g" if isinstance(value, float) else ""
    return f"{value:{form}} {unit}".rstrip()


def against(declared: object, found: object, unit: str = "") -> str:
    return f"declared {amount(declared, unit)}, found {amount(found, unit)}"


def tag_rows(tags: Sequence[Tag]) -> list[tuple[str, str]]:
    return [(f"tag {tag['name']}", tag["value"]) for tag in tags]


def file_rows(facts: FileFacts) -> list[tuple[str, str]]:
    """What the file as a whole says."""
    kbps, edits, times = facts["declared_kbps"], facts["edits"], facts["times"]
    rows = [
        ("SHA-256", amount(facts["sha256"])),
        ("size", amount(facts["size_bytes"], "bytes")),
        ("container", amount(facts["container"])),
        ("length declared", amount(facts["declared_s"], "s")),
        ("bit rate declared", amount(kbps, "kbit/s")),
        ("other streams", "; ".join(facts["other_streams"]) or "none"),
    ]
    if facts["boxes"] is not None:
        rows.append(("boxes in order", " ".join(facts["boxes"])))
    for time in times or []:
        words = f"created {amount(time['created_utc'])}, modified {amount(time['modified_utc'])}"
        rows.append((f"times of {time['of']}", words))
    if edits is not None:
        rows += [(f"edit of {edit['stream']}", edit_words(edit)) for edit in edits]
        rows += [] if edits else [("edit lists", "none")]
    if facts["read_error"]:
        rows.append(("can't be read to its end", facts["read_error"]))
    return [*rows, *tag_rows(facts["tags"])]


def edit_words(edit: EditFacts) -> str:
    start_s = edit["media_start_s"]
    what = "a pause" if start_s is None else f"shown from {amount(start_s, 's')} of the track on"
    return f"{amount(edit['duration_s'], 's')}: {what}, at rate {edit['rate']:g}"


def picture_rows(video: PictureFacts, keys: KeyFrames | None) -> list[tuple[str, str]]:
    """What is said of the pictures."""
    steps = f"{amount(video['shortest_ms'])} to {amount(video['longest_ms'])} ms"
    size = f"{amount(video['width_px'])} × {amount(video['height_px'])}, {amount(video['pixel_format'])}"
    rows = [
        ("pixels", size),
        ("pictures a second", against(video["declared_fps"], video["found_fps"])),
        ("from one to the next", steps),
        ("bits per pixel", amount(video["bits_per_pixel"])),
    ]
    return [*rows, *(key_rows(keys) if keys else []), *stream_rows(video)]


def key_rows(keys: KeyFrames) -> list[tuple[str, str]]:
    """Where the key frames stand, and what else a second compression may have left."""
    found = "none"
    if keys["usual"] is not None:
        often = f"most often {keys['usual']}, {keys['n_unusual']} times another"
        found = f"{keys['shortest']} to {keys['longest']} pictures, {often}"
    longest = amount(keys["declared_interval"])
    own, others = (amount(keys[name], "bytes") for name in ("median_bytes", "others_median_bytes"))
    return [
        ("key frames", f"{keys['n']}; intervals: longest declared {longest}, found {found}"),
        ("size of key frames", f"median {own}, of the others {others}"),
    ]


def stream_rows(stream: StreamFacts) -> list[tuple[str, str]]:
    """What holds for pictures and sound alike."""
    odd = f"{stream['hidden_packets']} hidden by an edit list, {stream['backward_packets']} back in time"
    return [
        ("codec", f"{amount(stream['codec'])}, profile {amount(stream['profile'])}"),
        ("encoder's own words", amount(BOILERPLATE.sub(" - ", stream["encoder_words"] or "") or None)),
        ("length", against(stream["declared_s"], stream["found_s"], "s")),
        ("begins at", amount(stream["start_s"], "s")),
        ("packets", f"{against(stream['declared_packets'], stream['found_packets'])}; {odd}"),
        ("bit rate", against(stream["declared_kbps"], stream["found_kbps"], "kbit/s")),
        *tag_rows(stream["tags"]),
    ]
