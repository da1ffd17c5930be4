"""Ranking among some classes, and several right labels: counted by hand, and the same for a network and an average."""

import numpy as np
import pytest
import torch

from base.errors import InputError
from model.evaluation.ensembles import Mix, average
from model.evaluation.scopes import among, relabelled

WNIDS = [f"n{n}" for n in range(8)]
PROBS = [
    # n0   n1   n2   n3   n4   n5   n6   n7
    [0.30, 0.05, 0.20, 0.10, 0.12, 0.08, 0.14, 0.01],  # n2: second; among n1, n2, n5 first
    [0.30, 0.25, 0.20, 0.10, 0.05, 0.04, 0.03, 0.03],  # n5: sixth; among the three third
    [0.01, 0.40, 0.39, 0.05, 0.05, 0.05, 0.03, 0.02],  # n2: second; among the three second
    [0.90, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01],  # n0: first; not an image of the three
    [0.02, 0.10, 0.20, 0.30, 0.10, 0.10, 0.08, 0.10],  # n1: third behind ties; among the three second
]
TRUE = [2, 5, 2, 0, 1]


@pytest.fixture
def file(write_file):
    return write_file(probs=torch.tensor(PROBS), true=TRUE, wnids=WNIDS)


def alone(file, scope):
    return average([file], [Mix((0,))], scope)[0]


def test_only_images_of_the_classes_count_and_are_ranked_among_these(file):
    answers = alone(file, among(file, ["n5", "n2", "n1"]))
    assert answers.image_ids == ["image-0", "image-1", "image-2", "image-4"]
    assert answers.wnids == ["n1", "n2", "n5"]
    assert answers.labels.ranks.tolist() == [1, 3, 2, 2]
    assert answers.labels.class_indices.tolist() == [1, 2, 1, 0]
    assert answers.best.tolist() == [[1, 2, 0], [0, 1, 2], [0, 1, 2], [1, 0, 2]]
    expected = [0.20 / 0.33, 0.04 / 0.49, 0.39 / 0.84, 0.10 / 0.40]
    assert np.exp(answers.labels.log_probs) == pytest.approx(expected, rel=1e-6)


def test_all_classes_are_no_restriction(file):
    every = alone(file, among(file, WNIDS))
    assert every.labels.ranks.tolist() == file.answers().labels.ranks.tolist()
    assert every.labels.log_probs == pytest.approx(file.answers().labels.log_probs, abs=1e-6)


def test_any_of_several_labels_is_right_and_an_image_without_one_does_not_count(file):
    labels = {"image-0": ["n2", "n0"], "image-1": ["n7", "n6"], "image-2": [], "image-3": ["n1"], "image-4": ["n4", "n5"]}
    answers = alone(file, relabelled(file, labels))
    assert answers.image_ids == ["image-0", "image-1", "image-3", "image-4"]
    assert answers.labels.ranks.tolist() == [1, 7, 2, 4]
    assert answers.labels.class_indices.tolist() == [2, 5, 0, 1]
    counts = answers.count_errors()
    assert (counts.num_images, counts.top1_wrong, counts.top5_wrong) == (4, 3, 1)


@pytest.mark.parametrize("num_images", [5, 300])
def test_an_average_is_judged_as_its_probabilities_are(write_file, num_images):
    files = [write_file(seed, num_images=num_images, num_classes=9) for seed in (0, 1)]
    mean = torch.from_numpy(np.mean([np.concatenate(list(file.probs())) for file in files], axis=0, dtype=np.float64)).float()
    joined = write_file(2, probs=mean, name="mean")
    kept = ["n7", "n1", "n4"]
    labels = {image_id: [f"n{k}" for k in range(n % 4)] for n, image_id in enumerate(joined.image_ids)}
    for scope_of in (lambda file: among(file, kept), lambda file: relabelled(file, labels)):
        together = average(files, [Mix((0, 1))], scope_of(files[0]))[0]
        one = alone(joined, scope_of(joined))
        assert together.image_ids == one.image_ids
        assert together.best.tolist() == one.best.tolist()
        assert together.labels.ranks.tolist() == one.labels.ranks.tolist()


def test_a_class_without_an_output_ranks_behind(write_file):
    tiny = -torch.finfo(torch.float32).tiny
    file = write_file(probs=torch.tensor([[0.0, 1.0, tiny], [0.5, 0.5, tiny]]), true=[2, 0], wnids=["n0", "n1", "n2"])
    answers = alone(file, among(file, ["n0", "n2"]))
    assert answers.labels.ranks.tolist() == [2, 1]
    assert np.isfinite(answers.labels.log_probs).all()


@pytest.mark.parametrize(
    ("scope_of", "message"),
    [
        (
            lambda file: among(file, ["n1", "n9"]),
            "has no probabilities for 1 of the 2 classes, such as n9; expected networks that",
        ),
        (lambda file: among(file, ["n3", "n4"]), "has no image of the 2 classes; expected at least one"),
        (lambda file: relabelled(file, {"image-0": ["n1"]}), "the labels have no entry for 4 images of .*, such as image-1"),
        (lambda file: relabelled(file, dict.fromkeys(file.image_ids, ("n9",))), "name 1 classes that .* has no probabilities"),
        (lambda file: relabelled(file, dict.fromkeys(file.image_ids, ())), "none of the 5 images of .* has a label"),
    ],
)
def test_a_scope_that_does_not_fit_is_refused(file, scope_of, message):
    with pytest.raises(InputError, match=message):
        scope_of(file)


def test_images_without_labels_have_no_classes_to_choose_from(write_file):
    file = write_file(true=None)
    with pytest.raises(InputError, match="has no labels; expected those of a labelled split such as val"):
        among(file, ["n1", "n2"])
