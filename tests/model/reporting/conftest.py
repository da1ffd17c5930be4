"""A small report, and a headless browser that says what a page asked for and what it complained about."""

import io
import itertools
import json
import shutil
import subprocess
import time
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from websockets.sync.client import connect

from model.evaluation.error_rates import ErrorCounts
from model.evaluation.kernels import SPECIALISATION, FirstLayer, specialisation_rows
from model.evaluation.published import published_rows
from model.evaluation.rows import rate_columns
from model.evaluation.schemas import ERROR_RATES, SHIFTS
from model.reporting.page import Report
from model.reporting.panels import make_panels
from model.retraining.schemas import RETRAININGS

EVIL = "</script><script>document.title = 'broken'</script><img src=x onerror=alert(1)>"
WNIDS = ("n01", "n02", "n03")
NAMES = {"n01": "tench, Tinca tinca", "n02": EVIL, "n03": "{brace} & \"quote\" 'n', thing"}
PROVENANCE = {
    "preset": "demo",
    "recipe": "paper",
    "shards": "shards-digest",
    "config": "config-digest",
    "code_version": "0123456789ab",
    "weights_code_versions": ["0123456789ab"],
    "run_id": "run-id",
    "created_at": pd.Timestamp("2026-01-02 03:04:05", tz="UTC"),
}
RANKS = (1, 2, 7, 1, 1, 3)
"""Of the true classes of the six queries, whose classes are n01, n02, n03, n01, n02, n03."""


def jpeg(number, size=(80, 64)):
    data = io.BytesIO()
    Image.new("RGB", size, (40 * number % 256, 90 * number % 256, 200)).save(data, "JPEG")
    return data.getvalue()


def read_back(rows, schema):
    """Return rows with the types that a Parquet file gives them."""
    return pa.Table.from_pylist(rows, schema=schema).to_pandas()


def rate(table, model, seed, wrong):
    known = {"table": table, "model": model, "dataset": "tiny", "split": "val", "source": "measured", "views": 10}
    counts = ErrorCounts(1000, wrong, wrong // 2)
    columns = {**known, "members": [f"weights-{seed}"], "num_images": 1000, "seed": seed}
    return {**dict.fromkeys(published_rows()[0]), **columns, **rate_columns(counts), **PROVENANCE}


def shift(rank, dataset, **changes):
    """Return 240 wrong of 800 beside 301 of 1,000."""
    row = {"table": "evaluation", "model": "1 CNN", "dataset": dataset, "split": "test", "views": 10, "members": ["weights-0"]}
    row |= {"val_dataset": "tiny", "val_split": "val", "val_num_images": 1000, "val_wrong": 301, "val_error": 0.301}
    row |= {"val_low": 0.273, "val_high": 0.33, "num_images": 800, "wrong": 240, "error": 0.3, "low": 0.27, "high": 0.333}
    row |= {"difference": -0.001, "difference_low": -0.043, "difference_high": 0.042, "rank": rank}
    return {**dict.fromkeys(SHIFTS.names), **row, **PROVENANCE, **changes}


def neighbours():
    rows = []
    kinds = (("features", "l2", None), ("pixels", "l2", None), ("features", "autoencoder", 28))
    for query, (space, method, bits), rank in itertools.product(range(6), kinds, range(1, 7)):
        row = {"query_id": f"q{query}", "query_wnid": WNIDS[query % 3], "space": space, "method": method, "bits": bits}
        wnid = WNIDS[(query + rank) % 3]
        row |= {
            "rank": rank,
            "neighbour_id": f"t{rank}",
            "neighbour_wnid": wnid,
            "distance": rank / 7,
            "pixel_rank": 1000 * rank,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def retrieval():
    rows = []
    scores = {
        ("features", "l2"): 0.5,
        ("pixels", "l2"): 0.1,
        ("features", "autoencoder"): 0.45,
        ("pixels", "autoencoder"): 0.12,
    }
    for ((space, method), score), seed in itertools.product(scores.items(), (0, 1)):
        for bits in (None,) if method == "l2" else (28, 256):
            row = {"space": space, "method": method, "bits": bits, "num_database": 2000, "dead_bits": 0, "seed": seed}
            row |= {"map": score, "map_low": score - 0.01, "map_high": score + 0.01, "p6": score, "p100": score}
            row |= {"recall6_at_6": 0.1, "recall6_at_100": 0.5, "recall6_at_1000": 0.9, "radius2_precision": 0.3}
            row |= {"reconstruction_val": None, "pixel_rank_median": 720.0, "pixel_top6_share": 0.03}
            rows.append({**row, "members": [f"weights-{seed}"], **PROVENANCE})
    return pd.DataFrame(rows)


def retrainings():
    """Return five runs: a first champion, a night without news, one with no decision, one worse, one better."""
    none = dict.fromkeys(RETRAININGS.names)
    runs = []
    for day, (decision, champion, challenger, difference) in enumerate(
        [
            ("promoted", None, 300, None),
            ("skipped", None, None, None),
            ("undecided", 300, 296, 0.004),
            ("kept", 300, 352, -0.052),
            ("promoted", 300, 251, 0.049),
        ]
    ):
        run = {
            "name": "folder",
            "decision": decision,
            "reason": f"because of {EVIL}",
            "num_eval": 1000,
            "data_version": "train",
        }
        run |= {"finished_at": pd.Timestamp(f"2026-05-0{day + 1} 04:05", tz="UTC"), "code_version": "0123456789ab"}
        run |= {"champion": "weights-0", "challenger": None if challenger is None else "weights-1"}
        run |= {"champion_wrong": champion, "challenger_wrong": challenger, "difference": difference}
        if difference is not None:
            run |= {"difference_low": difference - 0.02, "difference_high": difference + 0.02}
            run |= {"images_added": 1200, "images_removed": 3, "images_relabelled": 0}
        runs.append(none | run)
    return read_back(runs, RETRAININGS)


@pytest.fixture(scope="session")
def report():
    generator = np.random.default_rng(0)
    kernels = {f"CNN, seed {seed}": tuple(generator.normal(size=(2, 12, 3, 11, 11))) for seed in (0, 1)}
    layers = [FirstLayer(name, ("w",), towers, None, PROVENANCE) for name, towers in kernels.items()]
    queries = [f"q{number}" for number in range(6)]
    predictions = pd.DataFrame({"image_id": queries, "wnid": [WNIDS[n % 3] for n in range(6)], "rank": RANKS})
    predictions["top5_wnid"] = [list(WNIDS)] * 6
    predictions["top5_prob"] = [[0.7, 0.2, 0.1]] * 6
    pair = {"first": "1 CNN", "second": "5 CNNs", "first_members": ["w"], "second_members": ["w", "v"], "p_value": 0.012}
    published = [row for row in published_rows() if row["table"] == "table2" and row["source"].startswith("K12")]
    epochs = {"epoch": [1, 2], "loss": [3.0, 2.0], "val_top1_wrong": [None, 400], "val_num_images": [None, 1000]}
    return Report(
        name="demo",
        names=NAMES,
        rates=read_back([*published, rate("table2", "1 CNN", 0, 301), rate("members", "CNN, seed 1", 1, 311)], ERROR_RATES),
        comparisons=pd.DataFrame(
            [{**pair, "rank": 1, "difference": 0.039, "difference_low": 0.027, "difference_high": 0.052, **PROVENANCE}]
        ),
        shifts=read_back([shift(1, "imagenet-v2-top-images"), shift(1, "imagenet-r", classes="imagenet-r")], SHIFTS),
        curves={"CNN, seed 0": pd.DataFrame(epochs)},
        retrainings=retrainings(),
        kernels=kernels,
        specialisation=read_back(specialisation_rows(layers), SPECIALISATION),
        panels=make_panels(predictions, {query: jpeg(number) for number, query in enumerate(queries[:3])}),
        retrieval=retrieval(),
        neighbours=neighbours(),
        predictions=predictions,
        query_picture=lambda key: jpeg(int(key[1:])),
        database_picture=lambda key: jpeg(10 + int(key[1:]), (64, 80)),
    )


class Tab:
    """One page in the browser: what it shows, what it asked for, what went wrong."""

    def __init__(self, socket, events):
        self.socket, self.events, self.number = socket, events, 0

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv(timeout=60))).get("id") != self.number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, url):
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv(timeout=60)))
        self.settle()

    def settle(self):
        """Wait until what is in view is drawn."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 150))))")

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    @property
    def requests(self):
        sent = (event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent")
        return list(dict.fromkeys(url for url in sent if not url.startswith("data:")))

    @property
    def complaints(self):
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Network.loadingFailed")
        return [event for event in self.events if event["method"] in kinds]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on this machine; install the Debian package chromium to test the page in a browser")
    profile = tmp_path_factory.mktemp("profile")
    quiet = "no-sandbox disable-gpu disable-background-networking disable-component-update disable-sync no-first-run"
    options = [
        "--headless",
        *(f"--{name}" for name in quiet.split()),
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
    ]
    with subprocess.Popen([program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield _port(profile / "DevToolsActivePort")
        finally:
            process.terminate()


def _port(path):
    deadline = time.monotonic() + 60
    while not path.exists() or "\n" not in path.read_text():
        assert time.monotonic() < deadline, "chromium did not start within a minute"
        time.sleep(0.1)
    return path.read_text().split()[0]


@pytest.fixture
def open_tab(browser):
    """Return a function that opens a page in a new tab."""
    sockets = []

    def open_in_tab(url, width=1280, height=900):
        with urlopen(Request(f"http://127.0.0.1:{browser}/json/new", method="PUT"), timeout=60) as answer:
            target = json.load(answer)
        sockets.append(connect(target["webSocketDebuggerUrl"], max_size=None))
        tab = Tab(sockets[-1], [])
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        tab.open(url)
        return tab

    yield open_in_tab
    for socket in sockets:
        socket.close()
