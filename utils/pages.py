"""Self-contained HTML pages: pictures, video, style and script are inside; it asks nobody for anything."""

import base64
import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utils.files import replacing

BASE = Path(__file__).parent / "templates"  # base.html, which every room's page extends
# on pages and in pictures; of the palette of Okabe and Ito, which the colour-blind can tell apart
REAL_COLOUR, FAKE_COLOUR = "#0072b2", "#d55e00"


@functools.cache
def templates(folder: Path) -> Environment:
    """The templates of a room's folder, with what they have in common."""
    environment = Environment(
        loader=FileSystemLoader([folder, BASE]),
        autoescape=True,  # everything that comes into a page, names of files first of all
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"real_colour": REAL_COLOUR, "fake_colour": FAKE_COLOUR}
    return environment


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that holds them; `kind` is their media type, such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def write_page(path: Path, template: Path, **values: object) -> None:
    """Write a page from a template, a file of a room; UserError if the page can't be written."""
    text = templates(template.parent).get_template(template.name).render(**values)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
