"""Prints what the Python package hdrhistogram reads of an interval log, as JSON lines."""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 3_600_000_000_000, 3))
while histogram := reader.get_next_interval_histogram():
    json.dump(
        {
            "tag": histogram.get_tag(),
            "start_ms": histogram.get_start_time_stamp(),
            "end_ms": histogram.get_end_time_stamp(),
            "count": histogram.get_total_count(),
            "min": histogram.get_min_value(),
            "max": histogram.get_max_value(),
            "buckets": [
                [step.value_iterated_to, step.count_added_in_this_iter_step]
                for step in histogram.get_recorded_iterator()
            ],
            "percentiles": [
                histogram.get_value_at_percentile(p) for p in (50.0, 90.0, 99.0, 99.9)
            ],
        },
        sys.stdout,
    )
    print()
