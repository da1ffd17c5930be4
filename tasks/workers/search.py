"""A user's photographs to their nearest training images by features: `python -m tasks.workers.search JOB.json`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from base.errors import InputError
from base.files import atomic_write
from base.progress import Progress
from data_shards.decoding import BadImageError, decode_jpeg
from data_shards.images import store
from data_shards.shard_set import ShardSet
from data_shards.storage import Storage
from model.network.inputs import subtract_mean
from model.network.weights import load_weights
from model.reporting.neighbours import Strip, draw_strips
from model.retrieval.embed import Embedder, embed, features_of
from model.retrieval.search import nearest
from model.retrieval.vectors import open_vectors
from tasks.job import Share
from tasks.jobs.retrieve import NEIGHBOURS
from tasks.jobs.search import PICTURE, SearchJob
from tasks.workers.entry import Counts, run_worker
from tasks.workers.pictures import picture_of


def main(job: SearchJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Store, crop, embed and search.

    Raises:
        InputError: an image cannot be decoded.
    """
    del share
    torch.set_num_threads(1)
    network, info = load_weights(job.weights.path)
    shards = ShardSet.open(job.database_shards.path)
    jpegs = [_stored(path, shards.side) for path in job.paths]
    views = torch.stack([_centre(jpeg, network.config.crop) for jpeg in jpegs])
    embedder = Embedder(features_of(network), lambda images: subtract_mean(images, info.colours))
    passes = (views[start : start + 100, None] for start in range(0, len(views), 100))
    features = torch.cat([found[0] for found in embed([embedder], passes)]).numpy()
    database = open_vectors(sorted(job.database.path.glob("*.arrow")))
    found = nearest(features.astype(database.dtype), database, job.num_neighbours)
    ids, wnids = (column.take(pa.array(found.rows.ravel())).to_pylist() for column in (database.keys, database.wnids))
    words = dict(zip(shards.classes["wnid"], shards.classes["words"], strict=True))
    rows = {
        "image": [str(path) for path in job.paths for _ in range(job.num_neighbours)],
        "rank": list(range(1, job.num_neighbours + 1)) * len(job.paths),
        "neighbour_id": ids,
        "neighbour_wnid": wnids,
        "words": [words.get(wnid) for wnid in wnids],
        "distance": np.sqrt(found.distances).ravel(),
    }
    with atomic_write(directory / NEIGHBOURS) as file:
        pq.write_table(pa.table(rows), file)
    picture, k = picture_of(shards), job.num_neighbours
    strips = [Strip(jpeg, tuple(map(picture, ids[k * n : k * n + k])), (True,) * k) for n, jpeg in enumerate(jpegs)]
    draw_strips(strips, directory / PICTURE)
    progress.report(len(jpegs), len(jpegs), "images")
    return {"images": len(jpegs), "database": len(database)}


def _stored(path: Path, side: int) -> bytes:
    """The square JPEG that sharding would keep."""
    try:
        return store(path.read_bytes(), Storage("square", side)).jpeg
    except BadImageError as error:
        raise InputError(f"{path} cannot be decoded: {error}") from error


def _centre(jpeg: bytes, crop: int) -> Tensor:
    """The centre view, uint8 (crop, crop, 3); where the centre falls between two pixels, as the loader cuts it."""
    pixels = decode_jpeg(jpeg)
    top, left = ((side - crop + 1) // 2 for side in pixels.shape[:2])
    return torch.from_numpy(pixels[top : top + crop, left : left + crop].copy())


if __name__ == "__main__":
    run_worker(SearchJob, main)
