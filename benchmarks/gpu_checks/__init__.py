"""What only a machine with a GPU can show, check by check: each returns what it found, or raises `NotRunError`.

Run by `benchmarks.gpu` in a process of its own. Without a GPU the same code runs on the CPU, at a small size.
"""

from functools import partial

from benchmarks.gpu_checks import decoding, network, outputs, speed
from benchmarks.gpu_checks.bench import Check

CHECKS: dict[str, Check] = {
    "photographs": Check(decoding.images, 60),
    "decoded pixels": Check(decoding.pixels, 40),
    "ten views": Check(decoding.ten_views, 40),
    "order and labels": Check(decoding.order, 40),
    "response normalisation": Check(network.normalisation, 90),
    "fp32, TF32, bf16": Check(network.precisions, 120),
    "towers and one piece": Check(network.layouts, 60),
    "dropout": Check(network.dropout, 20),
    "resumption": Check(network.resumption, 60),
    "speed, batch 128": Check(partial(speed.end_to_end, which=0), 60),
    "speed, batch 256": Check(partial(speed.end_to_end, which=1), 50),
    "speed, batch 1,024": Check(partial(speed.end_to_end, which=2), 50),
    "kernels": Check(speed.kernels, 50),
    "prediction in ten views": Check(outputs.prediction, 50),
    "embedding": Check(outputs.embedding, 50),
    "speed by precision": Check(speed.forms, 60),
    "JPEG engine": Check(speed.engine, 60),
    "replicas": Check(network.replicas, 90),
}
"""In this order: what is right comes before what is fast."""
