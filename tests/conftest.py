"""The official archives in miniature, in the exact form in which they are distributed."""

import io
import signal
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import scipy.io
import simplejpeg

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `make test &`: what the tests interrupt would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)

Kind = Literal["ilsvrc2010", "ilsvrc2012", "fall2009", "fall2011", "winter21"]

LEAVES = ("n02487347", "n01440764", "n07711080", "n01443537", "n03000134")
"""In the order of their ILSVRC IDs, which differs from that of WNIDs."""
INTERNAL = ("n00001740", "n00015388")
"""The root, and a synset below it."""
NUMBERS = (10026, 3, 41, 10027, 7)
"""Of a class's training images, in the order of its tar."""

Files = Iterable[tuple[str, bytes]]


@dataclass
class Official:
    """A folder of archives, and the images in them."""

    root: Path
    shown: dict[str, dict[str, tuple[str | None, int]]] = field(default_factory=dict)
    """For each split (`all` for the fall releases) and each image's name: its WNID and the number of its picture."""
    count: int = 0

    def picture(self, split: str, wnid: str | None, name: str) -> tuple[str, bytes]:
        """Draw the next picture and remember it."""
        self.shown.setdefault(split, {})[name] = (wnid, self.count)
        self.count += 1
        return name, draw(self.count - 1)


def draw(number: int) -> bytes:
    """Return a JPEG of 72 rows and 80 columns in one of 512 colours."""
    colour = [32 * (number // 8**place % 8) + 16 for place in range(3)]
    jpeg: bytes = simplejpeg.encode_jpeg(np.full((72, 80, 3), colour, np.uint8), 90)
    return jpeg


def number_of(jpeg: bytes) -> int:
    """Return the number of the picture of `draw` that a JPEG of any size shows."""
    red, green, blue = simplejpeg.decode_jpeg(jpeg).mean((0, 1)) // 32
    return int(red + 8 * green + 64 * blue)


def tar_of(files: Files, mode: str = "w") -> bytes:
    """Return a tar as GNU tar writes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]  # modes are literals
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = len(content), 1_300_000_000, "imagenet"
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def meta_mat(year: int, **changes: object) -> bytes:
    """Return a devkit's meta.mat with some variables changed, or left out if they are None."""
    numbers = float if year == 2012 else int
    dtype = [(name, object) for name in (f"ILSVRC{year}_ID", "WNID", "words", "gloss", "num_children")]
    dtype += [(name, object) for name in ("children", "wordnet_height", "num_train_images")]
    below = {INTERNAL[0]: [7, 1, 2], INTERNAL[1]: [3, 4, 5]}
    synsets = np.empty((len(LEAVES + INTERNAL), 1), dtype)
    for place, wnid in enumerate(LEAVES + INTERNAL):
        children = np.array(below.get(wnid, []), numbers).reshape(1, -1)
        words, gloss = f"thing {place}, {wnid}", f"what {place} is"
        height = {INTERNAL[0]: 2, INTERNAL[1]: 1}.get(wnid, 0)
        values = (numbers(place + 1), wnid, words, gloss, numbers(children.size), children, numbers(height), numbers(5))
        synsets[place, 0] = values
    variables: dict[str, object] = {"synsets": synsets}
    if year == 2010:
        variables["cost_matrix"] = np.array(
            [[0 if i == j else 1 if min(i, j) > 1 else 2 for i in range(5)] for j in range(5)], np.uint8
        )
    data = io.BytesIO()
    changed = {name: value for name, value in (variables | changes).items() if value is not None}
    scipy.io.savemat(data, changed, do_compression=True)
    return data.getvalue()


def write_ilsvrc(root: Path, year: int) -> Official:
    """Write a competition's archives: five classes of five training images, ten validation images, six test images."""
    made, images = Official(root), {2010: "images", 2012: "img"}[year]
    synsets = [(f"{wnid}.tar", tar_of(made.picture("train", wnid, f"{wnid}_{n}.JPEG") for n in NUMBERS)) for wnid in LEAVES]
    (root / f"ILSVRC{year}_{images}_train.tar").write_bytes(tar_of(synsets))
    truths = {"val": [3, 1, 5, 2, 2, 4, 1, 5, 3, 4], "test": [2, 4, 1, 5, 3, 3]}
    for split, truth in truths.items():
        wnids = [LEAVES[ilsvrc_id - 1] if split == "val" or year == 2010 else None for ilsvrc_id in truth]
        flat = [made.picture(split, wnid, f"ILSVRC{year}_{split}_{n:08d}.JPEG") for n, wnid in enumerate(wnids, start=1)]
        inside = "test/" if split == "test" and year == 2012 else ""
        release = "_v10102019" if split == "test" and year == 2012 else ""
        tar = tar_of((f"{inside}{name}", data) for name, data in flat[3:] + flat[:3][::-1])
        (root / f"ILSVRC{year}_{images}_{split}{release}.tar").write_bytes(tar)
    val, test = ("".join(f"{ilsvrc_id}\n" for ilsvrc_id in truths[split]).encode() for split in ("val", "test"))
    folder, archive = {2010: ("devkit-1.0", "devkit-1.0"), 2012: ("ILSVRC2012_devkit_t12", "devkit_t12")}[year]
    devkit = {"readme.txt": b"", "data/meta.mat": meta_mat(year), f"data/ILSVRC{year}_validation_ground_truth.txt": val}
    devkit_tar = tar_of([(f"{folder}/{name}", data) for name, data in devkit.items()], "w:gz")
    (root / f"ILSVRC{year}_{archive}.tar.gz").write_bytes(devkit_tar)
    if year == 2010:
        (root / "ILSVRC2010_test_ground_truth.txt").write_bytes(test)
        patches = [patch(made, split, name) for split in ("train", "val", "test") for name in sorted(made.shown[split])[1:3]]
        (root / "patch_images.tar").write_bytes(tar_of(patches))
    return made


def patch(made: Official, split: str, name: str) -> tuple[str, bytes]:
    """Draw a picture that replaces an earlier one."""
    _, data = made.picture(split, made.shown[split][name][0], name)
    return f"patch_images/{split}/{name}", data


def write_fall(root: Path, year: int, sizes: Mapping[str, int]) -> Official:
    """Write a fall release with the given number of images of each class."""
    made = Official(root)
    tars = [
        (f"{wnid}.tar", tar_of(made.picture("all", wnid, f"{wnid}_{7 * n % 997}.JPEG") for n in range(size)))
        for wnid, size in sizes.items()
    ]
    if year == 2021:
        (root / "winter21_whole.tar.gz").write_bytes(tar_of(((f"winter21_whole/{name}", data) for name, data in tars), "w:gz"))
    elif year == 2011:
        (root / "fall11_whole.tar").write_bytes(tar_of(tars))
    else:
        for name, data in tars:
            (root / name).write_bytes(data)
    (root / "words.txt").write_text("".join(f"{wnid}\twords of {wnid}\n" for wnid in sizes))
    return made


WriteOfficial = Callable[..., Official]


@pytest.fixture(scope="session")
def write_official() -> WriteOfficial:
    """Return a function that writes a release's archives into a new folder and returns their images."""

    def write(root: Path, kind: Kind, sizes: Mapping[str, int] | None = None) -> Official:
        root.mkdir(parents=True)
        if kind in ("ilsvrc2010", "ilsvrc2012"):
            return write_ilsvrc(root, int(kind[-4:]))
        few = {"n07711080": 7, "n01440764": 4, "n02487347": 1}
        return write_fall(root, int(f"20{kind[-2:]}"), sizes or (few if kind == "fall2009" else few | {"n01443537": 103}))

    return write


@pytest.fixture(scope="session")
def tar() -> Callable[..., bytes]:
    """Return a function that packs names and contents as GNU tar does."""
    return tar_of


@pytest.fixture(scope="session")
def meta() -> Callable[..., bytes]:
    """Return a function that returns the meta.mat of a year with some variables changed."""
    return meta_mat


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """Return a function that draws one of 512 pictures of different colours."""
    return draw


@pytest.fixture(scope="session")
def shown() -> Callable[[bytes], int]:
    """Return a function that returns the number of the picture that a JPEG shows, scaled or not."""
    return number_of
