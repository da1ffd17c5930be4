"""Tiny ImageNet in miniature, in every form that people hold it; and the real one, if it is available."""

import errno
import gzip
import io
import os
import pickle
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from platform import node

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from base.errors import InputError
from data_shards.datasets.dataset import Split, as_rows
from data_shards.datasets.tiny_imagenet import TinyImageNet

WNIDS = ["n01443537", "n01629819", "n01641577"]
ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "tiny-imagenet-40.tar.gz"
DEAD = 2**22 + 1
"""No process has this number."""


def picture(seed: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(data, "JPEG", quality=30)
    return data.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of three classes, each with two training images and one for validation; wnids.txt is not sorted."""
    root = tmp_path / "tiny-imagenet-200"
    files: dict[str, bytes] = {
        "wnids.txt": "\n".join(WNIDS[::-1]).encode() + b"\n",
        "words.txt": b"n01443537\tgoldfish, Carassius auratus\nn01629819\tEuropean fire salamander\nn00001740\tentity\n",
        "val/val_annotations.txt": "".join(f"val_{n}.JPEG\t{wnid}\t0\t0\t62\t62\n" for n, wnid in enumerate(WNIDS)).encode(),
        "test/images/test_0.JPEG": picture(99),
    }
    for number, wnid in enumerate(WNIDS):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"boxes\n"
        files[f"val/images/val_{number}.JPEG"] = picture(number)
        for image in (0, 1):
            files[f"train/{wnid}/images/{wnid}_{image}.JPEG"] = picture(10 + 2 * number + image)
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def packed(folder: Path, kind: str) -> Path:
    """Return an archive of the folder, or the folder itself."""
    if kind == "folder":
        return folder
    return Path(shutil.make_archive(str(folder.with_name("packed")), kind, folder.parent, folder.name))


def read_all(dataset: TinyImageNet) -> list[tuple[str, str | None, str, bytes]]:
    splits: tuple[Split, ...] = ("train", "val")
    samples = [(split, sample) for split in splits for sample in as_rows(dataset.samples(split))]
    return [(split, sample.wnid, sample.name, dataset.read(sample)) for split, sample in samples]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gztar", "bztar", "xztar"])
def test_every_form_gives_the_same_samples_and_bytes(folder: Path, tmp_path: Path, kind: str) -> None:
    dataset = TinyImageNet(packed(folder, kind), tmp_path / "sources")
    found = read_all(dataset)
    assert [(split, wnid, name) for split, wnid, name, _ in found] == [
        *(("train", wnid, f"{wnid}_{image}.JPEG") for wnid in WNIDS for image in (0, 1)),
        *(("val", wnid, f"val_{number}.JPEG") for number, wnid in enumerate(WNIDS)),
    ]
    assert [data for *_, data in found] == [picture(10 + n) for n in range(6)] + [picture(n) for n in range(3)]
    assert dataset.classes() == [
        ("n01443537", "goldfish, Carassius auratus"),
        ("n01629819", "European fire salamander"),
        ("n01641577", "n01641577"),
    ]
    assert dataset.name == "tiny-imagenet-3"
    assert len(list(tmp_path.glob("sources/*"))) == (kind not in ("folder", "tar")), "only compressed archives are copied"


def test_an_archive_without_the_outer_folder_is_the_same(folder: Path, tmp_path: Path) -> None:
    flat = Path(shutil.make_archive(str(tmp_path / "flat"), "gztar", folder))
    assert read_all(TinyImageNet(flat, tmp_path / "sources")) == read_all(TinyImageNet(folder, tmp_path))


def test_an_archive_is_unpacked_once(folder: Path, tmp_path: Path) -> None:
    archive = packed(folder, "gztar")
    first = read_all(TinyImageNet(archive, tmp_path / "sources"))
    (unpacked,) = (tmp_path / "sources").iterdir()
    before = unpacked.stat()
    assert read_all(TinyImageNet(archive, tmp_path / "sources")) == first
    assert list((tmp_path / "sources").iterdir()) == [unpacked]
    assert (unpacked.stat().st_ino, unpacked.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_archive_of_the_same_name_is_unpacked_again(folder: Path, tmp_path: Path) -> None:
    read_all(TinyImageNet(packed(folder, "gztar"), tmp_path / "sources"))
    image = folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_0.JPEG"
    image.write_bytes(picture(77))
    assert read_all(TinyImageNet(packed(folder, "gztar"), tmp_path / "sources"))[0][3] == picture(77)


def test_the_partial_copy_of_a_killed_run_is_not_read(folder: Path, tmp_path: Path) -> None:
    archive = packed(folder, "gztar")
    expected = read_all(TinyImageNet(archive, tmp_path / "sources"))
    (unpacked,) = (tmp_path / "sources").iterdir()
    partial = unpacked.rename(unpacked.with_name(f"{unpacked.name}.{node()}-{DEAD}-00000000.partial"))
    os.truncate(partial, 2000)
    assert read_all(TinyImageNet(archive, tmp_path / "sources")) == expected
    assert list((tmp_path / "sources").iterdir()) == [unpacked]


@pytest.mark.parametrize("kind", ["folder", "gztar"])
def test_a_pickled_copy_reads_the_same(folder: Path, tmp_path: Path, kind: str) -> None:
    dataset = TinyImageNet(packed(folder, kind), tmp_path / "sources")
    expected = read_all(dataset)
    assert read_all(pickle.loads(pickle.dumps(dataset))) == expected


def test_the_first_classes_are_used_if_fewer_are_requested(folder: Path, tmp_path: Path) -> None:
    dataset = TinyImageNet(folder, tmp_path, num_classes=2)
    assert [wnid for wnid, _ in dataset.classes()] == WNIDS[:2]
    assert Counter(dataset.samples("train")["wnid"].to_pylist()) == {WNIDS[0]: 2, WNIDS[1]: 2}
    assert dataset.samples("val")["wnid"].to_pylist() == WNIDS[:2]
    assert dataset.name == "tiny-imagenet-2"
    assert dataset.identity("val") != TinyImageNet(folder, tmp_path).identity("val")


def test_listed_classes_without_images_are_ignored(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "train" / WNIDS[1])
    assert [wnid for wnid, _ in TinyImageNet(folder, tmp_path).classes()] == [WNIDS[0], WNIDS[2]]


def remove_an_image(folder: Path) -> None:
    (folder / "val" / "images" / "val_1.JPEG").unlink()


def remove_annotations(folder: Path) -> None:
    (folder / "val" / "val_annotations.txt").unlink()


def remove_wnids(folder: Path) -> None:
    (folder / "wnids.txt").unlink()


def remove_words(folder: Path) -> None:
    (folder / "words.txt").unlink()


def remove_training_images(folder: Path) -> None:
    shutil.rmtree(folder / "train" / WNIDS[0] / "images")


def remove_classes(folder: Path) -> None:
    for wnid in WNIDS[1:]:
        shutil.rmtree(folder / "train" / wnid)


def annotate_fewer(folder: Path) -> None:
    (folder / "val" / "val_annotations.txt").write_text(f"val_0.JPEG\t{WNIDS[0]}\t0\t0\t62\t62\n")


@pytest.mark.parametrize("kind", ["folder", "gztar"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_wnids, "holds .* files but no wnids.txt; expected the dataset's public layout$"),
        (remove_words, "^words.txt is missing from .*; the copy is incomplete or another dataset$"),
        (remove_annotations, "^val/val_annotations.txt is missing from .*; the copy is incomplete"),
        (
            remove_an_image,
            "lists val/images/val_1.JPEG but does not hold it; the copy is incomplete, fetch it again$",
        ),
        (remove_training_images, f"has no train image of the class {WNIDS[0]}, which its wnids.txt lists$"),
        (remove_classes, "has training images of 1 classes; expected at least 2$"),
        (annotate_fewer, f"has no val image of the class {WNIDS[1]}, which its wnids.txt lists$"),
    ],
)
def test_an_incomplete_copy_is_refused(
    folder: Path, tmp_path: Path, kind: str, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    dataset = TinyImageNet(packed(folder, kind), tmp_path / "sources")
    with pytest.raises(InputError, match=message):
        [dataset.classes(), dataset.samples("train"), dataset.samples("val")]


def test_more_classes_than_there_are_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has training images of 3 classes; expected at least 20$"):
        TinyImageNet(folder, tmp_path, num_classes=20).classes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_0.JPEG n01443537\n", "val_annotations.txt"),
        ("val_0.JPEG\tn01443537\t0\t0\t62\t62\n", "val_annotations.txt lists val_0.JPEG twice"),
    ],
)
def test_an_impossible_annotation_is_refused(folder: Path, tmp_path: Path, line: str, message: str) -> None:
    with open(folder / "val" / "val_annotations.txt", "a") as file:
        file.write(line)
    with pytest.raises(InputError, match=message):
        TinyImageNet(folder, tmp_path).samples("val")


def test_an_empty_line_at_the_end_is_ignored(folder: Path, tmp_path: Path) -> None:
    with open(folder / "val" / "val_annotations.txt", "a") as file:
        file.write("\n")
    assert len(TinyImageNet(folder, tmp_path).samples("val")) == 3


def test_words_in_latin_1_are_read(folder: Path, tmp_path: Path) -> None:
    (folder / "words.txt").write_bytes(f"{WNIDS[0]}\tcaf\xe9\n".encode("latin-1"))
    assert TinyImageNet(folder, tmp_path).classes()[0].words == "caf\xe9"


def test_a_full_disk_while_unpacking_is_not_blamed_on_the_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = packed(folder, "gztar")
    monkeypatch.setattr("tarfile.copyfileobj", full)
    with pytest.raises(OSError, match="No space left on device"):
        TinyImageNet(archive, tmp_path / "sources").classes()
    assert not list((tmp_path / "sources").iterdir())


def test_the_unlabelled_test_images_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^Tiny ImageNet's test images have no public labels; use the split val$"):
        TinyImageNet(folder, tmp_path).samples("test")


def text_file(folder: Path) -> Path:
    path = folder.with_name("notes.tar.gz")
    path.write_text("not an archive at all\n" * 100)
    return path


def empty_file(folder: Path) -> Path:
    path = folder.with_name("empty.zip")
    path.touch()
    return path


def gzipped_text(folder: Path) -> Path:
    path = folder.with_name("text.tar.gz")
    path.write_bytes(gzip.compress(b"not an archive at all\n" * 100))
    return path


def flipped_zip(folder: Path) -> Path:
    path = packed(folder, "zip")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as zipped:
        info = zipped.getinfo(f"tiny-imagenet-200/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG")
    data[info.header_offset + 400] ^= 0xFF
    path.write_bytes(data)
    return path


def flipped_bz2(folder: Path) -> Path:
    path = packed(folder, "bztar")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", [text_file, empty_file, gzipped_text, flipped_zip, flipped_bz2])
def test_a_file_that_is_not_a_whole_archive_is_refused(folder: Path, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(folder)
    with pytest.raises(
        InputError, match=rf"^{path} is neither a folder nor a whole tar, tar.gz or zip \(.+\); fetch it again$"
    ):
        TinyImageNet(path, tmp_path / "sources").classes()
    assert not list(tmp_path.glob("sources/*.tar"))


def cut(archive: Path, keep: int) -> Path:
    """Return a copy of the archive's first bytes."""
    path = archive.with_name(f"cut-{keep}{''.join(archive.suffixes)}")
    path.write_bytes(archive.read_bytes()[:keep])
    return path


def reads(archive: Path, unpack_dir: Path) -> bool:
    """Return whether the archive is accepted; a refusal must be an error for the user."""
    try:
        read_all(TinyImageNet(archive, unpack_dir))
    except InputError:
        return False
    return True


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_every_cut_of_an_archive_is_noticed(folder: Path, tmp_path: Path, kind: str) -> None:
    whole = packed(folder, kind)
    size = whole.stat().st_size
    end = size - (tarfile.RECORDSIZE if kind == "tar" else 64)  # the rest only marks the end
    cuts = range(0, end, size // 40)
    assert [keep for keep in cuts if reads(cut(whole, keep), tmp_path / "sources")] == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_cut_that_tarfile_does_not_notice_is_noticed(folder: Path, tmp_path: Path, mode: str) -> None:
    """If training images come last, only the end of the archive shows that some are missing."""
    whole = tmp_path / ("packed.tar.gz" if mode == "w:gz" else "packed.tar")
    with tarfile.open(whole, mode) as tar:  # type: ignore[call-overload]  # modes are literals
        for name in ("wnids.txt", "words.txt", "val", "train"):
            tar.add(folder / name, name)
    size = whole.stat().st_size
    cuts = range(size // 2, size - tarfile.RECORDSIZE if mode == "w" else size - 8, 24)
    assert len(cuts) > 100
    assert [keep for keep in cuts if reads(cut(whole, keep), tmp_path / "sources")] == []


@pytest.mark.skipif(not REAL.is_file(), reason=f"no {REAL}: forty classes of the real Tiny ImageNet, which are not distributed")
def test_forty_real_classes_have_twenty_thousand_training_images(tmp_path: Path) -> None:
    dataset = TinyImageNet(REAL, tmp_path)
    train, val = as_rows(dataset.samples("train")), as_rows(dataset.samples("val"))
    assert len(dataset.classes()) == 40
    assert (len(train), len(val)) == (20_000, 2_000)
    assert set(Counter(sample.wnid for sample in train).values()) == {500}
    assert set(Counter(sample.wnid for sample in val).values()) == {50}
    assert not {sample.name for sample in train} & {sample.name for sample in val}
    for sample in train[::2000] + val[::200]:
        image = Image.open(io.BytesIO(dataset.read(sample)))
        assert (image.format, image.size) == ("JPEG", (64, 64))


def flatten_train(folder: Path) -> None:
    for wnid in WNIDS:
        for image in (folder / "train" / wnid / "images").iterdir():
            image.rename(folder / "train" / wnid / image.name)
        (folder / "train" / wnid / "images").rmdir()


def sort_val(folder: Path, inside: str = "") -> None:
    """Sort the validation images into class folders, as scripts for training do."""
    for number, wnid in enumerate(WNIDS):
        target = folder / "val" / wnid / inside
        target.mkdir(parents=True)
        (folder / "val" / "images" / f"val_{number}.JPEG").rename(target / f"val_{number}.JPEG")
    (folder / "val" / "images").rmdir()


def sort_val_and_forget(folder: Path) -> None:
    sort_val(folder)
    remove_annotations(folder)


def sort_val_with_images(folder: Path) -> None:
    sort_val(folder, "images")


def sort_some_of_val(folder: Path) -> None:
    (folder / "val" / WNIDS[1]).mkdir()
    (folder / "val" / "images" / "val_1.JPEG").rename(folder / "val" / WNIDS[1] / "val_1.JPEG")


def loose_val(folder: Path) -> None:
    for image in (folder / "val" / "images").iterdir():
        image.rename(folder / "val" / image.name)


LAYOUTS = [flatten_train, sort_val, sort_val_and_forget, sort_val_with_images, sort_some_of_val, loose_val]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gztar"])
@pytest.mark.parametrize("rearrange", LAYOUTS)
def test_every_layout_gives_the_same_samples_and_bytes(
    folder: Path, tmp_path: Path, rearrange: Callable[[Path], None], kind: str
) -> None:
    expected = read_all(TinyImageNet(folder, tmp_path))
    rearrange(folder)
    dataset = TinyImageNet(packed(folder, kind), tmp_path / "sources")
    assert read_all(dataset) == expected
    assert not dataset.passed_over("train")
    assert not dataset.passed_over("val")


def test_class_folders_that_contradict_the_annotations_are_refused(folder: Path, tmp_path: Path) -> None:
    sort_val(folder)
    (folder / "val" / WNIDS[0] / "val_0.JPEG").rename(folder / "val" / WNIDS[1] / "val_0.JPEG")
    message = f"holds val_0.JPEG in the folder of {WNIDS[1]}, but val/val_annotations.txt says {WNIDS[0]}; unpack the original"
    with pytest.raises(InputError, match=message):
        TinyImageNet(folder, tmp_path).samples("val")


def test_an_image_without_an_annotation_is_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "val" / "images" / "val_9.JPEG").write_bytes(picture(9))
    dataset = TinyImageNet(folder, tmp_path)
    assert len(dataset.samples("val")) == 3
    assert str(dataset.passed_over("val")) == "1 images without an annotation (such as val/images/val_9.JPEG)"


def test_two_images_of_one_name_in_one_class_are_refused(folder: Path, tmp_path: Path) -> None:
    name = f"{WNIDS[0]}_0.JPEG"
    (folder / "train" / WNIDS[0] / name).write_bytes(picture(9))
    with pytest.raises(InputError, match=f"holds two images called {name} in the class {WNIDS[0]}; expected one$"):
        TinyImageNet(folder, tmp_path).samples("train")


def test_all_two_hundred_classes_are_read_in_order(tmp_path: Path) -> None:
    wnids = [f"n{number:08d}" for number in range(1, 201)]
    files = {"wnids.txt": "\n".join(wnids[::-1]), "words.txt": ""}
    files["val/val_annotations.txt"] = "".join(f"val_{n}.JPEG\t{wnid}\t0\t0\t1\t1\n" for n, wnid in enumerate(wnids))
    for number, wnid in enumerate(wnids):
        files |= {f"train/{wnid}/images/{wnid}_0.JPEG": wnid, f"val/images/val_{number}.JPEG": wnid}
    for name, text in files.items():
        (tmp_path / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny" / name).write_text(text)
    dataset = TinyImageNet(tmp_path / "tiny", tmp_path)
    assert [wnid for wnid, _ in dataset.classes()] == wnids
    assert dataset.name == "tiny-imagenet-200"
    for split in ("train", "val"):
        assert [dataset.read(sample).decode() for sample in as_rows(dataset.samples(split))] == wnids


def patched_zip(folder: Path, what: str, value: int) -> Path:
    """Return a zip whose headers give all files another method, or more flags."""
    path = packed(folder, "zip")
    data = path.read_bytes()
    for header, flags in ((b"PK\x03\x04", 2), (b"PK\x01\x02", 4)):
        at = flags if what == "flags" else flags + 2
        first, *parts = data.split(header)
        new = [bytes([part[at] | value if what == "flags" else value]) for part in parts]
        data = header.join([first, *(part[:at] + byte + part[at + 1 :] for part, byte in zip(parts, new, strict=True))])
    path.write_bytes(data)
    return path


def beginning_with(magic: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder.with_name("packed.archive")
        path.write_bytes(magic + bytes(1000))
        return path

    return make


def zstd_tar(folder: Path) -> Path:
    plain = packed(folder, "tar")
    path = plain.with_name("packed.tar.zst")
    path.write_bytes(pa.compress(plain.read_bytes(), "zstd", asbytes=True))
    return path


def zip_with_a_wrong_name(folder: Path) -> Path:
    """Return a zip that says that a name is UTF-8, which it is not."""
    (folder / "train" / "caf\u00e9.txt").touch()
    path = packed(folder, "zip")
    path.write_bytes(path.read_bytes().replace("caf\u00e9".encode(), b"caf\xe9\xe9"))
    return path


def sparse_tar(folder: Path) -> Path:
    path = packed(folder, "tar")
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("tiny-imagenet-200/sparse.JPEG")
        member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,4", "GNU.sparse.size": "4"}
        member.size = 4
        tar.addfile(member, io.BytesIO(b"data"))
    return path


ENCRYPTED = r"is encrypted: tiny-imagenet-200/\S+ needs a password; unpack it and give the folder$"
OTHER_METHOD = (
    r", such as tiny-imagenet-200/\S+, which is not read here; unpack it, with 7-Zip for example, and give the folder$"
)
COMPRESSED = ", which is not read here; unpack it and give the folder, or the tar$"

UNREADABLE: list[tuple[str, Callable[[Path], Path], str]] = [
    ("encrypted", lambda folder: patched_zip(folder, "flags", 1), ENCRYPTED),
    ("encrypted strongly", lambda folder: patched_zip(folder, "flags", 0x40), ENCRYPTED),
    ("encrypted by AES", lambda folder: patched_zip(folder, "method", 99), ENCRYPTED),
    ("Deflate64", lambda folder: patched_zip(folder, "method", 9), r"holds 16 files compressed with Deflate64" + OTHER_METHOD),
    ("zstd in a zip", lambda folder: patched_zip(folder, "method", 93), r"holds \d+ files compressed with zstd" + OTHER_METHOD),
    ("xz in a zip", lambda folder: patched_zip(folder, "method", 95), r"holds \d+ files compressed with xz" + OTHER_METHOD),
    ("PPMd", lambda folder: patched_zip(folder, "method", 98), r"holds \d+ files compressed with PPMd" + OTHER_METHOD),
    ("unknown", lambda folder: patched_zip(folder, "method", 77), "compressed with the unknown method 77" + OTHER_METHOD),
    ("zstd", zstd_tar, "packed.tar.zst is compressed with zstd" + COMPRESSED),
    ("7-Zip", beginning_with(b"7z\xbc\xaf\x27\x1c"), "packed.archive is compressed with 7-Zip" + COMPRESSED),
    ("RAR", beginning_with(b"Rar!\x1a\x07\x01\x00"), "is compressed with RAR" + COMPRESSED),
    ("LZ4", beginning_with(b"\x04\x22\x4d\x18"), "is compressed with LZ4" + COMPRESSED),
    ("lzip", beginning_with(b"LZIP"), "is compressed with lzip" + COMPRESSED),
    ("compress", beginning_with(b"\x1f\x9d"), "is compressed with compress" + COMPRESSED),
    ("a name that is not UTF-8", zip_with_a_wrong_name, r"holds a file name that is not UTF-8 \('.*caf.*txt'\); unpack"),
    ("a sparse file", sparse_tar, "packed.tar holds tiny-imagenet-200/sparse.JPEG with holes, which cannot be read in place"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE])
def test_an_archive_that_cannot_be_read_is_one_sentence(
    folder: Path, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(folder)
    with pytest.raises(InputError, match=message) as raised:
        TinyImageNet(path, tmp_path / "sources").classes()
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("sources/*"))


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_names_with_backslashes_are_paths(folder: Path, tmp_path: Path, kind: str) -> None:
    expected = read_all(TinyImageNet(folder, tmp_path))
    files = {str(path.relative_to(folder.parent)): path for path in folder.rglob("*") if path.is_file()}
    if kind == "zip":
        archive = tmp_path / "backslashes.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("tiny-imagenet-200\\train\\", "")
            for name, path in files.items():
                zipped.writestr(name.replace("/", "\\"), path.read_bytes())
    else:
        archive = tmp_path / f"backslashes.{kind}"
        with tarfile.open(archive, "w:gz" if kind == "gztar" else "w") as tar:
            for name, path in files.items():
                tar.add(path, name.replace("/", "\\"))
    assert read_all(TinyImageNet(archive, tmp_path / "sources")) == expected


def test_a_zip_of_macos_has_names_in_utf_8_though_it_does_not_say_so(folder: Path, tmp_path: Path) -> None:
    path = packed(folder, "zip")
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr(f"tiny-imagenet-200/train/{WNIDS[0]}/images/caf\u00e9.JPEG", picture(9))
    data = bytearray(path.read_bytes())
    for at in (match.start() for match in re.finditer("caf\u00e9".encode(), bytes(data))):
        header = max(data.rfind(b"PK\x03\x04", 0, at), data.rfind(b"PK\x01\x02", 0, at))
        data[header + (7 if data[header + 2] == 3 else 9)] &= ~0x08
    path.write_bytes(data)
    with zipfile.ZipFile(path) as zipped:
        assert not any("caf\u00e9" in name for name in zipped.namelist())
    assert "caf\u00e9.JPEG" in TinyImageNet(path, tmp_path / "sources").samples("train")["name"].to_pylist()


@pytest.mark.skipif(not REAL.is_file(), reason=f"no {REAL}: forty classes of the real Tiny ImageNet, which are not distributed")
def test_of_the_real_archive_only_the_missing_classes_are_counted(tmp_path: Path) -> None:
    dataset = TinyImageNet(REAL, tmp_path)
    for split in ("train", "val"):
        assert set(dataset.passed_over(split)) <= {"classes of wnids.txt without a folder"}


def test_two_images_of_one_annotation_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "val" / "val_0.JPEG").write_bytes(picture(9))
    with pytest.raises(
        InputError, match="holds val/images/val_0.JPEG and val/val_0.JPEG, which have one annotation; remove one$"
    ):
        TinyImageNet(folder, tmp_path).samples("val")


def test_an_offset_that_leads_out_of_a_zip_is_blamed_on_the_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seek(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    archive = packed(folder, "zip")
    monkeypatch.setattr("zipfile.ZipFile.open", seek)
    with pytest.raises(InputError, match=r"neither a folder nor a whole tar, tar.gz or zip \(.*Invalid argument\); fetch it"):
        TinyImageNet(archive, tmp_path / "sources").classes()
    assert not list((tmp_path / "sources").iterdir())
