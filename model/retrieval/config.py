"""How much of section 6.1 is measured: which codes, how they are trained, how many queries are shown."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RetrievalConfig(BaseModel):
    """Retrieval by features, pixels and codes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_networks: int = Field(1, gt=0)
    """(ours) How many of the networks that are trained from scratch are embedded."""

    dtype: Literal["float32", "float16"] = "float32"
    """(ours) Of stored features; float16 halves the disk and changes about one list in 150."""

    pixels: bool = True
    """[K12 §6.1] Whether neighbours by pixels are searched too: 150 kB per image at full size."""

    methods: tuple[Literal["autoencoder", "random-projection", "pca", "itq"], ...] = (
        "autoencoder",
        "random-projection",
        "pca",
        "itq",
    )
    """[K12 §6.1] The auto-encoder; (ours) baselines to compare it with."""

    bits: tuple[int, ...] = (28, 256)
    """[14] Krizhevsky & Hinton, ESANN 2011."""

    num_seeds: int = Field(1, gt=0)
    """(ours) Codes per network and number of bits. With one, the n-th network has seed n."""

    epochs: int = Field(20, gt=0)
    """(ours) Of an auto-encoder."""

    batch_size: int = Field(256, gt=0)
    """(ours) Of an auto-encoder."""

    num_shown: int = Field(200, gt=0)
    """(ours) Queries that are listed with their neighbours. All are scored."""
