"""A small ImageNet that is drawn from a seed, not downloaded, so that everything runs out of the box.

A class is an adjective and a noun, such as "striped fish". Other classes share its adjective or its noun, so that a classifier
must see both. Position, size, rotation, light and background are random, and so are the colours unless the adjective is one.
"""

from collections.abc import Callable, Mapping, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg
from cv2.typing import MatLike
from numpy.typing import NDArray
from pydantic import Field

from base.errors import InputError
from data_shards.datasets.class_lists import choose, existing_list, suffix_of
from data_shards.datasets.dataset import Dataset, ImageClass, Sample, Source, Split, as_table

DRAWING_VERSION = 1
"""Increased when the same seed draws different images."""

Paint = tuple[float, float, float]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Curve = Doubles
"""Points (n, 2), in units of the object's radius; y points down."""
Shape = tuple[list[Curve], list[Curve]]
"""Closed outlines, where one inside another is a hole, and lines in dark ink."""

CLASSES = {
    "fish": ("wavy", "striped", "red", "spotted"),
    "star": ("spotted", "checkered", "marbled", "blue"),
    "flower": ("red", "spotted", "striped", "marbled"),
    "ring": ("checkered", "striped", "blue", "wavy"),
    "heart": ("striped", "checkered", "wavy", "spotted"),
    "moon": ("marbled", "wavy", "checkered", "blue"),
    "leaf": ("spotted", "striped", "wavy", "red"),
    "kite": ("striped", "red", "marbled", "checkered"),
    "mushroom": ("blue", "spotted", "checkered", "marbled"),
    "butterfly": ("spotted", "marbled", "red", "wavy"),
}
"""The adjectives of each noun. The second and the fourth make the 20 target classes; all four, the 40 of the superset."""

WORDS = [f"{adjective} {noun}" for noun, adjectives in CLASSES.items() for adjective in adjectives]

HUES = {"red": 0.0, "blue": 0.6}
"""The hue of each adjective that is a colour; every other adjective is a pattern, in random colours."""

PATTERNS: dict[str, Callable[[Floats, Floats, float, Sequence[float]], Floats]] = {
    "striped": lambda u, v, f, p: np.sin(f * u + p[0]),
    "wavy": lambda u, v, f, p: np.sin(f * v + 1.8 * np.sin(f * u + p[0]) + p[1]),
    "checkered": lambda u, v, f, p: 2 * np.sin(0.8 * f * u + p[0]) * np.sin(0.8 * f * v + p[1]),
    "spotted": lambda u, v, f, p: np.cos(0.6 * f * (u + v) + p[0]) + np.cos(0.6 * f * (u - v) + p[1]) - 0.8,
    "marbled": lambda u, v, f, p: np.sin(2 * np.sin(f / 2 * u + p[0]) + 2 * np.sin(f / 2 * v + p[1]) + 3 * u + p[2]),
}
"""Each pattern as a function of the object's coordinates u and v (side, side), a frequency and three phases: a wave that is
painted in one colour below 0 and in another above. An object with a colour for an adjective is marbled, in two shades of it."""

RADIUS = (0.34, 0.46)
"""The smallest and the largest radius of an object, as a fraction of the image's side."""
TURN = 0.45
"""The largest rotation to either side, in radians."""
SCRAPS = (2, 8)
"""The smallest and the largest number of scraps on the background."""
SHIFT = 4
"""The number of fractional bits of OpenCV's integer coordinates."""


@dataclass(frozen=True)
class Synthetic(Dataset):
    """Drawn images of 20 target classes, or of 40 that include these: `train_per_class` and `val_per_class` of each class."""

    train_per_class: int
    val_per_class: int
    num_classes: Literal[20, 40] = 20
    """40 stands in for ImageNet Fall 2011, on which [K12 §6] pre-trains."""
    seed: int = 0
    side: int = 128
    """In pixels."""
    wnids: Path | None = None
    """A text file with one WNID a line; by default all classes."""

    @property
    def name(self) -> str:
        """`synthetic`, or `synthetic-40` for the superset; with a list of classes also their number and a digest."""
        whole = "synthetic" if self.num_classes == 20 else f"synthetic-{self.num_classes}"
        return whole + (suffix_of([wnid for wnid, _ in self.classes()]) if self.wnids else "")

    def classes(self) -> list[ImageClass]:
        """Return the classes in WNID order. No WNID of WordNet begins with n9."""
        superset = [ImageClass(f"n9{number:07d}", words) for number, words in enumerate(WORDS)]
        known = superset if self.num_classes == 40 else superset[1::2]
        if self.wnids is None:
            return known
        chosen = set(choose(self.wnids, [wnid for wnid, _ in known], Path("synthetic")))
        return [one for one in known if one.wnid in chosen]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples, class after class.

        Raises:
            InputError: the split is neither train nor val.
        """
        names = [(c.wnid, f"{c.wnid}_{split}_{i:05d}.JPEG") for c in self.classes() for i in range(self._per_class(split))]
        return as_table(Sample(wnid, name, path=name) for wnid, name in names)

    def identity(self, split: Split) -> dict[str, Any]:
        """Return everything that the split's images depend on."""
        return {
            "name": self.name,
            "drawing_version": DRAWING_VERSION,
            "num_classes": self.num_classes,
            "per_class": self._per_class(split),
            "seed": self.seed,
            "side": self.side,
            "split": split,
            **({"wnids": [wnid for wnid, _ in self.classes()]} if self.wnids else {}),
        }

    def read(self, sample: Sample) -> bytes:
        """Draw the image and return it as JPEG; one build of OpenCV gives the same bytes in any process and any order."""
        wnid, split, number = sample.name.removesuffix(".JPEG").split("_")
        which = int(wnid.removeprefix("n9"))
        key = (self.seed, self.num_classes, int(split == "val"), which, int(number))
        image = draw(WORDS[which], self.side, np.random.default_rng(key))
        jpeg: bytes = simplejpeg.encode_jpeg(image, quality=95, colorspace="RGB", colorsubsampling="420")
        return jpeg

    def _per_class(self, split: Split) -> int:
        if split == "test":
            raise InputError("found split 'test' of a synthetic data set; only train and val are drawn, so score on val")
        return self.train_per_class if split == "train" else self.val_per_class


class SyntheticSource(Source):
    """Drawn images: nothing is downloaded or read."""

    kind: Literal["synthetic"] = "synthetic"
    """(ours) Drawn, not read."""

    num_classes: Literal[20, 40] = 20
    """(ours) The target classes, or a superset of them."""

    train_per_class: int = Field(100, gt=0)
    """(ours) Images of each class for training."""

    val_per_class: int = Field(50, gt=0)
    """(ours) The same for validation."""

    seed: int = Field(0, ge=0)
    """(ours) The seed of the images."""

    wnids: Path | None = None
    """(ours) A text file with the classes to use, one WNID a line; by default all of them."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> Synthetic:
        """Return the dataset."""
        del unpack_dir, lists
        wnids = existing_list(self.wnids)
        return Synthetic(self.train_per_class, self.val_per_class, self.num_classes, self.seed, wnids=wnids)


def draw(words: str, side: int, rng: np.random.Generator) -> MatLike:
    """Return an RGB image (side, side, 3) of an "adjective noun"; all randomness comes from `rng`."""
    adjective, noun = words.split()
    matrix, centre = _pose(side, rng)
    outline, ink = ([_fixed_point(curve @ matrix.T + centre) for curve in curves] for curves in SHAPES[noun](rng))
    pen = max(1, round(side / 64))
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, outline, 255, cv2.LINE_AA, SHIFT)
    cv2.polylines(mask, ink, False, 255, pen, cv2.LINE_AA, SHIFT)
    surface = _surface(adjective, matrix, centre, side, rng)
    cv2.polylines(surface, ink, False, _colour(rng.random(), 0.5, 0.15), pen, cv2.LINE_AA, SHIFT)
    shaded_ground = _lay(_ground(side, rng), np.zeros_like(surface), _shadow(mask, rng))
    return _photograph(_lay(shaded_ground, surface, mask), rng)


def _pose(side: int, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Return the matrix (2, 2) and the centre (2,) that map the object's units to pixels: size, rotation, squeeze, mirror."""
    radius = side * rng.uniform(*RADIUS)
    turn = rng.uniform(-TURN, TURN)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    squeeze = np.diag(rng.uniform(0.8, 1.0, 2) * [rng.choice([-1, 1]), 1])
    room = max(side / 2 - radius, 0.05 * side)
    return radius * rotation @ squeeze, side / 2 + rng.uniform(-room, room, 2)


def _surface(adjective: str, matrix: Doubles, centre: Doubles, side: int, rng: np.random.Generator) -> MatLike:
    """Return the object's pattern in two colours (side, side, 3), over the whole image and lit from one side."""
    y, x = np.ogrid[:side, :side]
    u, v = ((row[0] * (x - centre[0]) + row[1] * (y - centre[1])).astype(np.float32) for row in np.linalg.inv(matrix))
    pattern = PATTERNS.get(adjective, PATTERNS["marbled"])
    wave = pattern(u, v, 2 * np.pi * rng.uniform(1.4, 1.9), rng.uniform(0, 2 * np.pi, 3).tolist())
    light = 1 + rng.uniform(-0.2, 0.2) * u + rng.uniform(-0.2, 0.2) * v
    mix = np.clip(3 * wave + 0.5, 0, 1) * light
    first, second = _paints(HUES.get(adjective), rng)
    surface: MatLike = cv2.merge([cv2.convertScaleAbs(light * a + mix * (b - a)) for a, b in zip(first, second, strict=True)])
    return surface


def _paints(hue: float | None, rng: np.random.Generator) -> tuple[Paint, Paint]:
    """Return two colours of different brightness, or two shades of a hue."""
    if hue is not None:
        near = hue + rng.uniform(-0.03, 0.03)
        return _colour(near, rng.uniform(0.7, 1), rng.uniform(0.7, 1)), _colour(near, rng.uniform(0.7, 1), rng.uniform(0.5, 1))
    pale = _colour(rng.random(), rng.uniform(0.0, 0.4), rng.uniform(0.8, 1))
    deep = _colour(rng.random(), rng.uniform(0.5, 1), rng.uniform(0.2, 0.6))
    return (pale, deep) if rng.random() < 0.5 else (deep, pale)


def _ground(side: int, rng: np.random.Generator) -> MatLike:
    """Return a background of coloured clouds with plain, random polygons on it."""
    cells = int(rng.integers(2, 7))
    middle, spread = rng.uniform(60, 200, 3), rng.uniform(10, 40)
    clouds = np.clip(middle + spread * rng.standard_normal((cells, cells, 3)), 0, 255).astype(np.uint8)
    ground = cv2.resize(clouds, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(*SCRAPS, endpoint=True)):
        corners = int(rng.integers(3, 8))
        scrap = _polar(_circle(corners) + rng.random(), rng.uniform(0.5, 1, corners))
        scrap = scrap * rng.uniform(0.03, 0.15) * side + rng.uniform(0, side, 2)
        cv2.fillPoly(ground, [_fixed_point(scrap)], _colour(*rng.uniform(0.1, 1, 3)), cv2.LINE_AA, SHIFT)
    return cv2.GaussianBlur(ground, (5, 5), rng.uniform(0.3, 2))


def _shadow(mask: MatLike, rng: np.random.Generator) -> MatLike:
    """Return the object's shadow as a mask: shifted a little and half as dark."""
    side = len(mask)
    x, y = rng.uniform(-0.05, 0.05, 2) * side
    aside = cv2.warpAffine(mask // 2, np.array([[1, 0, x], [0, 1, y]]), (side, side))
    return cv2.blur(aside, (side // 16, side // 16))


def _photograph(image: MatLike, rng: np.random.Generator) -> MatLike:
    """Return the image as a poor camera records it: slightly blurred, tinted, too dark or too bright, noisy."""
    image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.3, 1.2))
    image = cv2.transform(image, np.diag(rng.uniform(0.9, 1.1, 3)))
    grain = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    amount, brightness = rng.uniform(0, 0.15), rng.uniform(-20, 20)
    return cv2.addWeighted(image, rng.uniform(0.75, 1.1), grain, amount, brightness - 127.5 * amount)


def _lay(below: MatLike, above: MatLike, mask: NDArray[Any]) -> MatLike:
    """Return `above` where the mask is 255, `below` where it is 0."""
    cover = mask.astype(np.float32) / 255
    return cv2.blendLinear(above, below, cover, 1 - cover)


def _colour(hue: float, saturation: float, value: float) -> Paint:
    red, green, blue = hsv_to_rgb(hue % 1, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def _fixed_point(curve: Curve) -> NDArray[np.int32]:
    """Return the points as OpenCV's integers with SHIFT fractional bits."""
    return np.round(curve * (1 << SHIFT)).astype(np.int32)


def _circle(points: int) -> Doubles:
    """Return angles (points,) around a circle."""
    return np.linspace(0, 2 * np.pi, points, endpoint=False)


def _polar(angle: Doubles, radius: Doubles | float) -> Curve:
    return _curve(radius * np.cos(angle), radius * np.sin(angle))


def _curve(x: Doubles, y: Doubles) -> Curve:
    return np.stack((x, y), axis=1)


# Shapes, upright in the unit circle, each with some random variation.


def _fish(rng: np.random.Generator) -> Shape:
    t, belly = _circle(48), rng.uniform(1.1, 1.5)
    body = _curve(np.cos(t) - np.sin(t) ** 2 / np.sqrt(2), belly * np.cos(t) * np.sin(t))
    eye = _polar(_circle(8), 0.03) + [0.68, -0.1 * belly]
    gill = _polar(np.linspace(np.pi - 0.8, np.pi + 0.8, 6), 0.3) + [0.6, 0]
    return [body], [eye, gill]


def _star(rng: np.random.Generator) -> Shape:
    return [_polar(_circle(10) - np.pi / 2, np.tile([1, rng.uniform(0.4, 0.5)], 5))], []


def _flower(rng: np.random.Generator) -> Shape:
    t, dent, eye = _circle(72), rng.uniform(0.35, 0.5), _polar(_circle(16), 0.16)
    return [_polar(t, 1 - dent + dent * np.abs(np.cos(3 * t)))], [eye, eye / 2]


def _ring(rng: np.random.Generator) -> Shape:
    return [_polar(_circle(48), 1), _polar(_circle(48), rng.uniform(0.4, 0.5))], []


def _heart(rng: np.random.Generator) -> Shape:
    t = _circle(48)
    y = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return [_curve(rng.uniform(0.9, 1.05) * np.sin(t) ** 3, y / 16 - 0.1)], []


def _moon(rng: np.random.Generator) -> Shape:
    horn, bite = rng.uniform(0.8, 1.0), rng.uniform(0.5, 0.65)  # the angle where the two arcs meet; the inner arc's centre
    x, y = np.cos(horn) - bite, np.sin(horn)
    tip = np.arctan2(y, x)
    outer = _polar(np.linspace(horn, 2 * np.pi - horn, 36), 1)
    inner = _polar(np.linspace(2 * np.pi - tip, tip, 24), np.hypot(x, y)) + [bite, 0]
    return [np.concatenate((outer, inner)) + [0.1, 0]], []


def _leaf(rng: np.random.Generator) -> Shape:
    x = np.linspace(-0.8, 1, 24)
    y = rng.uniform(0.5, 0.65) * np.sin(np.pi * (x + 0.8) / 1.8) ** 0.8
    veins = [np.array([[a + 0.3, -0.35], [a, 0], [a + 0.3, 0.35]]) for a in (-0.45, -0.05, 0.35)]
    return [np.concatenate((_curve(x, -y), _curve(x, y)[::-1]))], [np.array([[-1.15, 0.1], [-0.8, 0], [0.9, 0]]), *veins]


def _kite(rng: np.random.Generator) -> Shape:
    cross, tail = rng.uniform(-0.35, -0.2), np.linspace(0, 0.6, 12)
    outline = np.array([[0, -1], [0.68, cross], [0, 0.8], [-0.68, cross]])
    return [outline], [outline[[0, 2]], outline[[1, 3]], _curve(0.12 * np.sin(14 * tail), 0.8 + tail)]


def _mushroom(rng: np.random.Generator) -> Shape:
    stem = rng.uniform(0.2, 0.3)
    cap = _polar(np.linspace(np.pi, 2 * np.pi, 24), 1) * [1, rng.uniform(0.8, 1.0)]
    foot = np.array([[1, 0.1], [stem, 0.15], [stem * 1.4, 0.9], [-stem * 1.4, 0.9], [-stem, 0.15], [-1, 0.1]])
    return [np.concatenate((cap, foot))], [np.array([[-1, 0.1], [0, 0.2], [1, 0.1]])]


def _butterfly(rng: np.random.Generator) -> Shape:
    t = _circle(72)
    radius = (0.3 + rng.uniform(0.7, 0.8) * np.abs(np.sin(2 * t)) ** 0.7) * (1 - 0.12 * np.sin(t))
    feelers = [np.array([[0, 0.4], [0, -0.35], [s * 0.12, -0.7], [s * 0.3, -0.9]]) for s in (-1, 1)]
    return [_polar(t, radius)], feelers


SHAPES = {
    shape.__name__[1:]: shape for shape in (_fish, _star, _flower, _ring, _heart, _moon, _leaf, _kite, _mushroom, _butterfly)
}
