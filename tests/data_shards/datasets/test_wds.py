"""WebDataset tars of anyone: labels from `.cls` or JSON, names from a list, the same samples as the images that they hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from base.errors import InputError
from data_shards.datasets.dataset import as_rows
from data_shards.datasets.wds import WdsSource

ROOT = Path(__file__).parents[3]
NAMES = ["zebra", "ape", "cat"]
"""Of the numbers, in an order that is not alphabetic."""


def samples_of(dataset: Any, split: str) -> dict[str, tuple[str | None, bytes]]:
    return {sample.name: (sample.wnid, dataset.read(sample)) for sample in as_rows(dataset.samples(split))}


def about(label: object) -> bytes:
    return json.dumps({"label": label}).encode()


def write(root: Path, tar: Any, picture: Any, suffix: str, labels: list[bytes]) -> dict[str, tuple[str | None, bytes]]:
    """Write two tars of nine samples, and return what they hold."""
    for number in range(2):
        files = [
            (f"a/{n}.{kind}", data)
            for n in range(number, 9, 2)
            for kind, data in ((suffix, labels[n % 3]), ("jpg", picture(n)))
        ]
        (root / f"train-{number:04d}.tar").write_bytes(tar(files))
    return {f"a_{n}.jpg": (NAMES[n % 3], picture(n)) for n in range(9)}


@pytest.mark.parametrize(
    ("suffix", "labels", "listed"),
    [
        ("cls", [b"0", b"1", b"2"], True),
        ("cls", [b"0\n", b"1\n", b"2\n"], True),
        ("json", [about(0), about(1), about(2)], True),
        ("json", [about(name) for name in NAMES], True),
        ("json", [about(name) for name in NAMES], False),
    ],
)
def test_every_kind_of_label_names_the_class(
    suffix: str, labels: list[bytes], listed: bool, tmp_path: Path, open_listed: Any, tar: Any, picture: Any
) -> None:
    expected = write(tmp_path, tar, picture, suffix, labels)
    if listed:
        (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    dataset = open_listed("wds", tmp_path)
    assert samples_of(dataset, "train") == expected
    assert [wnid for wnid, _ in dataset.classes()] == sorted(NAMES)
    assert dataset.found("train").startswith("found WebDataset tars: 2 files of ")


def test_a_list_chooses_the_classes(tmp_path: Path, open_listed: Any, tar: Any, picture: Any) -> None:
    write(tmp_path, tar, picture, "json", [about(name) for name in NAMES])
    (tmp_path / "wnids.txt").write_text("ape\nzebra\n")
    dataset = open_listed("wds", tmp_path, wnids=tmp_path / "wnids.txt")
    assert {wnid for wnid, _ in samples_of(dataset, "train").values()} == {"ape", "zebra"}
    assert dataset.passed_over("train") == {"images of classes that wnids.txt does not list": 3}


@pytest.mark.parametrize(
    ("suffix", "labels", "names", "message"),
    [
        ("cls", [b"0", b"1", b"2"], None, "has the class 0, of unknown name; put classes.txt beside the tars"),
        ("cls", [b"0", b"1", b"3"], NAMES, "has the class 3; expected one of the 3 listed"),
        (
            "cls",
            [b"0", b"1", b"-1"],
            NAMES,
            "holds 3 train images without a label, or with the label -1, such as a_2.jpg; expec",
        ),
        ("json", [about("dog")] * 3, NAMES, "has the class 'dog'; expected one of the 3 listed"),
        ("txt", [b"a zebra"] * 3, NAMES, "has neither .cls nor .json; expected its class in one of them"),
        ("cls", [b"0", b"1", b"2"], ["ape", "ape"], "holds 2 names, 1 of them distinct; expected one name a class"),
    ],
)
def test_labels_without_a_class_are_refused(
    suffix: str, labels: list[bytes], names: Any, message: str, tmp_path: Path, open_listed: Any, tar: Any, picture: Any
) -> None:
    write(tmp_path, tar, picture, suffix, labels)
    if names:
        (tmp_path / "classes.txt").write_text("\n".join(names))
    with pytest.raises(InputError, match=message):
        open_listed("wds", tmp_path).samples("train")


def test_a_tar_that_was_cut_is_refused(tmp_path: Path, open_listed: Any, tar: Any, picture: Any) -> None:
    write(tmp_path, tar, picture, "json", [about(name) for name in NAMES])
    path = tmp_path / "train-0001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="train-0001.tar is neither a folder nor a whole tar"):
        open_listed("wds", tmp_path)


def test_a_folder_without_tars_names_what_is_missing(tmp_path: Path) -> None:
    missing = WdsSource(path=tmp_path).open(tmp_path).splits()
    assert missing == {
        "train": f"no train*.tar or *-train-*.tar in {tmp_path}",
        "val": f"no val*.tar or *-val*-*.tar in {tmp_path}",
    }
