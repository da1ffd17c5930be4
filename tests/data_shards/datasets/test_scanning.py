"""The scan of an archive: images are listed in place, everything else is counted, broken and hostile archives are refused."""

import io
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.errors import InputError
from data_shards.datasets.fall import FALL2009, Fall
from data_shards.datasets.finding import identity
from data_shards.datasets.members import ListedImage
from data_shards.datasets.scanning import Scan, write_members
from data_shards.planning import ShardConfig, plan_shards

A, B = "n01440764", "n02487347"
Name = str | tarfile.TarInfo


def packed(*members: tuple[Name, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar of members, given by name or as a header."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """Return a member that is not a file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def synset(wnid: str, *more: tuple[Name, bytes], num: int = 2) -> tuple[str, bytes]:
    """Return a synset's tar of two images and of more members."""
    return f"{wnid}.tar", packed(*((f"{wnid}_{n}.JPEG", f"image {wnid} {n}".encode()) for n in range(num)), *more)


def whole(*more: tuple[Name, bytes], inside: tuple[tuple[Name, bytes], ...] = ()) -> bytes:
    """Return a tar of two synsets' tars, with more members beside them and inside the first."""
    return packed(synset(A, *inside), synset(B), *more)


def images(path: Path) -> list[ListedImage]:
    return list(Scan(path))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Return the folder of the archive, the only folder that may be read."""
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def write(inbox: Path, data: bytes, name: str = "train.tar") -> Path:
    (inbox / name).write_bytes(data)
    return inbox / name


OTHER = {"system files": 1, ".txt files": 2, "files without a suffix": 1}

IGNORED: list[tuple[str, tuple[tuple[Name, bytes], ...], dict[str, int]]] = [
    ("a symbolic link", (special(f"{A}_8.JPEG", tarfile.SYMTYPE, "/etc/passwd"),), {"links": 1}),
    ("a hard link", (special(f"{A}_8.JPEG", tarfile.LNKTYPE, "../../etc/passwd"),), {"links": 1}),
    ("a link called a tar", (special("n09999999.tar", tarfile.SYMTYPE, "n01440764.tar"),), {"links": 1}),
    ("a device", (special("sda.JPEG", tarfile.BLKTYPE),), {"devices": 1}),
    ("a terminal", (special("tty.JPEG", tarfile.CHRTYPE),), {"devices": 1}),
    ("a pipe", (special("pipe.JPEG", tarfile.FIFOTYPE),), {"devices": 1}),
    ("a folder", (special("photos.JPEG", tarfile.DIRTYPE), special("more", tarfile.DIRTYPE)), {"empty folders": 2}),
    ("a resource fork", ((f"._{A}_0.JPEG", b"Mac OS X"), (f"__MACOSX/._{A}_1.JPEG", b"x")), {"system files": 2}),
    ("a resource fork of a tar", ((f"._{A}.tar", b"Mac OS X"),), {"system files": 1}),
    ("other files", ((".DS_Store", b"x"), ("readme.txt", b"x"), ("x.JPEG.txt", b""), ("JPEG", b"")), OTHER),
    ("a member of an unknown kind", (special("label.JPEG", b"V"),), {"devices": 1}),
]


@pytest.mark.parametrize("where", ["beside the synsets", "inside a synset"])
@pytest.mark.parametrize(("more", "ignored"), [case[1:] for case in IGNORED], ids=[case[0] for case in IGNORED])
def test_members_that_are_not_images_are_counted_and_change_nothing(
    more: tuple[tuple[Name, bytes], ...], ignored: dict[str, int], where: str, inbox: Path
) -> None:
    plain = images(write(inbox, whole(), "plain.tar"))
    data = whole(*more) if where == "beside the synsets" else whole(inside=more)
    scan = Scan(write(inbox, data))
    found = list(scan)
    assert [image[1:3] for image in found] == [image[1:3] for image in plain]
    assert [content(scan.root, image) for image in found] == [f"image {wnid} {n}".encode() for wnid in (A, B) for n in (0, 1)]
    assert scan.ignored == Counter(ignored)


def content(root: Path, image: ListedImage) -> bytes:
    with open(root, "rb") as file:
        file.seek(image.offset or 0)
        return file.read(image.size)


def replaced(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def sparse(form: str, name: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    if form == "gnu":
        member.type = tarfile.GNUTYPE_SPARSE
    else:
        member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,4", "GNU.sparse.size": "4"}
    return member, b"data"


INNER = synset(A)[1]
HEADER = tarfile.BLOCKSIZE
NOT_WHOLE = r"is not a whole, uncompressed tar \(.+\); fetch it again$"
COMPRESSED = r"is compressed with gzip; expected a plain tar: unpack it first$"
LEAVES = "which leaves the folder that it is unpacked in; no official archive has one: fetch it again$"

REFUSED: list[tuple[str, Callable[[], bytes], str]] = [
    ("a name above the root", lambda: whole(("../x.JPEG", b"x")), rf"^train.tar holds a member named '\.\./x.JPEG', {LEAVES}"),
    ("a name above the root after a folder", lambda: whole(("a/../../x.JPEG", b"x")), rf"named 'a/\.\./\.\./x.JPEG', {LEAVES}"),
    (
        "a name above the root inside a synset",
        lambda: whole(inside=(("../../x.JPEG", b"x"),)),
        rf"^train.tar: {A}.tar at byte 512 holds .*{LEAVES}",
    ),
    ("a tar above the root", lambda: whole(("../n09999999.tar", INNER)), rf"named '\.\./n09999999.tar', {LEAVES}"),
    ("a link above the root", lambda: whole(special("../link", tarfile.SYMTYPE, "x")), rf"named '\.\./link', {LEAVES}"),
    ("an absolute name", lambda: whole(("/tmp/x.JPEG", b"x")), rf"named '/tmp/x.JPEG', {LEAVES}"),
    ("a folder with an absolute name", lambda: whole(special("/tmp", tarfile.DIRTYPE)), rf"named '/tmp', {LEAVES}"),
    (
        "a tar in a synset's tar",
        lambda: whole(inside=(synset("n09999999"),)),
        f"{A}.tar at byte 512 holds another tar, n09999999",
    ),
    ("a synset cut within a header", lambda: packed((f"{A}.tar", INNER[:700]), synset(B)), f"{A}.tar at byte 512 {NOT_WHOLE}"),
    (
        "a synset cut within data",
        lambda: packed((f"{A}.tar", INNER[: HEADER + 3]), synset(B)),
        f"{A}.tar at byte 512 {NOT_WHOLE}",
    ),
    (
        "a synset cut between images",
        lambda: packed(synset(B), (f"{A}.tar", INNER[: 2 * HEADER])),
        f"{A}.tar at byte .* {NOT_WHOLE}",
    ),
    (
        "a synset cut before its end",
        lambda: packed(synset(B), (f"{A}.tar", INNER[: 4 * HEADER])),
        f"{A}.tar at byte .* {NOT_WHOLE}",
    ),
    ("a synset of no bytes", lambda: whole(("n09999999.tar", b"")), rf"n09999999.tar at byte .* {NOT_WHOLE}"),
    (
        "a synset of zeros",
        lambda: whole(("n09999999.tar", bytes(10_240))),
        "n09999999.tar at byte 22,016 holds no image; an official class",
    ),
    (
        "a synset of other files",
        lambda: whole(synset("n09999999", ("x.txt", b""), num=0)),
        "n09999999.tar at byte .* holds no image",
    ),
    (
        "a compressed synset",
        lambda: packed(synset(B), (f"{A}.tar", b"\x1f\x8b\x08" + INNER)),
        f"^train.tar: {A}.tar at byte .* {COMPRESSED}",
    ),
    ("a compressed archive", lambda: b"\x1f\x8b\x08" + whole(), f"^train.tar {COMPRESSED}"),
    ("a web page", lambda: b"<html>404 Not Found</html>" * 100, f"^train.tar {NOT_WHOLE}"),
    ("an empty file", lambda: b"", f"^train.tar {NOT_WHOLE}"),
    (
        "a cut within the last synset",
        lambda: whole()[:20_000],
        rf"train.tar: {B}.tar at byte .* {NOT_WHOLE}|^train.tar {NOT_WHOLE}",
    ),
    ("a cut between synsets", lambda: whole()[: HEADER + len(INNER)], f"^train.tar {NOT_WHOLE}"),
    ("a header that was overwritten", lambda: replaced(whole(), HEADER + len(INNER), b"\xff" * 300), f"^train.tar {NOT_WHOLE}"),
    (
        "an image with holes",
        lambda: whole(inside=(sparse("gnu", "x.JPEG"),)),
        "holds x.JPEG with holes, which cannot be read in place; pack",
    ),
    (
        "a synset with holes",
        lambda: packed(synset(B), sparse("pax", f"{A}.tar"), form=tarfile.PAX_FORMAT),
        f"holds {A}.tar with holes, which cannot be read in place; pack it without --sparse$",
    ),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_hostile_or_broken_archive_is_one_sentence(make: Callable[[], bytes], message: str, inbox: Path) -> None:
    path = write(inbox, make())
    everything = listing(inbox.parent)
    with pytest.raises(InputError, match=message) as raised:
        images(path)
    assert "\n" not in str(raised.value)
    assert listing(inbox.parent) == everything


def listing(folder: Path) -> dict[str, int]:
    """Return the modification time of every path below a folder; links are not followed."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_every_cut_of_an_archive_is_noticed(inbox: Path) -> None:
    data = whole()
    end = data.rindex(b"\0ustar") if b"\0ustar" in data else 0
    last = HEADER + len(INNER) + HEADER + len(synset(B)[1])
    assert end < last < len(data)
    passed = []
    for keep in range(0, last + HEADER, 128):
        try:
            images(write(inbox, data[:keep]))
        except InputError:
            continue
        passed.append(keep)
    assert passed == []
    assert len(images(write(inbox, data[: last + HEADER]))) == 4, "one block of zeros is an end"


NAMES = [
    *("a b.JPEG", "a.b.JPEG", "..JPEG", "two..dots.JPEG", "图片.JPEG", "e\u0301te\u0301.JPEG", "\u00e9t\u00e9.JPEG"),
    *("UPPER.JPG", "lower.jpeg", "new\nline.JPEG", "tab\t.JPEG", "-rf.JPEG", "~.JPEG", "*.JPEG", "C:\\x.JPEG", "'; DROP.JPEG"),
    *("long" * 40 + ".JPEG", "longer" * 60 + ".JPEG", "文" * 120 + ".JPEG"),
]  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["GNU", "PAX"])
def test_unusual_names_get_distinct_keys(form: int, inbox: Path, tmp_path: Path) -> None:
    """Spaces, dots, other scripts, names of more than 100 and 255 bytes, and names that differ only in what keys leave out."""
    inner = packed(*((name, f"image {name}".encode()) for name in NAMES), form=form)
    write(inbox, inner, f"{A}.tar")
    write(inbox, packed(*((name, b"x") for name in NAMES)), f"{B}.tar")
    dataset = listed(inbox, tmp_path)
    plan = plan_shards(dataset, "train", ShardConfig(), tmp_path)[0]
    other = plan_shards(dataset, "test", ShardConfig(), tmp_path)[0]
    samples = [sample for sample in plan.samples + other.samples if sample.wnid == A]
    assert {sample.name: dataset.read(sample) for sample in samples} == {name: f"image {name}".encode() for name in NAMES}
    assert len({*plan.keys, *other.keys}) == 2 * len(NAMES)


def test_only_the_set_is_written(inbox: Path, tmp_path: Path, write_set: Any, picture: Any) -> None:
    hostile = [special("a.JPEG", tarfile.SYMTYPE, "/etc/passwd"), special("b.JPEG", tarfile.FIFOTYPE), (f"._{A}.tar", b"x")]
    write(inbox, packed(*((name, picture(n)) for n, name in enumerate(NAMES)), *hostile), f"{A}.tar")
    write(inbox, packed((f"{B}_0.JPEG", picture(100)), (f"{B}_1.JPEG", picture(101))), f"{B}.tar")
    dataset = listed(inbox, tmp_path)
    before = listing(tmp_path)
    directory = write_set(tmp_path / "set" / "train", dataset)
    after = listing(tmp_path)
    assert {name: time for name, time in after.items() if not name.startswith("set")} == before
    assert {path.suffix for path in directory.iterdir()} == {".tar", ".idx", ".parquet", ".json"}
    with tarfile.open(directory / "train-00000.tar") as opened:
        assert all(re.fullmatch(r"n\d{8}_[\w-]+\.(jpg|cls)", name, re.ASCII) for name in opened.getnames())


def listed(root: Path, tmp_path: Path) -> Fall:
    """Return the synsets of a folder with the list of their members."""
    for _ in write_members(Scan(root), tmp_path / "members.parquet"):
        pass
    return Fall(FALL2009, root, lists={root: tmp_path / "members.parquet"})


def test_two_images_of_one_name_in_one_class_are_refused(inbox: Path, tmp_path: Path) -> None:
    write(inbox, packed(synset(A, (f"{A}_0.JPEG", b"again")), synset(B)), "fall09.tar")
    dataset = Fall(FALL2009, inbox)
    (root,) = dataset.archives("train")
    for _ in write_members(Scan(root), tmp_path / "members.parquet"):
        pass
    dataset = Fall(FALL2009, inbox, lists={root: tmp_path / "members.parquet"})
    with pytest.raises(InputError, match=f"fall09.tar holds two images called {A}_0.JPEG in the class {A}; expected one$"):
        dataset.samples("train")


def test_a_file_name_that_is_not_utf_8_is_refused(inbox: Path, tmp_path: Path) -> None:
    data = whole(inside=(("caf\udce9.JPEG", b"x"),))
    assert b"caf\xe9.JPEG" in data
    message = r"train.tar holds a file name that is not UTF-8 \('caf\\udce9.JPEG'\); unpack the archive, rename the"
    with pytest.raises(InputError, match=message):
        list(write_members(Scan(write(inbox, data)), tmp_path / "members.parquet"))


@pytest.mark.parametrize("kind", ["missing", "loop"])
def test_broken_links_in_a_folder_are_counted(kind: str, inbox: Path) -> None:
    for wnid in (A, B):
        (inbox / wnid).mkdir()
        (inbox / wnid / "1.JPEG").write_bytes(b"x")
    (inbox / A / "2.JPEG").symlink_to("2.JPEG" if kind == "loop" else "nowhere")
    scan = Scan(inbox)
    assert [image.name for image in scan] == ["1.JPEG", "1.JPEG"]
    assert scan.ignored == {"links": 1}
    assert identity(inbox)


def test_in_a_folder_images_are_listed_and_everything_else_is_counted(inbox: Path) -> None:
    write(inbox, synset(A)[1], f"{A}.tar")
    write(inbox, b"x", f"._{A}.tar")
    write(inbox, b"x", "words.txt")
    os.mkfifo(inbox / "n01443537.tar")
    (inbox / B / "deeper").mkdir(parents=True)
    os.mkfifo(inbox / B / "pipe.JPEG")
    (inbox / B / "b.JPEG").write_bytes(b"four")
    (inbox / B / "deeper" / "c.JPEG").write_bytes(b"x")
    (inbox / "notes").mkdir()
    scan = Scan(inbox)
    assert list(scan) == [
        ListedImage(f"{A}.tar", A, f"{A}_0.JPEG", 512, 17),
        ListedImage(f"{A}.tar", A, f"{A}_1.JPEG", 1536, 17),
        ListedImage("", B, "b.JPEG", None, 4),
        ListedImage("", B, "deeper/c.JPEG", None, 1),
    ]
    assert scan.ignored == {"system files": 1, ".txt files": 1, "devices": 2, "empty folders": 1}
    assert scan.done == 1


@pytest.mark.parametrize("name", [A, f"{A}.tar"])
def test_an_empty_class_in_a_folder_is_refused(name: str, inbox: Path) -> None:
    write(inbox, synset(B)[1], f"{B}.tar")
    if name == A:
        (inbox / A).mkdir()
        with pytest.raises(
            InputError, match=f"inbox/{A} holds no image; an official class has at least one: fetch it again, or"
        ):
            images(inbox)
    else:
        write(inbox, packed(), name)
        with pytest.raises(InputError, match=f"^{A}.tar holds no image; an official class has at least one"):
            images(inbox)


def test_a_synset_s_tar_in_a_folder_names_the_class_of_all_its_images(inbox: Path) -> None:
    for prefix in ("", "./", f"{A}/", "images/", "a/b/"):
        write(inbox, packed((f"{prefix}1.JPEG", b"x")), f"{A}.tar")
        assert [image.folder for image in images(inbox)] == [A]


@pytest.mark.parametrize("prefix", ["", "./", "train/", "a/b/"])
def test_synsets_may_be_below_folders(prefix: str, inbox: Path) -> None:
    data = packed(*((f"{prefix}{name}", content) for name, content in (synset(A), synset(B))))
    assert [(image.folder, image.name) for image in images(write(inbox, data))] == [
        (wnid, f"{wnid}_{n}.JPEG") for wnid in (A, B) for n in (0, 1)
    ]


def test_a_scan_reports_the_fraction_that_is_done(inbox: Path) -> None:
    scan = Scan(write(inbox, whole()))
    shares = [scan.done for _ in scan]
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 1
