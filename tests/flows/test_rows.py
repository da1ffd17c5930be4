"""Within one evaluation every row has a name of its own."""

from pathlib import Path

import pytest

from base.errors import InputError
from flows.rows import evaluation_rows, names_of


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        (["runs/demo-cnn-0/ab/weights.safetensors", "runs/demo-cnn-1/cd/weights.safetensors"], ["demo-cnn-0", "demo-cnn-1"]),
        (["nets/v1/a.safetensors", "nets/v1/b.pt"], ["a", "b"]),
        (["nets/v1/a.pt", "nets/v2/b.pt", "other/v1/c.pt"], ["a", "b", "other"]),
        (["runs/cnn/ab/weights.pt", "runs/cnn/cd/weights.pt"], ["ab/weights.pt", "cd/weights.pt"]),
        (["x/runs/cnn/ab/weights.pt", "y/runs/cnn/ab/weights.pt"], ["x/runs/cnn/ab/weights.pt", "y/runs/cnn/ab/weights.pt"]),
        (["nets/v1/a.pt", "nets/v1/a.safetensors"], ["v1/a.pt", "v1/a.safetensors"]),
        (["nets/v1/nets.pt", "nets/v2/other.pt"], ["v1/nets.pt", "other"]),
        (["/w.pt"], ["w"]),
    ],
)
def test_rows_are_named_after_the_folder_or_after_what_differs(weights, names):
    assert names_of([Path(path) for path in weights], None) == names


@pytest.mark.parametrize(
    ("weights", "names", "message"),
    [
        (["a", "b"], ["one"], "1 names for 2 weights files; expected one for each"),
        (["a", "b"], ["one", "one"], "the name 'one' stands for two rows; expected --names with a different name for each"),
        (["a", "b"], ["one", "2 networks"], "the name '2 networks' stands for two rows"),
        (["x/y/a", "x/y/../y/b"], ["one", "one"], "the name 'one' stands for two rows"),
        (["x/y/a", "x/y/a"], None, "the weights file .*x/y/a was given twice; give each network once"),
    ],
)
def test_a_name_that_two_rows_would_share_is_refused(weights, names, message):
    with pytest.raises(InputError, match=message):
        names_of([Path(path) for path in weights], names)


def test_networks_of_one_folder_have_a_row_each_and_one_for_their_average():
    rows = evaluation_rows("table2", names_of([Path("v1/a.pt"), Path("v1/b.pt")], None))
    assert [(row.model, row.members) for row in rows] == [("a", (0,)), ("b", (1,)), ("2 networks", (0, 1))]
