"""Weights to a folder that needs torch alone: `exports/<weights>/<key>` with the plain network, its sizes and classes."""

from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, Job, Weights

ONNX, PARITY = "model.onnx", "parity.json"


class ExportJob(Job):
    """One network to be exported."""

    stages: ClassVar = ("export",)
    libraries: ClassVar = ("torch",)

    weights: Weights
    shards: Artifact
    """Labels are not needed: their classes have words, and on some of their images the copies are compared with the network."""
    onnx: bool = False
    """Whether there is an ONNX file too."""

    @property
    def title(self) -> str:
        """`export of 5883cb500756`."""
        return f"export of {self.weights.digest[:12]}"

    @property
    def folder(self) -> Path:
        """`exports/<weights>`."""
        return Path("exports", self.weights.digest[:12])
