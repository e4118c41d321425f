"""The accuracy gate's error rates, by simulation, beside the rule that looks at the drop alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from targets.stats.intervals import share
from targets.stats.paired import surprise

LIMIT = 0.01  # the budget: a point
IMAGES = (500, 2000, 10_000)
FLIPS = (0.02, 0.10)  # share of the images on which the two differ in being right
DROPS = (0.0, 0.005, 0.01, 0.015, 0.02)
CLASSES = ((10, 100), (100, 100), (1000, 50))  # classes, images of each
RECALL = 0.8
TAIL = 0.025
TRIALS = 4000


def drops(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Each size, share of flips and true drop: how often what is said."""
    draw = np.random.default_rng(seed)
    for images in IMAGES:
        for flips in FLIPS:
            for drop in DROPS:
                chances = [(flips + drop) / 2, (flips - drop) / 2, 1 - flips]
                pairs = Counter(map(tuple, draw.multinomial(images, chances, TRIALS)[:, :2].tolist()))
                told = Counter[str]()
                for (lost, won), times in pairs.items():
                    # The limit beyond an end of the interval: the test by which the interval is made.
                    told["PASS"] += times * (surprise(won, lost, images, -LIMIT) <= TAIL)
                    told["FAIL"] += times * (surprise(lost, won, images, LIMIT) <= TAIL)
                    told["plain PASS"] += times * ((lost - won) / images < LIMIT)
                shares = {name: count / TRIALS for name, count in told.items()}
                yield {"images": images, "flips": flips, "drop": drop, **shares}


def worst_classes(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Every class exactly at the limit, where FAIL is wrong; and one of them five points below it."""
    draw = np.random.default_rng(seed)
    for classes, images in CLASSES:
        for below in (0.0, 0.05):
            chances = np.full(classes, RECALL)
            chances[0] -= below
            hits = draw.binomial(images, chances, (TRIALS, classes))
            bounds = {hit: share(hit, images, 1 - 0.05 / classes) for hit in np.unique(hits).tolist()}
            # The lowest recall has the lowest bounds, so the fewest hits decide both.
            least = [bounds[hit] for hit in hits.min(1).tolist()]
            yield {
                "classes": classes,
                "images": images,
                "below": below,
                "PASS": float(np.mean([one.low >= RECALL for one in least])),
                "FAIL": float(np.mean([one.high < RECALL for one in least])),
                "plain PASS": float((hits.min(1) >= RECALL * images).mean()),
            }
