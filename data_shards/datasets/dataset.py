"""The interface of every dataset (its classes, the samples of a split, one sample's bytes) and of the source that opens it.

Called by `data_shards.planning`, which decides what goes into which shard, by `data_shards.writing`, and by `tasks`. Samples
are columns, since a release of ImageNet has fourteen million of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from base.errors import InputError
from data_shards.datasets.devkit import Devkit
from data_shards.datasets.image_files import PassedOver, not_utf8, printable
from data_shards.datasets.unreadable import broken_link

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

SAMPLES = pa.schema(
    [
        pa.field("wnid", pa.string()),
        pa.field("name", pa.string(), nullable=False),
        pa.field("path", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64()),
    ]
)
"""The columns of a split's samples; a row is a `Sample`."""


class ImageClass(NamedTuple):
    """One class: its WordNet id and its words."""

    wnid: str
    words: str


class Sample(NamedTuple):
    """One image before it is sharded: what it shows and where its bytes are."""

    wnid: str | None
    """None if the truth is not public."""
    name: str
    """The original file's name, with its suffix; its path below the class if it is in a folder of that."""
    path: str
    """The file that holds the bytes; for a dataset without files, a name of the image."""
    offset: int | None = None
    """Of the first byte in an archive; None if the file is the image."""
    size: int | None = None


class Dataset(ABC):
    """A set of images. Small and picklable: each process that writes shards gets a copy."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in artefacts and tables: `synthetic`, `tiny-imagenet`, the folder's name."""

    @abstractmethod
    def classes(self) -> list[ImageClass]:
        """Return every class in WNID order; the position is the class index."""

    @abstractmethod
    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples in a fixed order, with the columns of `SAMPLES`.

        Raises:
            InputError: the source does not have the expected layout.
        """

    @abstractmethod
    def identity(self, split: Split) -> dict[str, Any]:
        """Return what tells this input from another, as JSON: equal for equal images, and cheap to compute."""

    def splits(self) -> dict[Split, str | None]:
        """Return for each split of the dataset what is missing, as a phrase; None if the split is complete."""
        return {"train": None, "val": None}

    def archives(self, split: Split) -> list[Path]:
        """Return the archives and folders whose members have to be listed before `samples` is called."""
        del split
        return []

    def passed_over(self, split: Split) -> PassedOver:
        """Return how many files of the split are not stored, by kind."""
        del split
        return PassedOver()

    def found(self, split: Split) -> str | None:
        """Return what the source turned out to hold and how it is read, as a phrase, if that is not obvious from its name."""
        del split
        return None

    def official_count(self, split: Split) -> int | None:
        """Return the number of images that the release's papers state, if they do."""
        del split
        return None

    def devkit(self) -> Devkit | None:
        """Return the competition's synsets, if the dataset belongs to one."""
        return None

    def read(self, sample: Sample) -> bytes:
        """Return the image file's bytes.

        Raises:
            InputError: the file is missing, or ends before the image does.
        """
        try:
            with open(sample.path, "rb") as file:
                file.seek(sample.offset or 0)
                data = file.read(-1 if sample.size is None else sample.size)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise InputError(f"no file {sample.path}, which held {sample.name}; restore it and run again") from error
        if sample.size not in (None, len(data)):
            end = (sample.offset or 0) + len(data)
            raise InputError(f"{sample.path} ends within {sample.name}, at byte {end:,}; it was cut short")
        return data


class Source(BaseModel, ABC):
    """A dataset as plain values, for a preset, a job file or a command line. Each dataset's module has its subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: str
    """(ours) The kind of dataset, and of layout."""

    @abstractmethod
    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> Dataset:
        """Return the dataset.

        When it first reads a small archive that cannot be read at random, it copies it to a plain tar in `unpack_dir`. `lists`
        has the list of members of each of the dataset's `archives`; without them `samples` cannot be called.

        Raises:
            InputError: a path that is missing or not of the expected kind.
        """


UserPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""A path as the user gave it, made absolute: a worker runs in another folder."""


class PathSource(Source, ABC):
    """A source that is read from a folder or an archive."""

    path: UserPath | None = None
    """(ours) The folder or archive that holds the images, or the folder of the official archives."""

    def existing_path(self) -> Path:
        """Return the path, absolute.

        Raises:
            InputError: no path was given, or nothing is there.
        """
        if self.path is None:
            raise InputError(f"the dataset {self.kind} needs a path: the folder or archive that holds the images")
        path = self.path.expanduser().absolute()
        if not _is_utf8(str(path)):
            raise InputError(f"the path {printable(str(path))} is not UTF-8; rename its folders, or give another path")
        if not path.exists():
            raise InputError(broken_link(path) or f"no {path}; give the path of the {self.kind} images")
        return path

    def existing_folder(self) -> Path:
        """Return the path, absolute, if it is a folder.

        Raises:
            InputError: no path was given, nothing is there, or it is a file.
        """
        path = self.existing_path()
        if not path.is_dir():
            raise InputError(f"{path} is a file; the dataset {self.kind} needs the folder that holds its archives or images")
        return path


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_type(source: Source) -> dict[str, Any]:
    return {"type": f"{type(source).__module__}:{type(source).__name__}", **source.model_dump(mode="json")}


def _of_type(value: Any) -> Source:
    """Return the source of a job file, whose class is looked up by its module and name."""
    if isinstance(value, Source):
        return value
    module, _, name = str(value["type"]).partition(":") if isinstance(value, dict) and "type" in value else ("", "", "")
    found = getattr(import_module(module), name, None) if module.startswith(f"{__package__}.") else None
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise ValueError(f"found {value!r}; expected a source whose type is a class below {__package__}")
    return found.model_validate({field: entry for field, entry in value.items() if field != "type"})


JobSource = Annotated[Source, BeforeValidator(_of_type), PlainSerializer(_with_type)]
"""A source in a job file. The file names the class, so a worker imports only the module of its own dataset."""


def as_table(samples: Iterable[Sample], root: Path = Path()) -> pa.Table:
    """Return samples as columns; `root` is the source's name in errors.

    Raises:
        InputError: a name that is not UTF-8.
    """
    columns = list(zip(*samples, strict=True)) or [()] * len(SAMPLES)
    try:
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SAMPLES, strict=True)]
    except UnicodeEncodeError as error:
        raise not_utf8(root, error.object) from error
    return pa.Table.from_arrays(arrays, schema=SAMPLES)


def as_rows(samples: pa.Table | pa.RecordBatch) -> list[Sample]:
    """Return columns as samples."""
    return [Sample(*row) for row in zip(*(samples[name].to_pylist() for name in Sample._fields), strict=True)]


def in_order(samples: pa.Table, root: Path) -> pa.Table:
    """Return samples by WNID, then by name, those without a WNID last; `root` is the source's name in errors.

    Raises:
        InputError: two samples of one class and name.
    """
    samples = samples.sort_by([("wnid", "ascending"), ("name", "ascending")]).combine_chunks()
    names, wnids = samples["name"], samples["wnid"]
    for place in pc.indices_nonzero(pc.equal(names[:-1], names[1:])).to_pylist():
        if wnids[place] == wnids[place + 1]:
            of_class = f" in the class {wnids[place]}" if wnids[place].is_valid else ""
            raise InputError(f"{root} holds two images called {names[place]}{of_class}; expected one")
    return samples
