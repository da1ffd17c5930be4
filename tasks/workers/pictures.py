"""The JPEG of any image of a shard set, by its key. Imported by the workers that draw."""

from collections.abc import Callable

from data_shards.shard_set import ShardSet


def picture_of(shards: ShardSet) -> Callable[[str], bytes]:
    """Return a function from a key to the JPEG of that image."""
    places = shards.samples.set_index("key")[["shard", "offset", "size"]].to_dict("index")

    def picture(key: str) -> bytes:
        place = places[key]
        with open(shards.directory / place["shard"], "rb") as tar:
            tar.seek(place["offset"])
            return tar.read(place["size"])

    return picture
