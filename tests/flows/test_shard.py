"""What a sharding run says at its end."""

import pytest

from flows.shard import summary

NOTHING = {"images": 1000, "classes": 20, "shards": 2, "mended": 0, "turned": 0, "bad_images": 0}


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "1,000 images of 20 classes in 2 shards"),
        ({"images": 1, "classes": 2, "shards": 1}, "1 image of 2 classes in 1 shard"),
        (
            {"mended": 3, "turned": 1, "bad_images": 1},
            "1,000 images of 20 classes in 2 shards; 3 images converted from other formats; 1 image turned upright; "
            "1 image left out that cannot be decoded",
        ),
        (
            {"classes_without_images": 1, "ignored hidden files": 2, "ignored text files": 1},
            "1,000 images of 20 classes in 2 shards; 1 class without images; ignored: hidden files (2), text files (1)",
        ),
    ],
)
def test_the_summary_of_a_set_is_plain_english_and_leaves_out_what_is_nothing(counts, sentence):
    assert summary(NOTHING | counts) == sentence
