"""The text format of Prometheus, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from reactor_run.frontend.metrics.histogram import BOUNDS, Histogram

__all__ = ["CONTENT_TYPE", "Metric", "Sample", "expose", "expose_histograms"]

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})

Sample = tuple[Mapping[str, str], float]
"""Labels and a value."""


class Metric(NamedTuple):
    """A metric: its name, its type, and its meaning in one sentence."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str


def expose(metric: Metric, samples: Iterable[Sample]) -> Iterator[str]:
    """Yield the lines of a counter or a gauge."""
    yield from _head(metric)
    for labels, value in samples:
        yield f"{metric.name}{_labels(labels)} {value}"


def expose_histograms(
    metric: Metric, histograms: Iterable[tuple[Mapping[str, str], Histogram]]
) -> Iterator[str]:
    """Yield the lines of histograms, by labels. Each bucket counts those below it too."""
    yield from _head(metric)
    for labels, histogram in histograms:
        sums = list(accumulate(histogram.counts))
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), sums, strict=True):
            yield f"{metric.name}_bucket{_labels({**labels, 'le': bound})} {count}"
        shown = _labels(labels)
        yield f"{metric.name}_sum{shown} {histogram.total}"
        yield f"{metric.name}_count{shown} {sums[-1]}"


def _head(metric: Metric) -> tuple[str, str]:
    return (
        f"# HELP {metric.name} {metric.meaning}",
        f"# TYPE {metric.name} {metric.kind}",
    )


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"
