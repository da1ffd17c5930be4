"""ReaL's labels are joined to images by file name, and a file that cannot be meant is refused."""

import json
from pathlib import Path

import pytest

from base.errors import InputError
from data_shards.datasets.real_labels import read_real_labels

WNIDS = ["n1", "n2", "n3"]


def write(folder: Path, entries: object) -> Path:
    path = folder / "real.json"
    path.write_text(json.dumps(entries))
    return path


def val(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def test_an_entry_belongs_to_the_image_of_its_number_whatever_the_order(tmp_path: Path) -> None:
    path = write(tmp_path, [[0], [2, 1, 2], [], [1]])
    names = [val(4), f"n2/{val(2)}", val(3), val(1)]
    assert read_real_labels(path, names, WNIDS) == [["n2"], ["n2", "n3"], [], ["n1"]]
    assert read_real_labels(path, names[1:2], WNIDS) == [["n2", "n3"]]


@pytest.mark.parametrize(
    ("entries", "names", "message"),
    [
        ([[0]], [val(2)], r"has 1 entries, but an image has the number 2; expected an entry for each image$"),
        (
            [[0], [3]],
            [val(2)],
            "has the label 3, but the networks have 3 classes; a label is the place of a class among the sor",
        ),
        ([[0], [1]], [val(1), f"n2/{val(1)}"], "^2 images have the number 1; .* has an entry for one: shard the official"),
        ([[0]], ["n1/n1_10.JPEG"], "an image is called n1/n1_10.JPEG; .* labels the validation images of ILSVRC-2012 by their"),
        ([[0], 3], [val(1)], "holds '3'; expected a list with a list of labels from 0 up for each image"),
        ([[-1]], [val(1)], r"holds '\[-1\]'; expected a list with a list"),
        ({"a": 1}, [val(1)], "holds \"{'a': 1}\"; expected a list with a list"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(entries: object, names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_real_labels(write(tmp_path, entries), names, WNIDS)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*real.json; expected real.json with a list of labels"):
        read_real_labels(tmp_path / "real.json", [], WNIDS)
    (tmp_path / "real.json").write_text("0 1 2")
    with pytest.raises(InputError, match=r"is not JSON \(.*\); expected real.json, a list of lists of labels"):
        read_real_labels(tmp_path / "real.json", [], WNIDS)
