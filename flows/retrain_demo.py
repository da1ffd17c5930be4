"""A first champion, a night without news, a promotion and the way back, in three minutes. Run by `make retrain-demo`.

Synthetic images arrive in a folder of the workspace, first twenty of each class, then a hundred.
"""

from pathlib import Path
from shutil import rmtree

from cyclopts import App

from data_shards.datasets.dataset import as_rows
from data_shards.datasets.synthetic import Synthetic
from flows.champion import champion
from flows.retrain import retrain
from tasks.workspace import DEFAULT_WORKSPACE

FIRST, LATER, VAL = 20, 100, 25
"""Images of each class: training images on the first night and from the third on, and validation images."""
NAME = "demo"

app = App(name="python -m flows.retrain_demo", help_format="plaintext", version_flags=[])


@app.default
def main(*, workspace: Path = DEFAULT_WORKSPACE) -> None:
    """Let images arrive, and retrain after each step.

    Args:
        workspace: Folder for everything that is made.
    """
    folder = workspace.expanduser().absolute() / "arriving"
    rmtree(folder, ignore_errors=True)
    said = []
    for title, num_train in (("the first night", FIRST), ("nothing arrives", FIRST), ("images arrive", LATER)):
        draw(folder, num_train)
        said.append(f"{title}: {night(folder, workspace)}")
    history = champion(NAME, to=1, reason="to show the way back", workspace=workspace)
    said += ["a person goes back", f"the night after: {night(folder, workspace)}"]
    tables = [f"{workspace / 'tables' / name}.parquet" for name in ("retrainings", "champions")]
    print("", *said, "", history, "", *tables, sep="\n")


def draw(folder: Path, num_train: int) -> None:
    """Add the images that are missing, of each class."""
    images = Synthetic(train_per_class=num_train, val_per_class=VAL)
    for split in ("train", "val"):
        for sample in as_rows(images.samples(split)):
            path = folder / split / str(sample.wnid) / sample.name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(images.read(sample))


def night(folder: Path, workspace: Path) -> str:
    """Retrain once; return the decision and its reason."""
    return str(retrain(NAME, preset="small-folder", source=folder, views=1, workspace=workspace)).splitlines()[0]


if __name__ == "__main__":
    app()
