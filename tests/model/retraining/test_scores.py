"""Which images a network has wrong among the classes that both know."""

import numpy as np
import pytest
import torch

from base.errors import InputError
from model.evaluation.predictions import open_predictions, write_part
from model.retraining.scores import wrong_among

WNIDS = ["n0", "n1", "n2"]
PROBS = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.6, 0.3, 0.1]])
TRUE = [1, 1, 2, 1]


def write(folder, true=TRUE):
    path, ids = folder / "p.parquet", [f"image-{n}" for n in range(len(PROBS))]
    write_part(path, ids, None if true is None else np.array(true), PROBS, {"wnids": WNIDS})
    return open_predictions(path)


def test_of_all_classes_it_is_what_the_ranks_say(tmp_path):
    assert wrong_among(write(tmp_path), WNIDS).tolist() == [True, False, False, True]


def test_outputs_and_images_of_other_classes_are_left_out(tmp_path):
    assert wrong_among(write(tmp_path), ["n1", "n0", "gone"]).tolist() == [False, False, True]
    assert wrong_among(write(tmp_path), ["n2"]).tolist() == [False]
    assert wrong_among(write(tmp_path), ["gone"]).tolist() == []


def test_images_without_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match="p.parquet have no labels; evaluate on a split whose labels are public$"):
        wrong_among(write(tmp_path, None), WNIDS)
