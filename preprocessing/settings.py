"""What decides the content of the chunks."""

import dataclasses
import hashlib
import json

from utils.constants import SECOND, ChunkLength

TRACKS = ("longest", "all")
MIN_DETECTIONS = 51  # of a face track: the authors' "more than 50"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the content of the chunks (kept in every record)."""

    detector: str = "s3fd"
    half: bool = False
    detect_scale: float = 0.25
    detect_min_px: int = 160
    detect_every: int = 1
    jpeg_quality: int = 95
    tracks: str = "longest"
    chunk_s: float = SECOND.chunk_s
    min_track: int = MIN_DETECTIONS

    @property
    def length(self) -> ChunkLength:
        return ChunkLength.of(self.chunk_s)

    @property
    def written(self) -> dict:
        """As files have it: without the length of a chunk and the shortest track where they are as always, so
        that what was made before there were others stays complete.
        """
        fields = dataclasses.asdict(self)
        if self.length == SECOND:
            del fields["chunk_s"]
        if self.min_track == MIN_DETECTIONS:
            del fields["min_track"]
        return fields

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.written, sort_keys=True).encode()).hexdigest()[:16]
