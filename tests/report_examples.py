"""What the tests of the report show: hostile names, runs that diverge, records, a read page."""

import base64
import gzip
import json
import warnings
from html.parser import HTMLParser

import numpy as np
import xarray as xr

from imbalance import LossByClass, Record
from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.dataset import bucket_variables
from imbalance.storage.datasets import DIVERGED, FINISHED

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 2">',
    "__proto__",
    "{{ 7 * 7 }} <!-- ${7 * 7} \u2028 \u202e مرحبا \U0001f642",
)


def made(
    optimizers=("gd", "adam"), rates=(0.01, 0.1, 1.0), seeds=(0, 1), steps=(0, 5, 10), over=None
):
    """Runs of 8 classes in 4 buckets; the largest rate of the first optimizer diverges."""
    counts = np.array([40, 20, 10, 10, 6, 5, 5, 4])
    buckets = FrequencyBuckets.from_counts(counts, 4)
    shape = (len(optimizers), len(rates), len(seeds), len(steps))
    rng = np.random.default_rng(0)
    fall = np.exp(-np.asarray(steps) / 10)
    by_bucket = (2 + np.arange(buckets.num_buckets)) * (
        fall[:, None] * (1 + 0.1 * rng.random((*shape, buckets.num_buckets)))
    )
    by_bucket *= 1 + 0.5 * np.arange(len(rates))[:, None, None, None]  # the smallest rate is best
    by_bucket[0, -1, :, 1:] = np.nan
    status = np.full(shape[:3], FINISHED, np.int8)
    status[0, -1] = DIVERGED
    dims = ("optimizer", "learning_rate", "seed")
    dataset = xr.Dataset(
        {
            "loss": ((*dims, "step"), by_bucket.mean(-1).astype(np.float32)),
            "bucket_loss": ((*dims, "step", "bucket"), by_bucket.astype(np.float32)),
            "status": (dims, status),
            **bucket_variables(counts, buckets),
        },
        {
            "optimizer": list(optimizers),
            "learning_rate": list(rates),
            "seed": list(seeds),
            "step": list(steps),
            "bucket": range(buckets.num_buckets),
            "class": range(len(counts)),
        },
    )
    if over is None:
        return dataset
    name, values = over
    return xr.concat([dataset.expand_dims({name: [value]}) for value in values], name)


def hostile():
    """Runs whose every name is an attack."""
    dataset = made(HOSTILE[:2], over=(HOSTILE[2], HOSTILE[2:]))
    names = [f"{HOSTILE[0]} {k}" for k in range(dataset.sizes["class"])]
    looks = {
        "label": ("optimizer", [f"label {name}" for name in HOSTILE[:2]]),
        "colour": ("optimizer", ["url(https://example.org/x)", "red;background:blue"]),
        "momentum": ("optimizer", [True, False]),
    }
    attrs = {
        "experiment": HOSTILE[0],
        "settings": json.dumps([{HOSTILE[0]: HOSTILE[1]}]),
        "provenance": json.dumps([{"command": HOSTILE[0], "versions": {HOSTILE[1]: HOSTILE[0]}}]),
    }
    return dataset.assign_coords({"class": names, **looks}).assign_attrs(attrs)


def write_record(path, optimizer="adam", num_classes=12, diverges=False):
    """A record of four steps; rare classes are learnt more slowly, or the last losses are NaN."""
    rng = np.random.default_rng(0)
    with Record(path, num_classes=num_classes, optimizer=optimizer, learning_rate=0.1) as record:
        for step in (0, 10, 20, 40):
            label = np.minimum(rng.geometric(0.3, 300) - 1, num_classes - 1)
            losses = LossByClass(num_classes)
            loss = 4 * np.exp(-step / 20 / (1 + label))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of losses that are NaN
                losses.update(
                    np.where(label < 6, np.nan, loss) if diverges and step else loss, label
                )
            record.append(step, losses)
    return path


class Page(HTMLParser):
    """What a browser without JavaScript makes of a page."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.text = [], [], []
        self._inside = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data):
        if self._inside:
            attrs, before = self.scripts[-1]
            self.scripts[-1] = attrs, before + data
        else:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def packed(self):
        """What the explorers will show, one after the other."""
        return [unpacked(text) for attrs, text in self.scripts if attrs.get("class") == "runs"]


def unpacked(text):
    return json.loads(gzip.decompress(base64.b64decode(text)))
