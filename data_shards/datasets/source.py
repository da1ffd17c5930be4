"""Every source that a preset can name. To add one, write its file and add its class here."""

from typing import Annotated

from pydantic import Field

from data_shards.datasets.fall import FallSource
from data_shards.datasets.folder import FolderSource
from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.datasets.imagenet_v2 import ImageNetV2Source
from data_shards.datasets.imagenet_variants import ImageNetVariantSource
from data_shards.datasets.imagenette import ImagenetteSource
from data_shards.datasets.parquet import ParquetSource
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.datasets.tiny_imagenet import TinyImageNetSource
from data_shards.datasets.wds import WdsSource

AnySource = Annotated[
    SyntheticSource
    | TinyImageNetSource
    | FolderSource
    | IlsvrcSource
    | FallSource
    | ParquetSource
    | WdsSource
    | ImagenetteSource
    | ImageNetV2Source
    | ImageNetVariantSource,
    Field(discriminator="kind"),
]
"""A source of any kind; `kind` decides its fields."""
