"""Queries that are images of the database."""

import pytest

from base.errors import InputError
from model.retrieval.disjoint import check_disjoint


def test_different_images_pass():
    check_disjoint({"a": "1"}, {"a": "2"})


def test_shared_images_are_named():
    message = r"4 of 5 queries are images of the database \(q0 is d0, q1 is d1, q2 is d2, …\)"
    with pytest.raises(InputError, match=message):
        check_disjoint({f"q{n}": str(n) for n in range(5)}, {f"d{n}": str(n) for n in range(4)})
