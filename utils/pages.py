"""Self-contained HTML pages: pictures, video, style and script are inside; a page asks for nothing, anywhere."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utils.files import replacing

ROOT = Path(__file__).parent.parent
REAL_COLOUR, FAKE_COLOUR = "#3b7dd8", "#d8513b"  # on pages and in pictures
# everything that comes into a page, names of files first of all, is escaped
PAGES = Environment(
    loader=FileSystemLoader([ROOT / room / "templates" for room in ("utils", "evaluation", "verdicts")]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.globals |= {"real_colour": REAL_COLOUR, "fake_colour": FAKE_COLOUR}


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that holds them; `kind` is their media type, such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def write_page(path: Path, template: str, **values: object) -> None:
    """Write a page from a template of a room; UserError if the file can't be written."""
    with replacing(path) as partial:
        partial.write_text(PAGES.get_template(template).render(**values), encoding="utf-8")
