"""The JPEG of any image of a shard set, by its key. Imported by the workers that draw."""

from collections.abc import Callable

from base.errors import InputError
from data_shards.shard_set import ShardSet


def picture_of(shards: ShardSet) -> Callable[[str], bytes]:
    """Return a function from a key to the JPEG of that image; it raises an `InputError` if there is no such image."""
    places = shards.samples.set_index("key")[["shard", "offset", "size"]].to_dict("index")

    def picture(key: str) -> bytes:
        if key not in places:
            raise InputError(f"no image {key} in {shards.directory}; expected a key such as {next(iter(places))}")
        place = places[key]
        with open(shards.directory / place["shard"], "rb") as tar:
            tar.seek(place["offset"])
            return tar.read(place["size"])

    return picture
