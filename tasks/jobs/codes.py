"""Vectors to short binary codes: `codes/<key>/<code>/{database,queries}.arrow`, an encoder, a Faiss index.

A code is named `autoencoder-28-0`: method, bits, seed. `codes.json` has the measures of each code. One worker trains and
encodes all codes of some jobs, one after another. A code whose files exist is skipped.
"""

from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from tasks.job import Artifact, Job, Resource

CODES = "codes.json"
DATABASE = "database.arrow"
QUERIES = "queries.arrow"
INDEX = "database.index"
"""Faiss reads it: `faiss.read_index_binary`."""
ENCODER = "autoencoder.safetensors"

Method = Literal["autoencoder", "random-projection", "pca", "itq"]


class CodeName(NamedTuple):
    """One kind of code."""

    method: Method
    bits: int
    seed: int

    def __str__(self) -> str:
        return f"{self.method}-{self.bits}-{self.seed}"


class CodesJob(Job):
    """The codes of one network's features, or of raw pixels."""

    stages: ClassVar = ("codes",)
    together: ClassVar = True
    resumable: ClassVar = True
    libraries: ClassVar = ("torch", "numpy", "faiss-cpu")

    database: Artifact
    """Vectors of the training images: codes are fitted to them."""
    queries: Artifact
    """Vectors of the images that are searched with."""
    thumbnails: bool = False
    """Whether the vectors are pixels, to be shrunk to 32 × 32 first. [14]"""
    methods: tuple[Method, ...]
    bits: tuple[int, ...]
    seeds: tuple[int, ...]
    hidden: tuple[int, ...]
    """Units of the auto-encoder's layers before the code."""
    epochs: int
    batch_size: int
    name: Resource[str]
    num_threads: int = 1
    """A setting: it decides the order in which floats are summed."""

    @property
    def title(self) -> str:
        """`codes of demo-cnn-0`."""
        return f"codes of {self.name}"

    @property
    def folder(self) -> Path:
        """`codes`."""
        return Path("codes")

    @property
    def codes(self) -> list[CodeName]:
        """Every code to be made; the principal components need no seed."""
        return [
            CodeName(method, bits, seed)
            for method in self.methods
            for bits in self.bits
            for seed in (self.seeds if method != "pca" else self.seeds[:1])
        ]
