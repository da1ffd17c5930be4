"""Vectors to short binary codes: `python -m tasks.workers.codes JOB.json ...`.

A run that was killed resumes, within an auto-encoder too.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from base.errors import InputError
from base.files import write_text
from base.progress import Part, Progress
from model.retrieval.autoencoder import AutoEncoder, CodeConfig, load_autoencoder, save_autoencoder, train_autoencoder
from model.retrieval.baselines import fit_projection
from model.retrieval.embed import thumbnails
from model.retrieval.encoding import Encoder, dead_bits, distinct_codes, encode_part, reconstruction_error
from model.retrieval.hamming import write_index
from model.retrieval.vectors import Vectors, open_vectors, write_vectors
from tasks.job import WORK, Artifact, Share
from tasks.jobs.codes import CODES, DATABASE, ENCODER, INDEX, QUERIES, CodeName, CodesJob
from tasks.workers.entry import Counts, run_worker

PRINCIPAL = ("pca", "itq")
"""Methods that have no more bits than there are principal components."""


def main(job: CodesJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Train, encode and measure every code."""
    del share
    torch.set_num_threads(job.num_threads)
    work = directory / WORK
    database, queries = (_vectors(made, job.thumbnails, work) for made in (job.database, job.queries))
    measured: list[dict[str, Any]] = []
    trained = [name for name in job.codes if name.method == "autoencoder"]
    for name in job.codes:
        if name.method in PRINCIPAL and name.bits > min(database.num_values, len(database)):
            progress.say(
                f"{job.title}: {name} is left out, there are {len(database):,} vectors of {database.num_values:,} values"
            )
            continue
        (directory / str(name)).mkdir(exist_ok=True)
        part = Part(progress, trained.index(name) if name in trained else 0, len(trained))
        measured.append(_make(job, name, directory / str(name), (database, queries), part, work))
    if not measured:
        raise InputError(
            f"no code of {', '.join(map(str, job.bits))} bits can be fitted to {len(database):,} vectors of "
            f"{database.num_values:,} values; use fewer bits, or more methods"
        )
    write_text(directory / CODES, json.dumps(measured, indent=2) + "\n")
    return {"codes": len(measured), "database": len(database), "queries": len(queries)}


def _make(
    job: CodesJob, name: CodeName, folder: Path, vectors: tuple[Vectors, Vectors], progress: Progress, work: Path
) -> dict[str, Any]:
    """Make one code, if it is not there, and return its measures."""
    done = folder / "measures.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_bytes())
        return found
    database, queries = vectors
    encoder = _encoder(job, name, folder, database, progress, work)
    for file, some in ((QUERIES, queries), (DATABASE, database)):
        codes = np.concatenate([encode_part(encoder, part, job.num_threads) for part in some.parts])
        about = {**name._asdict(), "padding": 8 * codes.shape[1] - name.bits, "vectors": some.about}
        write_vectors(folder / file, some.keys.to_pylist(), _labels(some.wnids), codes, about)
    write_index(codes, folder / INDEX)
    measures = {
        **name._asdict(),
        "dead_bits": dead_bits(codes, name.bits),
        "distinct_codes": distinct_codes(codes),
        "reconstruction_val": reconstruction_error(encoder, queries) if isinstance(encoder, AutoEncoder) else None,
    }
    write_text(done, json.dumps(measures))
    return measures


def _encoder(job: CodesJob, name: CodeName, folder: Path, database: Vectors, progress: Progress, work: Path) -> Encoder:
    if name.method != "autoencoder":
        return fit_projection(name.method, database, name.bits, name.seed)
    path = folder / ENCODER
    if path.exists():
        return load_autoencoder(path)
    config = CodeConfig(
        bits=name.bits, hidden=job.hidden, seed=name.seed, epochs=job.epochs, batch_size=min(job.batch_size, len(database))
    )
    network = train_autoencoder(database, config, work / f"{name}.pt", progress=progress)
    save_autoencoder(network, path)
    return network


def _vectors(made: Artifact, shrink: bool, work: Path) -> Vectors:
    """The vectors of an artefact; pixels are shrunk into the scratch space first."""
    vectors = open_vectors(sorted(made.path.glob("*.arrow")))
    if not shrink:
        return vectors
    folder = work / f"thumbnails-{made.digest[:12]}"
    folder.mkdir(exist_ok=True)
    paths = [folder / part.path.name for part in vectors.parts]
    for path, part in zip(paths, vectors.parts, strict=True):
        if not path.exists():
            small = np.concatenate(
                [thumbnails(block.values.astype(np.uint8, copy=False)) for block in Vectors((part,)).blocks()]
            )
            write_vectors(path, part.keys.to_pylist(), _labels(part.wnids), small, part.about)
    return open_vectors(paths)


def _labels(wnids: pa.Array) -> list[str] | None:
    labels: list[str] = wnids.to_pylist()
    return None if wnids.null_count == len(wnids) else labels


if __name__ == "__main__":
    run_worker(CodesJob, main)
