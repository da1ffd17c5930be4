"""Lists of classes as editors write them, through every source that reads one."""

import codecs
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import InputError
from data_shards.datasets.class_lists import choose, class_names, nfc, read_class_list, read_wnids, text_lines, words_of
from data_shards.datasets.dataset import as_rows
from data_shards.datasets.folder import FolderSource, ImageFolder
from data_shards.datasets.tiny_imagenet import TinyImageNet, TinyImageNetSource

WNIDS = ["n01443537", "n01629819", "n01641577"]
NFC, NFD = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))

FORMS: list[tuple[str, Callable[[str], bytes]]] = [
    ("plain", str.encode),
    ("a byte-order mark", lambda text: codecs.BOM_UTF8 + text.encode()),
    ("UTF-16", lambda text: text.encode("utf-16")),
    ("UTF-16, the other order", lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be")),
    ("Windows' line ends", lambda text: text.replace("\n", "\r\n").encode()),
    ("old macOS's line ends", lambda text: text.replace("\n", "\r").encode()),
    ("blank lines", lambda text: ("\n \n" + text.replace("\n", "\n\n\t\n") + "\n").encode()),
    ("no line end", lambda text: text.rstrip("\n").encode()),
    ("spaces", lambda text: text.replace("\n", "  \n").encode()),
    ("twice", lambda text: (text + text).encode()),
]
each_form = pytest.mark.parametrize("form", [form for _, form in FORMS], ids=[name for name, _ in FORMS])


def tiny(root: Path, listed: bytes, present: list[str]) -> Path:
    """Write Tiny ImageNet with images of the present classes."""
    files = {"wnids.txt": listed, "words.txt": b"", "val/val_annotations.txt": b""}
    for wnid in present:
        files[f"train/{wnid}/images/{wnid}_0.JPEG"] = b"image"
        files[f"val/images/{wnid}_val.JPEG"] = b"image"
        files["val/val_annotations.txt"] += f"{wnid}_val.JPEG\t{wnid}\t0\t0\t62\t62\n".encode()
    return written(root, files)


def pets(root: Path, *names: str) -> Path:
    return written(root, {name: name.encode() for name in names})


def written(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def lines(*names: str) -> str:
    return "".join(f"{name}\n" for name in names)


@each_form
def test_a_list_reads_the_same_in_every_form(form: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "wnids.txt"
    path.write_bytes(form(lines(*WNIDS[::-1])))
    assert class_names(path.read_bytes()) == read_wnids(path) == read_class_list(path) == WNIDS


@each_form
def test_the_classes_of_tiny_imagenet_do_not_depend_on_the_form_of_its_list(
    form: Callable[[str], bytes], tmp_path: Path
) -> None:
    root = tiny(tmp_path / "tiny", form(lines(*WNIDS)), WNIDS)
    dataset = TinyImageNet(root, tmp_path, num_classes=2)
    assert [wnid for wnid, _ in dataset.classes()] == WNIDS[:2]
    assert not TinyImageNet(root, tmp_path).passed_over("train")


@each_form
def test_a_user_s_list_chooses_the_classes_of_tiny_imagenet(form: Callable[[str], bytes], tmp_path: Path) -> None:
    root = tiny(tmp_path / "tiny", lines(*WNIDS).encode(), WNIDS)
    (tmp_path / "mine.txt").write_bytes(form(lines(WNIDS[2], WNIDS[0])))
    dataset = TinyImageNetSource(path=root, wnids=tmp_path / "mine.txt").open(tmp_path)
    assert [wnid for wnid, _ in dataset.classes()] == [WNIDS[0], WNIDS[2]]
    for split in ("train", "val"):
        assert dataset.samples(split)["wnid"].to_pylist() == [WNIDS[0], WNIDS[2]]
        assert dataset.passed_over(split) == {"images of classes that mine.txt does not list": 1}
    assert dataset.identity("val") != TinyImageNet(root, tmp_path).identity("val")
    assert dataset.name.startswith("tiny-imagenet-2-")
    first = TinyImageNetSource(path=root, wnids=tmp_path / "mine.txt", num_classes=2).open(tmp_path)
    assert first.classes() == dataset.classes()


@each_form
def test_a_user_s_list_chooses_class_folders(form: Callable[[str], bytes], tmp_path: Path) -> None:
    root = pets(tmp_path / "pets", *(f"{split}/{name}/0.jpg" for split in ("train", "val") for name in ("a cat", "dog", NFD)))
    (tmp_path / "mine.txt").write_bytes(form(lines(NFC, "a cat")))
    dataset = FolderSource(path=root, wnids=tmp_path / "mine.txt").open(tmp_path)
    assert [wnid for wnid, _ in dataset.classes()] == ["a cat", NFD]
    assert dataset.samples("val")["wnid"].to_pylist() == ["a cat", NFD]
    assert str(dataset.passed_over("val")) == "1 images of classes that mine.txt does not list (such as dog/0.jpg)"
    assert dataset.identity("train") != ImageFolder(root).identity("train")
    assert dataset.name.startswith("pets-2-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mine.txt holds 0 names of classes; expected two or more, one a line$"),
        ("dog\ndog\n", r"mine.txt holds 1 names of classes; expected two or more"),
        (
            "dog\neel\nemu\n",
            r"mine.txt names 2 of its 3 classes that .* does not hold, such as 'eel'; take them off the list, or",
        ),
    ],
)
def test_a_list_that_does_not_fit_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(text)
    root = pets(tmp_path / "pets", "train/cat/0.jpg", "train/dog/0.jpg")
    with pytest.raises(InputError, match=message):
        FolderSource(path=root, wnids=tmp_path / "mine.txt").open(tmp_path).classes()
    root = tiny(tmp_path / "tiny", lines("cat", "dog").encode(), ["cat", "dog"])
    with pytest.raises(InputError, match=message):
        TinyImageNetSource(path=root, wnids=tmp_path / "mine.txt").open(tmp_path).classes()


def test_a_list_of_fewer_classes_than_asked_for_is_refused(tmp_path: Path) -> None:
    root = tiny(tmp_path / "tiny", lines(*WNIDS).encode(), WNIDS)
    (tmp_path / "mine.txt").write_text(lines(*WNIDS[:2]))
    with pytest.raises(InputError, match="has training images of 2 classes of the list .*mine.txt; expected at least 3$"):
        TinyImageNet(root, tmp_path, 3, tmp_path / "mine.txt").classes()


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    for source in (FolderSource, TinyImageNetSource):
        with pytest.raises(InputError, match=f"^no {tmp_path}/mine.txt; give the path of a text file with one WNID a line$"):
            source(path=tmp_path, wnids=tmp_path / "mine.txt").open(tmp_path)


def test_an_entry_without_a_folder_and_a_folder_without_an_entry_are_counted(tmp_path: Path) -> None:
    root = tiny(tmp_path / "tiny", lines(*WNIDS).encode(), [*WNIDS[:2], "n09999999"])
    dataset = TinyImageNet(root, tmp_path)
    assert [wnid for wnid, _ in dataset.classes()] == WNIDS[:2]
    for split, image in (("train", "train/n09999999/images/n09999999_0.JPEG"), ("val", "val/images/n09999999_val.JPEG")):
        assert str(dataset.passed_over(split)) == (
            f"1 classes of wnids.txt without a folder (such as {WNIDS[2]}), "
            f"1 images of classes that wnids.txt does not list (such as {image})"
        )


@pytest.mark.parametrize(("train", "val"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_names_that_differ_in_unicode_form_are_one_class(train: str, val: str, tmp_path: Path) -> None:
    dataset = ImageFolder(
        pets(tmp_path / "pets", *(f"{s}/{n}/0.jpg" for s, n in (("train", train), ("val", val)) for n in (n, "a")))
    )
    assert [wnid for wnid, _ in dataset.classes()] == ["a", train]
    for split, name in (("train", train), ("val", val)):
        samples = as_rows(dataset.samples(split))
        assert [sample.wnid for sample in samples] == ["a", train]
        assert dataset.read(samples[1]) == f"{split}/{name}/0.jpg".encode()


def test_two_folders_of_one_class_in_two_forms_are_read_together(tmp_path: Path) -> None:
    root = pets(tmp_path / "pets", f"train/{NFC}/0.jpg", f"train/{NFD}/1.jpg", "train/dog/0.jpg")
    dataset = ImageFolder(root)
    assert [wnid for wnid, _ in dataset.classes()] == [NFC, "dog"]
    assert [(sample.wnid, sample.name) for sample in as_rows(dataset.samples("train"))] == [
        *((NFC, f"{n}.jpg") for n in (0, 1)),
        ("dog", "0.jpg"),
    ]
    pets(root, f"train/{NFD}/0.jpg")
    with pytest.raises(InputError, match=f"pets/train holds two images called 0.jpg in the class {NFC}; expected one$"):
        dataset.samples("train")


@pytest.mark.parametrize(("listed", "folder", "annotated"), [(NFC, NFD, NFD), (NFD, NFC, NFC), (NFC, NFC, NFD)])
def test_the_list_of_tiny_imagenet_may_have_another_unicode_form(
    listed: str, folder: str, annotated: str, tmp_path: Path
) -> None:
    root = tiny(tmp_path / "tiny", lines(listed, "dog").encode(), ["dog"])
    annotation = f"x.JPEG\t{annotated}\t0\t0\t62\t62\n".encode()
    annotations = (root / "val/val_annotations.txt").read_bytes() + annotation
    written(root, {f"train/{folder}/images/0.JPEG": b"x", "val/images/x.JPEG": b"x", "val/val_annotations.txt": annotations})
    dataset = TinyImageNet(root, tmp_path)
    for split in ("train", "val"):
        assert sorted(dataset.samples(split)["wnid"].to_pylist()) == sorted([listed, "dog"])
        assert not dataset.passed_over(split)


def test_words_may_be_latin_1_or_utf_8_line_by_line() -> None:
    data = codecs.BOM_UTF8 + "n1\tcaf\u00e9\n\n".encode() + "n2\tcr\u00e8me\r\n".encode("latin-1") + b"n3\n"
    assert words_of(data) == {"n1": "caf\u00e9", "n2": "cr\u00e8me"}
    assert text_lines(b"") == []


def test_a_class_is_called_as_the_source_calls_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(lines(NFC, "dog", "dog"))
    assert choose(tmp_path / "mine.txt", ["dog", NFD, "eel"], tmp_path) == sorted([NFD, "dog"])
    assert nfc(NFD) == NFC
