"""What a training run writes beside its checkpoints: a log of its epochs, and TensorBoard scalars."""

import json
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from utils.files import replacing
from utils.jsonfiles import plain


def write_log(path: Path, records: Sequence[dict]) -> None:
    """Write log.jsonl, an epoch per line. The checkpoint holds the records, so that no epoch is missing or
    doubled.
    """
    with replacing(path) as partial:
        partial.write_text("".join(json.dumps(plain(record)) + "\n" for record in records))


class Scalars:
    """A TensorBoard file, written by tensorboardX without its queue: what is flushed is on the disk before a
    checkpoint is.

    Scalars named local/... are counted in steps, the others in epochs, both from 1 as in the log.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(
            str(folder / "events"), f".{os.getpid()}.{time.time_ns()}"
        )  # a file of its own

    def add(self, tag: str, value: float, step: int) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def rewind_scalars(folder: Path, iteration: int, n_epochs: int) -> None:
    """Delete from a run's TensorBoard files what lies after a checkpoint, and a record that a crash cut off.

    Args:
        folder: with the event files.
        iteration: steps done in all; scalars named local/... are counted in steps.
        n_epochs: epochs done; the others are counted in epochs from 1.
    """
    for path in sorted(folder.glob("events*")):
        data, kept, at = path.read_bytes(), [], 0
        while at + 12 <= len(data):  # a record: its length, a checksum, the event, a checksum
            (length,) = struct.unpack_from("<Q", data, at)
            end = at + 12 + length + 4
            if end > len(data):
                break
            event = Event.FromString(data[at + 12 : end - 4])
            tags = [value.tag for value in event.summary.value]
            if not tags or event.step <= (iteration if tags[0].startswith("local/") else n_epochs):
                kept.append(data[at:end])
            at = end
        if sum(map(len, kept)) < len(data):
            with replacing(path) as partial:
                partial.write_bytes(b"".join(kept))
