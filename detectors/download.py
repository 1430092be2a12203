"""Fetch detector weights once into a cache folder, verified; shared by the detectors.

The folder is `MDS_CACHE`, by default `mds-deepfake` in the user's cache (`XDG_CACHE_HOME` or ~/.cache).
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

TIMEOUT_S = 30
BLOCK_BYTES = 1 << 16


class WeightsError(Exception):
    """Weights are missing or wrong; the text is one line that says what to do."""


@dataclass(frozen=True)
class WeightsFile:
    """A published weights file: its name, where it can be had, and what pins its content.

    `digest` is "sha256:<hex>" or "git:<hex>", the latter a git blob id (SHA-1 over "blob <size>\\0" + content).
    """

    name: str
    sources: tuple[str, ...]
    digest: str


def cache_folder() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mds-deepfake"
    return Path(os.environ.get("MDS_CACHE") or default).expanduser()


def matches(path: Path, digest: str) -> bool:
    """Whether the file's content has the digest (format: `WeightsFile`)."""
    kind, expected = digest.split(":")
    if kind == "git":
        hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        hasher = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest() == expected


def download(url: str, target: Path) -> None:
    """Copy a URL's content to `target` with a progress bar; raise WeightsError on a failed or cut transfer."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
            size = response.headers.get("Content-Length")
            n_bytes = int(size) if size else None
            with tqdm(total=n_bytes, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as progress:
                while block := response.read(BLOCK_BYTES):
                    file.write(block)
                    progress.update(len(block))
            is_page = response.headers.get_content_type() == "text/html"
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        raise WeightsError(f"{getattr(error, 'reason', None) or error or type(error).__name__}") from error
    got = target.stat().st_size
    if n_bytes is not None and got != n_bytes:
        raise WeightsError(f"the connection was cut after {got} of {n_bytes} bytes")
    if is_page:
        raise WeightsError("a web page came instead of the weights")


def fetch(weights: WeightsFile) -> Path:
    """Return the local path of verified weights, downloading them on first use.

    The file is written under a temporary name, verified and renamed, so that the cache never holds a partial one.

    Raises:
        WeightsError: no source gave the right content; names what to download, from where, and where to put it.
    """
    path = cache_folder() / weights.name
    if path.is_file():
        if matches(path, weights.digest):
            return path
        raise WeightsError(
            f"{path} is not the published {weights.name}: its {weights.digest.split(':')[0]} digest differs from "
            f"{weights.digest}. Delete it to download it again, or name your own file with --weights."
        )
    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{weights.name}.{os.getpid()}.tmp")
        partial.touch()
    except OSError as error:
        raise WeightsError(
            f"can't write to the cache folder {path.parent} ({error.strerror}); set MDS_CACHE to one that can be written."
        ) from error
    try:
        for url in weights.sources:
            try:
                download(url, partial)
                if not matches(partial, weights.digest):
                    raise WeightsError(f"the content is not the published file (expected {weights.digest})")
            except WeightsError as error:
                failures.append(f"{url}: {error}")
                continue
            os.replace(partial, path)
            return path
    finally:
        partial.unlink(missing_ok=True)
    raise WeightsError(
        f"can't fetch {weights.name} ({'; '.join(failures)}). Download it from {weights.sources[0]} on any machine "
        f"and put it at {path}, or name it with --weights."
    )
