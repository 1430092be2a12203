"""What decides the content of the chunks."""

import dataclasses
import hashlib
import json

TRACKS = ("longest", "all")


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

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]
