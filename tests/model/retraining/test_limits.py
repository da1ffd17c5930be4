"""Images that a person has to look at."""

import pytest

from model.retraining.limits import Limits, held

GOOD = {"images_removed": 0, "classes_removed": [], "images_bad": 0, "num_train": 100}


@pytest.mark.parametrize(
    ("changes", "share_removed", "shared", "reason"),
    [
        ({}, 0.0, [], None),
        ({"classes_removed": None}, None, [], None),
        ({"images_removed": 5}, 0.05, [], None),
        ({"images_removed": 6}, 0.06, [], "6 of the champion's training images are gone (6.0%), max_removed allows 5.0%"),
        ({"classes_removed": ["n1", "n2"]}, 0.0, [], "2 classes are gone (n1, n2), max_classes_removed allows 0"),
        ({"images_bad": 1}, 0.0, [], None),
        ({"images_bad": 25}, None, [], "25 training images cannot be decoded (20.0%), max_bad allows 1.0%"),
        ({}, None, ["a = b"], "1 training image is in the evaluation set too (a = b), max_overlap allows 0"),
        ({"images_removed": 9}, 0.5, list("abcdefg"), "a, b, c, d, e, and 2 more), max_overlap allows 0"),
    ],
)
def test_images_are_held_beyond_a_limit(changes, share_removed, shared, reason):
    found = held({**GOOD, **changes}, share_removed, shared, Limits())
    assert found == reason if reason is None else found is not None and found.endswith(reason)


def test_every_reason_is_given():
    found = held({**GOOD, "images_removed": 9, "classes_removed": ["n1"], "images_bad": 50}, 0.5, ["a = b"], Limits())
    assert len(found.split("; ")) == 4


def test_limits_are_parameters():
    limits = Limits(max_removed=1, max_classes_removed=1, max_bad=1, max_overlap=1)
    row = {**GOOD, "images_removed": 100, "classes_removed": ["n1"], "images_bad": 50}
    assert held(row, 1.0, ["a = b"], limits) is None
