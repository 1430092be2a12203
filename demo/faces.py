"""Faces that speak: two public-domain portraits (Grace Hopper from matplotlib, Eileen Collins from
scikit-image) become as many people as are asked for, who turn their heads, nod and blink.

An `Appearance` is drawn for each person: the portrait, its proportions, colours, background and light.  A
`Face` draws it with the mouth of a moment; a `Scene` films it, turning, nodding and blinking.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import skimage

EYE_DISTANCE = 62 / 256  # of the side of a frame
CLOSED = (0.0, 1.0, 0.0)  # a mouth: how far it is open, its width relative to rest, lower lip at the teeth


@dataclass(frozen=True)
class Portrait:
    """A face in a picture: points in pixels of that picture.

    Attributes:
        eyes: the point between them.
        mouth: the middle of the line along which the lips part; its corners are `smile_px` higher.
        teeth_px: what is seen of them at rest; the lips are drawn over it.
        outline: of the person; around it is background.
    """

    picture: Path
    eyes: tuple[float, float]
    eye_distance_px: float
    mouth: tuple[float, float]
    mouth_width_px: float
    chin_y_px: float
    smile_px: float
    teeth_px: float
    outline: tuple[tuple[float, float], ...]


PORTRAITS = (
    Portrait(
        Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
        eyes=(267, 188),
        eye_distance_px=85,
        mouth=(264, 279),
        mouth_width_px=74,
        chin_y_px=330,
        smile_px=2,
        teeth_px=0,
        outline=(
            *((40, 372), (110, 356), (165, 335), (196, 318), (200, 300), (182, 295), (162, 278), (164, 250)),
            *((152, 210), (150, 180), (154, 140), (170, 95), (185, 60), (215, 25), (265, 5), (315, 25)),
            *((352, 60), (362, 88), (371, 95), (378, 140), (373, 180), (380, 200), (372, 240), (370, 275)),
            *((350, 305), (335, 312), (370, 342), (440, 365), (512, 400), (512, 606), (0, 606)),
        ),
    ),
    Portrait(
        Path(skimage.__file__).parent / "data" / "astronaut.png",
        eyes=(224.5, 102),
        eye_distance_px=44,
        mouth=(224.5, 147),
        mouth_width_px=45,
        chin_y_px=177,
        smile_px=7,
        teeth_px=7,
        outline=(
            *((0, 330), (60, 260), (108, 225), (120, 185), (132, 162), (152, 149), (188, 147), (180, 133)),
            *((168, 118), (154, 98), (152, 72), (166, 50), (190, 32), (212, 18), (232, 14), (256, 20)),
            *((282, 36), (297, 62), (303, 84), (298, 105), (286, 125), (274, 138), (264, 142), (258, 160)),
            *((255, 174), (275, 183), (297, 208), (330, 260), (400, 330), (512, 512), (0, 512)),
        ),
    ),
)


@dataclass(frozen=True)
class Appearance:
    """How a person looks; all zeros and ones: as the portrait does.

    Attributes:
        portrait: number in `PORTRAITS`. eyes, nose, jaw, mouth: relative change of distance or size.
        length: of the face. skin, clothes, back, light: gains of blue, green and red.
        new_background: else the portrait's own, tinted. ramp: light from the right and from below.
        blur_px: of the lens, at frames of 256 pixels.
    """

    portrait: int = 0
    mirrored: bool = False
    eyes: float = 0.0
    nose: float = 0.0
    jaw: float = 0.0
    mouth: float = 0.0
    length: float = 0.0
    skin: tuple[float, ...] = (1.0, 1.0, 1.0)
    clothes: tuple[float, ...] = (1.0, 1.0, 1.0)
    back: tuple[float, ...] = (1.0, 1.0, 1.0)
    light: tuple[float, ...] = (1.0, 1.0, 1.0)
    new_background: int | None = None  # its seed
    ramp: tuple[float, float] = (0.0, 0.0)
    blur_px: float = 0.0


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """A person at random."""

    def gains(low: float, high: float, tint: float) -> tuple[float, ...]:
        return tuple(rng.uniform(low, high) * rng.uniform(1 - tint, 1 + tint, 3))

    return Appearance(
        portrait=int(rng.integers(len(PORTRAITS))),
        mirrored=bool(rng.random() < 0.5),
        eyes=rng.uniform(-0.1, 0.12),
        nose=rng.uniform(-0.18, 0.22),
        jaw=rng.uniform(-0.14, 0.14),
        mouth=rng.uniform(-0.15, 0.12),
        length=rng.uniform(-0.09, 0.09),
        skin=gains(0.7, 1.08, 0.08),
        clothes=gains(0.5, 1.4, 0.35),
        back=gains(0.6, 1.3, 0.3),
        light=gains(0.8, 1.15, 0.05),
        new_background=int(rng.integers(2**31)) if rng.random() < 0.75 else None,
        ramp=tuple(rng.uniform(-0.3, 0.3, 2) * (1, 0.5)),
        blur_px=rng.uniform(0, 0.9),
    )


def bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """1 at (0, 0), falling to 0 as a Gaussian."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


class Face:
    """A person, with eyes that are `eye_distance` of the frame's side apart, whose mouth and lids move.

    Attributes:
        image: (size, size, 3) uint8 BGR, the mouth shut. x, y: (size, size) float32, pixels.
        mouth, mouth_width: in pixels of the image.
    """

    def __init__(
        self,
        portrait: Portrait,
        size: int,
        eye_distance: float = EYE_DISTANCE,
        look: Appearance | None = None,
    ):
        look = look or Appearance()
        unit = eye_distance * size
        self.y, self.x = np.mgrid[:size, :size].astype(np.float32)
        middle = (portrait.mouth[1] - portrait.eyes[1]) / portrait.eye_distance_px / 2  # of eyes and mouth
        # in eye distances from the point between the eyes
        u = ((size - 1 - self.x if look.mirrored else self.x) - size / 2) / unit
        v = (self.y - size / 2) / unit + middle
        self.image = paint(portrait, look, *proportions(u, v, look), size)
        if look.blur_px > 0.3:
            self.image = cv2.GaussianBlur(self.image, (0, 0), look.blur_px * size / 256)
        low = (portrait.mouth[1] - portrait.eyes[1]) / portrait.eye_distance_px * (1 + look.length)
        aside = (portrait.mouth[0] - portrait.eyes[0]) / portrait.eye_distance_px
        aside = -aside if look.mirrored else aside
        self.mouth = np.array([size / 2 + aside * unit, size / 2 + (low - middle) * unit])
        self.mouth_width = portrait.mouth_width_px / portrait.eye_distance_px * unit * (1 + look.mouth)
        w = self.mouth_width
        chin = (portrait.chin_y_px - portrait.mouth[1]) / portrait.eye_distance_px * unit * (1 + look.length)
        left, right = (int(self.mouth[0] + side * 1.2 * w) for side in (-1, 1))
        top, bottom = int(self.mouth[1] - 0.85 * w), int(self.mouth[1] + chin + 0.6 * w)
        self.window = (slice(max(0, top), min(size, bottom)), slice(max(0, left), min(size, right)))
        self.dx = self.x[self.window] - np.float32(self.mouth[0])
        curve = portrait.smile_px / portrait.eye_distance_px * unit * (1 + look.length)
        seam = curve * np.minimum((2 * self.dx / w) ** 2, 1.5)
        self.dy = self.y[self.window] - np.float32(self.mouth[1]) + seam  # below the line between the lips
        self.near = bump(self.dx, self.dy, 0.6 * w, 0.4 * w)  # 0 at the edge of the window
        self.jaw = 1 / (1 + np.exp((self.dy - chin - 0.15 * w) / (0.08 * w)))  # 1 on it, 0 on the neck
        self.lid = bump(self.dx, self.dy, 0.6 * w, 0.16 * w)  # of the upper lip
        self.light = np.array(look.light)
        self.eyes = self.shut_eyes(size, unit, middle, look)

    def shut_eyes(
        self, size: int, unit: float, middle: float, look: Appearance
    ) -> list[tuple[tuple[slice, slice], np.ndarray, np.ndarray]]:
        """For each eye its window, the skin of the lid and how much of it is seen, when it is shut."""
        shut = []
        for side in (-0.5, 0.5):
            x, y = size / 2 + side * unit * (1 + look.eyes), size / 2 - middle * unit
            half = (int(np.ceil(0.22 * unit)), int(np.ceil(0.36 * unit)))
            window = (slice(int(y) - half[0], int(y) + half[0]), slice(int(x) - half[1], int(x) + half[1]))
            across = np.hypot((self.x[window] - x) / (0.27 * unit), (self.y[window] - y) / (0.13 * unit))
            cheek = self.image[int(y + 0.26 * unit) : int(y + 0.34 * unit) + 1, window[1]].mean((0, 1))
            line = bump(self.y[window] - y - 0.07 * unit, 0 * self.x[window], 0.02 * unit, 1)[..., None]
            lid = cheek * (0.93 - 0.25 * line)
            shut.append((window, lid, np.clip(2.5 * (1.1 - across), 0, 1)[..., None]))
        return shut

    def draw(self, mouth: tuple[float, float, float] | np.ndarray = CLOSED, lids: float = 0.0) -> np.ndarray:
        """(size, size, 3) uint8 BGR, with a mouth as `CLOSED` tells; `lids` 0..1: how far they are shut."""
        opening, width, tuck = (float(value) for value in mouth)
        w, image = self.mouth_width, self.image.copy()
        across = np.exp(-((self.dx / np.float32(0.46 * w * width)) ** 4))
        drop = np.float32(w * (0.48 * opening + 0.05 * tuck)) * across * self.jaw
        rise = np.float32(0.07 * w * opening) * across * self.lid
        below = np.where(self.dy > 0, np.maximum(self.dy - drop, 0), np.minimum(self.dy + rise, 0))
        lip = np.float32(0.1 * w * tuck) * self.near * (self.dy > drop)  # rolled in
        source_y = self.y[self.window] + (below - self.dy) + lip
        source_x = np.float32(self.mouth[0]) + self.dx / (1 + np.float32(width - 1) * self.near)
        moved = cv2.remap(self.image, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        gap = np.clip(np.minimum(self.dy + rise, drop - self.dy) / 1.5, 0, 1)[..., None]
        teeth = np.clip((0.1 * w - self.dy - rise) / 2, 0, 1) * min(1, max(4 * opening - 0.8, tuck, 0))
        tongue = bump(self.dx, self.dy - drop, 0.3 * w, 0.16 * w)[..., None]
        inside = np.array([26, 18, 50]) + tongue * np.array([34, 30, 60])
        inside = inside + teeth[..., None] * (np.array([170, 185, 190]) - inside)
        image[self.window] = moved + gap * (np.clip(inside * self.light, 0, 255) - moved)
        if lids > 0:
            for window, lid, seen in self.eyes:
                image[window] = image[window] + lids * seen * (lid - image[window])
        return image


def proportions(u: np.ndarray, v: np.ndarray, look: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """Where in the portrait, in eye distances from its eyes, lies what a person has at (u, v)."""
    v = v / (1 + look.length)
    jaw = look.jaw / (1 + np.exp(-(v - 0.95) / 0.15)) * bump(u, v - 1.3, 1.6, 1.2)
    eyes = look.eyes * bump(u, v, 1.3, 0.4)
    nose = look.nose * bump(u, v - 0.6, 0.4, 0.35)
    mouth = look.mouth * bump(u, v - 1.05, 0.9, 0.35) - look.jaw * 0.5 * bump(u, v - 1.05, 0.9, 0.3)
    return u / (1 + jaw + eyes + nose + mouth), v - look.nose * 0.25 * (v - 0.55) * bump(
        u, v - 0.55, 0.45, 0.3
    )


@cache
def prepared(portrait: Portrait) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a portrait, BGR, with the lips drawn over the teeth, and 1.0 where the person is."""
    image = cv2.imread(str(portrait.picture))
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    aside = 2 * (x - portrait.mouth[0]) / portrait.mouth_width_px
    below = y - portrait.mouth[1] + portrait.smile_px * np.minimum(aside**2, 1.5)
    if portrait.teeth_px:
        move = portrait.teeth_px / 2 * np.clip(1 - aside**2, 0, 1) * bump(0 * x, below, 1, 14)
        image = cv2.remap(image, x, y + np.sign(below) * move, cv2.INTER_CUBIC)
        line = 0.55 * np.clip(1.3 - aside**2, 0, 1) ** 0.5 * bump(0 * x, below, 1, 1)
        image = (image * (1 - line[..., None])).astype(np.uint8)
    person = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(person, [np.rint(portrait.outline).astype(np.int32)], 1.0)
    soft = cv2.GaussianBlur(person, (0, 0), 0.04 * portrait.eye_distance_px)
    return image, np.clip(2 * soft - 1, 0, 1)  # within the outline


def paint(portrait: Portrait, look: Appearance, u: np.ndarray, v: np.ndarray, size: int) -> np.ndarray:
    """The portrait at (u, v), eye distances from its eyes, in colours and light of a look; uint8 BGR."""
    image, person = prepared(portrait)
    distance = portrait.eye_distance_px
    shrinks = 1 / np.abs(np.diff(u[size // 2, size // 2 - 1 : size // 2 + 1]))[0] / distance
    if shrinks < 0.8:
        image, person = (cv2.GaussianBlur(a, (0, 0), 0.4 / shrinks) for a in (image, person))
    where = [(portrait.eyes[i] + distance * a).astype(np.float32) for i, a in enumerate((u, v))]
    picture, seen = (
        cv2.remap(a, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) for a in (image, person)
    )
    skin = np.clip(4 * (1.15 - np.hypot(u / 0.98, (v - 0.5) / 1.3)), 0, 1)[..., None]
    picture = picture * (np.array(look.clothes) + skin * (np.array(look.skin) - look.clothes))
    back = picture / look.clothes
    if look.new_background is not None:
        rng = np.random.default_rng(look.new_background)
        grey = rng.uniform(40, 210) + rng.normal(0, rng.uniform(5, 40), (*rng.integers(2, 7, 2), 1))
        few = grey + rng.normal(0, 15, 3) + rng.normal(0, 8, (*grey.shape[:2], 3))
        back = cv2.resize(few, (size, size), interpolation=cv2.INTER_CUBIC)
    seen = seen[..., None]
    picture = seen * picture + (1 - seen) * back * look.back
    ramp = 1 + look.ramp[0] * np.clip(u, -2, 2) / 2 + look.ramp[1] * np.clip(v, -2, 2) / 2
    return np.clip(picture * ramp[..., None] * look.light, 0, 255).astype(np.uint8)


def sway(rng: np.random.Generator, time_s: np.ndarray) -> np.ndarray:
    """A slow swing between -1 and 1."""
    slow, fast = (
        np.sin(2 * np.pi * (rng.uniform(*hz) * time_s + rng.random())) for hz in ((0.1, 0.4), (0.4, 0.9))
    )
    return 0.7 * slow + 0.3 * fast


class Scene:
    """What stays the same in a video: who is seen, how the head moves and blinks, the light.

    Args:
        rng: draws all of it.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        n_frames: int,
        fps: int = 25,
        eye_distance: float = EYE_DISTANCE,
    ):
        look = draw_appearance(rng)
        self.face = Face(PORTRAITS[look.portrait], size, eye_distance, look)
        t, unit = np.arange(n_frames) / fps, eye_distance * size
        angle = np.radians(rng.uniform(1, 3) * sway(rng, t))
        zoom = rng.uniform(0.95, 1.15) * (1 + 0.02 * sway(rng, t))
        shift = np.stack([0.12 * unit * sway(rng, t), 0.08 * unit * sway(rng, t)], 1)
        turn = unit * (rng.uniform(0.03, 0.09) * sway(rng, t) + rng.uniform(-0.06, 0.06))
        nod = unit * (rng.uniform(0.02, 0.06) * sway(rng, t) + rng.uniform(-0.03, 0.03))
        self.light = rng.uniform(0.85, 1.1) * (1 + 0.05 * sway(rng, t))
        begins_s = np.cumsum(rng.uniform(1.2, 5.0, 2 + int(n_frames / fps))) - 1.5
        since_s = t[:, None] - begins_s
        self.lids = np.clip(1.3 - np.abs(since_s) / 0.09, 0, 1).max(1)
        self.lids[self.lids < 0.05] = 0
        x, y = (self.face.x - size / 2).ravel(), (self.face.y - size / 2).ravel()
        depth = bump(x, y, 1.3 * unit, 1.6 * unit) + 0.35 * bump(x, y, 0.3 * unit, 0.4 * unit)
        self.fields = np.stack([x, y, np.ones_like(x), depth])
        cos, sin, centre = np.cos(angle) / zoom, np.sin(angle) / zoom, size / 2
        move_x, move_y = centre - shift[:, 0], centre - shift[:, 1]
        self.motion = np.stack([[cos, -sin, move_x, turn], [sin, cos, move_y, nod]]).transpose(2, 0, 1)

    def frame(self, i: int, mouth: tuple[float, float, float] | np.ndarray = CLOSED) -> np.ndarray:
        """Frame i, (size, size, 3) uint8 BGR, with a mouth as `CLOSED` tells."""
        picture = self.face.draw(mouth, self.lids[i])
        where = (self.motion[i].astype(np.float32) @ self.fields).reshape(2, *picture.shape[:2])
        seen = cv2.remap(picture, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return cv2.convertScaleAbs(seen, alpha=self.light[i])

    def film(self, mouths: np.ndarray) -> list[np.ndarray]:
        """A frame for each mouth, (n, 3) as `Speech` has them."""
        return [self.frame(i, mouth) for i, mouth in enumerate(mouths)]
