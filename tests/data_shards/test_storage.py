"""The storages that can be asked for."""

import pytest

from base.errors import InputError
from data_shards.storage import Storage, parse_storage


@pytest.mark.parametrize(
    ("text", "storage"),
    [
        ("square256", Storage("square", 256)),
        ("shorter256", Storage("shorter", 256)),
        ("square72", Storage("square", 72)),
        ("square64", Storage("square", 64)),
        ("shorter4096", Storage("shorter", 4096)),
        ("original", Storage("original", None)),
    ],
)
def test_a_storage_is_a_shape_and_a_side(text: str, storage: Storage) -> None:
    assert parse_storage(text) == storage


@pytest.mark.parametrize(
    "text",
    [
        "",
        "square",
        "256",
        "square63",
        "square4097",
        "square0256",
        "square99999",
        "original256",
        "Square256",
        "square256\n",
        "longer256",
    ],
)
def test_any_other_storage_is_refused(text: str) -> None:
    with pytest.raises(
        InputError, match="^unknown storage .*; expected original, or square or shorter with a side of 64 to 4096"
    ):
        parse_storage(text)
