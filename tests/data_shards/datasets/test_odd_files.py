"""Odd files through every source that can hold them: each is stored, or counted with an example, and alike everywhere."""

import io
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from base.errors import InputError
from data_shards.datasets.dataset import Dataset, as_rows
from data_shards.datasets.fall import FALL2009, Fall
from data_shards.datasets.finding import identity
from data_shards.datasets.folder import FolderSource, ImageFolder
from data_shards.datasets.image_files import IMAGE_SUFFIXES, PassedOver, printable
from data_shards.datasets.scanning import Scan, write_members
from data_shards.datasets.tiny_imagenet import TinyImageNet, TinyImageNetSource
from data_shards.decoding import FORMATS, BadImageError
from data_shards.images import store
from data_shards.planning import sample_keys
from data_shards.storage import parse_storage

A, B = "n01440764", "n02487347"
Tree = dict[str, bytes | str]
"""A file's content by its path in the class A; the target of a link as text, with `hard:` before that of a hard link."""


def written(root: Path, tree: Tree) -> Path:
    """Write a tree as files, and a hard link as what it is on a disk: the same file."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
    for name, content in tree.items():
        path = root / name
        if isinstance(content, bytes):
            continue
        if content.startswith("hard:"):
            target = root / content.removeprefix("hard:")
            path.hardlink_to(target) if target.exists() else path.symlink_to("nowhere")
        else:
            path.symlink_to(content)
    return root


def tarred(path: Path, tree: Tree, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # modes are literals
        for name, content in tree.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type = tarfile.LNKTYPE if content.startswith("hard:") else tarfile.SYMTYPE
                member.linkname = content.removeprefix("hard:")
                tar.addfile(member)
    return path


def zipped(path: Path, tree: Tree) -> Path:
    """Write a zip; it has no hard links."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in tree.items():
            info = zipfile.ZipInfo(name)
            if isinstance(content, str):
                hard = content.startswith("hard:")
                content = os.path.relpath(content.removeprefix("hard:"), Path(name).parent) if hard else content
                info.external_attr = 0o120777 << 16
            file.writestr(info, content)
    return path


def below(prefix: str, tree: Tree) -> Tree:
    """Return a tree in a folder; hard links name their target from the root."""
    hard = f"hard:{prefix}"
    return {
        prefix + name: content.replace("hard:", hard) if isinstance(content, str) else content for name, content in tree.items()
    }


def classes(prefix: str, odd: Tree, inside: str = "") -> Tree:
    plain: Tree = {f"{n}.JPEG": f"image {n}".encode() for n in (0, 1)}
    return below(f"{prefix}{A}/{inside}", plain | odd) | below(f"{prefix}{B}/{inside}", plain)


def tiny(odd: Tree, inside: str = "images/") -> Tree:
    labels = "".join(f"{wnid}.JPEG\t{wnid}\t0\t0\t62\t62\n" for wnid in (A, B)).encode()
    val: Tree = {f"val/images/{wnid}.JPEG": b"val" for wnid in (A, B)}
    lists: Tree = {"wnids.txt": f"{A}\n{B}\n".encode(), "words.txt": b"", "val/val_annotations.txt": labels}
    return below("tiny/", lists | val | classes("train/", odd, inside))


def scanned(root: Path, tmp_path: Path) -> Fall:
    """Return a release whose folder or archive has been listed."""
    for _ in write_members(Scan(root), tmp_path / "members.parquet"):
        pass
    return Fall(FALL2009, tmp_path / "release", lists={root: tmp_path / "members.parquet"})


def release(tmp_path: Path) -> Path:
    (tmp_path / "release").mkdir()
    return tmp_path / "release"


def class_tar(tmp_path: Path, odd: Tree) -> Path:
    """Return a folder with a tar of A's images and a folder of B's."""
    root = release(tmp_path)
    tarred(root / f"{A}.tar", {"0.JPEG": b"image 0", "1.JPEG": b"image 1"} | odd)
    written(root / B, {"0.JPEG": b"image 0", "1.JPEG": b"image 1"})
    return root


def tar_of_tars(tmp_path: Path, odd: Tree) -> Path:
    root = class_tar(tmp_path, odd)
    shutil.rmtree(root / B)
    inner = (root / f"{A}.tar").rename(tmp_path / "inner.tar").read_bytes()
    other = tarred(tmp_path / "other.tar", {"0.JPEG": b"image 0", "1.JPEG": b"image 1"}).read_bytes()
    return tarred(root / "fall09.tar", {f"{A}.tar": inner, f"{B}.tar": other})


SOURCES: dict[str, Callable[[Path, Tree], Dataset]] = {
    "class folders": lambda tmp, odd: ImageFolder(written(tmp / "pets", classes("train/", odd))),
    "tiny, a folder": lambda tmp, odd: TinyImageNet(written(tmp / "tiny", tiny(odd)), tmp / "sources"),
    "tiny, a tar": lambda tmp, odd: TinyImageNet(tarred(tmp / "tiny.tar", tiny(odd)), tmp / "sources"),
    "tiny, a tar.gz": lambda tmp, odd: TinyImageNet(tarred(tmp / "tiny.tar.gz", tiny(odd), "w:gz"), tmp / "sources"),
    "tiny, a zip": lambda tmp, odd: TinyImageNet(zipped(tmp / "tiny.zip", tiny(odd)), tmp / "sources"),
    "tiny without images/": lambda tmp, odd: TinyImageNet(written(tmp / "tiny", tiny(odd, "")), tmp / "sources"),
    "release, folders": lambda tmp, odd: scanned(written(release(tmp), classes("", odd)), tmp),
    "release, a tar of folders": lambda tmp, odd: scanned(tarred(release(tmp) / "fall09.tar", classes("fall09/", odd)), tmp),
    "release, a tar of each class": lambda tmp, odd: scanned(class_tar(tmp, odd), tmp),
    "release, a tar of tars": lambda tmp, odd: scanned(tar_of_tars(tmp, odd), tmp),
}
each_source = pytest.mark.parametrize("source", SOURCES)


def stored(dataset: Dataset) -> dict[tuple[str | None, str], bytes]:
    """Return the bytes of each image, by class and name; a release's train and test images together."""
    splits = ("train", "test") if isinstance(dataset, Fall) else ("train",)
    samples = [sample for split in splits for sample in as_rows(dataset.samples(split))]
    assert len({(sample.wnid, sample.name) for sample in samples}) == len(samples)
    return {(sample.wnid, sample.name): dataset.read(sample) for sample in samples}


PLAIN = {(wnid, f"{n}.JPEG"): f"image {n}".encode() for wnid in (A, B) for n in (0, 1)}

IMAGES: list[tuple[str, Tree]] = [
    ("a hidden image", {".x.JPEG": b"odd"}),
    ("a symbolic link", {"x.JPEG": "blob", "blob": b"odd"}),
    ("a hard link", {"x.JPEG": "hard:blob", "blob": b"odd"}),
    ("a link to a link", {"x.JPEG": "y", "y": "blob", "blob": b"odd"}),
]


@each_source
@pytest.mark.parametrize(("name", "odd"), IMAGES, ids=[name for name, _ in IMAGES])
def test_hidden_and_linked_images_are_stored(source: str, name: str, odd: Tree, tmp_path: Path) -> None:
    dataset = SOURCES[source](tmp_path, odd)
    image = next(iter(odd))
    assert stored(dataset) == PLAIN | {(A, image): b"odd"}
    passed = dataset.passed_over("train")
    assert passed.total() == len(odd) - 1
    assert image not in passed.examples.values()


@each_source
def test_images_are_stored_whatever_their_format(source: str, tmp_path: Path) -> None:
    names = [f"x{number}{suffix}" for number, suffix in enumerate((*IMAGE_SUFFIXES, ".TIF", ".Jpg"))]
    dataset = SOURCES[source](tmp_path, {name: name.encode() for name in names})
    assert stored(dataset) == PLAIN | {(A, name): name.encode() for name in names}
    assert not dataset.passed_over("train")


SUBFOLDERS: list[tuple[str, Tree]] = [
    ("a subfolder", {"2012/x.JPEG": b"odd"}),
    ("a folder with an image's name", {"y.jpg/x.JPEG": b"odd"}),
    ("two levels", {"2012/July/x.JPEG": b"odd"}),
    ("a link to another folder's image", {"2012/x.JPEG": "../blobs/1", "blobs/1": b"odd"}),
]


@each_source
@pytest.mark.parametrize(("name", "odd"), SUBFOLDERS, ids=[name for name, _ in SUBFOLDERS])
def test_images_in_subfolders_of_a_class_are_stored(source: str, name: str, odd: Tree, tmp_path: Path) -> None:
    found = stored(SOURCES[source](tmp_path, odd))
    in_a_synsets_tar = source in ("release, a tar of each class", "release, a tar of tars")
    assert found == PLAIN | {(A, "x.JPEG" if in_a_synsets_tar else next(iter(odd))): b"odd"}


@each_source
def test_images_of_one_name_in_different_subfolders_have_keys_of_their_own(source: str, tmp_path: Path) -> None:
    odd: Tree = {"a/0.JPEG": b"a", "b/0.JPEG": b"b"}
    dataset = SOURCES[source](tmp_path, odd)
    found = stored(dataset)
    assert {data for (wnid, _), data in found.items() if wnid == A} == {b"image 0", b"image 1", b"a", b"b"}
    assert found.items() >= PLAIN.items()
    keys = sample_keys(dataset.samples("train").combine_chunks()).to_pylist()
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[\w-]+", key, re.ASCII) for key in keys)


PASSED: list[tuple[str, Tree, dict[str, int]]] = [
    *((name, {name: b"x"}, {"system files": 1}) for name in ("._0.JPEG", ".DS_Store", "Thumbs.db", "desktop.ini", "THUMBS.DB")),
    ("a zip's litter", {"__MACOSX/0.JPEG": b"x", "__MACOSX/._1.JPEG": b"x"}, {"system files": 2}),
    ("a disk's thumbnails", {"@eaDir/0.JPEG/thumb.jpg": b"x"}, {"system files": 1}),
    ("hidden files", {".cache/0.JPEG": b"x", ".gitignore": b"x"}, {"hidden files": 2}),
    ("texts", {"0.txt": b"x", "labels/0.xml": b"x", "1.JPEG.txt": b"x"}, {".txt files": 2, ".xml files": 1}),
    ("a download that was cut", {"2.JPEG.part": b"x", "2.jpg~": b"x"}, {".part files": 1, ".jpg~ files": 1}),
    ("no suffix", {"README": b"x", "jpg": b"x"}, {"files without a suffix": 2}),
    ("a phone's photograph", {"2.HEIC": b"x"}, {".heic images that cannot be read": 1}),
    ("a camera's photograph", {"2.nef": b"x"}, {".nef images that cannot be read": 1}),
    ("a broken link", {"2.JPEG": "nowhere.JPEG"}, {"links": 1}),
    ("a hard link that leads out", {"2.JPEG": "hard:../../../etc/passwd"}, {"links": 1}),
    ("a link to itself", {"2.JPEG": "2.JPEG"}, {"links": 1}),
    ("two links in a circle", {"2.JPEG": "3.JPEG", "3.JPEG": "2.JPEG"}, {"links": 2}),
]  # fmt: skip


@each_source
@pytest.mark.parametrize(("name", "odd", "counts"), PASSED, ids=[case[0] for case in PASSED])
def test_a_file_that_is_not_an_image_is_counted_with_an_example(
    source: str, name: str, odd: Tree, counts: dict[str, int], tmp_path: Path
) -> None:
    dataset = SOURCES[source](tmp_path, odd)
    assert stored(dataset) == PLAIN
    passed = dataset.passed_over("train")
    assert passed == counts
    assert all(example.split("/")[-1] in {path.split("/")[-1] for path in odd} for example in passed.examples.values())


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "tiny, a zip"])
def test_a_name_that_is_not_utf_8_is_one_sentence(source: str, tmp_path: Path) -> None:
    advice = (
        "; rename it$" if "folder" in source and "tar" not in source else "; unpack the archive, rename the file and give the"
    )
    if source in ("release, a tar of each class", "tiny without images/"):
        advice = "; rename it$"
    with pytest.raises(InputError, match=rf"holds a file name that is not UTF-8 \('.*caf\\udce9.JPEG'\){advice}"):
        stored(SOURCES[source](tmp_path, {"caf\udce9.JPEG": b"x"}))


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "tiny, a zip"])
def test_other_names_that_are_not_utf_8_are_counted_and_can_be_shown(source: str, tmp_path: Path) -> None:
    dataset = SOURCES[source](tmp_path, {"caf\udce9.txt": b"x"})
    assert stored(dataset) == PLAIN
    assert dataset.passed_over("train") == {".txt files": 1}
    assert "caf\\udce9.txt" in str(dataset.passed_over("train")).encode().decode()
    assert dataset.identity("train")


def test_the_sentence_names_each_kind_with_an_example() -> None:
    passed = PassedOver()
    for path in ("cat/0.jpg", "cat/a.txt", "cat/b.txt", "dog/new\nline.heic"):
        passed.is_image(path)
    assert str(passed) == r"1 .heic images that cannot be read (such as dog/new\nline.heic), 2 .txt files (such as cat/a.txt)"
    again = PassedOver.from_json(passed.to_json())
    assert (again, again.examples) == (passed, passed.examples)
    assert printable("a b/é.jpg") == "a b/é.jpg"


def test_many_suffixes_are_counted_together() -> None:
    passed = PassedOver()
    for number in range(1000):
        passed.is_image(f"x.{number}")
    assert len(passed) == 25
    assert passed.total() == 1000
    assert passed["other files"] == 976


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_of_an_image_can_be_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    Image.new("RGB", (80, 72), (200, 40, 40)).save(path, None if suffix != ".apng" else "PNG")
    found = store(path.read_bytes(), parse_storage("original"))
    assert (found.height, found.width) == (72, 80)


def test_every_format_that_is_decoded_has_a_suffix() -> None:
    suffixes = Image.registered_extensions()
    assert {suffixes[suffix] for suffix in IMAGE_SUFFIXES} == {*FORMATS, "JPEG", "MPO"}


def test_a_photograph_of_a_phone_under_another_name_is_named() -> None:
    with pytest.raises(BadImageError, match="^a HEIC image, which Pillow does not read; convert it to JPEG$"):
        store(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", parse_storage("original"))


@pytest.mark.parametrize("litter", ["__MACOSX", "@eaDir", ".ipynb_checkpoints"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_system_s_folder_is_never_a_class(litter: str, split: str, tmp_path: Path) -> None:
    root = written(tmp_path / "pets", classes("train/", {}) | classes("val/", {}) | {f"{split}/{litter}/cat/x.jpg": b"x"})
    dataset = ImageFolder(root)
    assert [wnid for wnid, _ in dataset.classes()] == [A, B]
    assert stored(dataset) == PLAIN
    assert dataset.passed_over("train" if split == "train" else "val").total() == 1


def test_an_image_outside_class_folders_is_counted(tmp_path: Path) -> None:
    dataset = ImageFolder(written(tmp_path / "pets", classes("train/", {}) | {"train/x.jpg": b"x", "train/notes.txt": b"x"}))
    assert str(dataset.passed_over("train")) == (
        "1 .txt files (such as notes.txt), 1 images outside class folders (such as x.jpg)"
    )


def test_a_link_to_a_folder_is_followed_unless_it_leads_to_itself(tmp_path: Path) -> None:
    tree = classes("train/", {"more": "../../elsewhere", "loop": "."})
    dataset = ImageFolder(written(tmp_path / "pets", tree | {"elsewhere/x.JPEG": b"odd"}))
    assert stored(dataset) == PLAIN | {(A, "more/x.JPEG"): b"odd"}
    assert str(dataset.passed_over("train")) == f"1 links (such as {A}/loop)"


@pytest.mark.parametrize("kind", ["a folder", "a tar"])
def test_a_class_left_without_images_in_a_release_is_refused(kind: str, tmp_path: Path) -> None:
    tree = classes("", {}) | {"n09999999/readme.txt": b"x"}
    root = written(release(tmp_path), tree)
    if kind == "a tar":
        root = Path(shutil.make_archive(str(tmp_path / "train"), "tar", root))
    with pytest.raises(
        InputError, match=f"^{root}/(./)?n09999999 holds no image; an official class has at least one: fetch it"
    ):
        list(Scan(root))


def test_empty_folders_are_counted(tmp_path: Path) -> None:
    root = written(release(tmp_path), classes("", {}) | {"docs/readme.txt": b"x"})
    (root / "empty").mkdir()
    for path in (root, Path(shutil.make_archive(str(tmp_path / "train"), "tar", root))):
        scan = Scan(path)
        assert len(list(scan)) == 4
        assert scan.ignored == {".txt files": 1, "empty folders": 1}


def test_names_with_backslashes_in_a_tar_of_class_folders_are_paths(tmp_path: Path) -> None:
    tree = {name.replace("/", "\\"): content for name, content in classes("train/", {"sub/x.JPEG": b"odd"}).items()}
    dataset = scanned(tarred(release(tmp_path) / "fall09.tar", tree), tmp_path)
    assert stored(dataset) == PLAIN | {(A, "sub/x.JPEG"): b"odd"}


def test_a_path_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path / "caf\udce9", classes("train/", {}))
    for source in (FolderSource(path=root), TinyImageNetSource(path=root)):
        with pytest.raises(
            InputError, match=r"^the path /.*/caf\\udce9 is not UTF-8; rename its folders, or give another path$"
        ):
            source.open(tmp_path)


def test_an_image_that_has_become_a_folder_is_one_sentence(tmp_path: Path) -> None:
    dataset = ImageFolder(written(tmp_path / "pets", classes("train/", {})))
    sample = as_rows(dataset.samples("train"))[0]
    Path(sample.path).unlink()
    Path(sample.path).mkdir()
    with pytest.raises(InputError, match=r"^no file .*/0.JPEG, which held 0.JPEG; restore it and run again$"):
        dataset.read(sample)


def test_a_folder_s_identity_covers_its_subfolders(tmp_path: Path) -> None:
    root = written(tmp_path / "release", classes("", {"2012/x.JPEG": b"odd"}))
    before = identity(root)
    assert identity(root) == before
    os.utime(root / A / "2012" / "x.JPEG", ns=(0, 1))
    assert identity(root) != before


def test_labels_follow_the_names_of_files_also_in_subfolders(
    tmp_path: Path, write_official: Callable[..., Any], open_listed: Callable[..., Dataset]
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    archive = official.root / "ILSVRC2012_img_val.tar"
    expected = as_rows(open_listed("ilsvrc2012", official.root, "val").samples("val"))
    with tarfile.open(archive) as tar:
        for member in tar:
            part = "z" if int(member.name[-6]) % 2 else "a"
            content = tar.extractfile(member)
            assert content is not None
            written(official.root / "ILSVRC2012_img_val", {f"parts/{part}/{member.name}": content.read()})
    archive.unlink()
    found = as_rows(open_listed("ilsvrc2012", official.root, "val").samples("val"))
    assert sorted((Path(sample.name).name, sample.wnid) for sample in found) == sorted(
        (sample.name, sample.wnid) for sample in expected
    )
