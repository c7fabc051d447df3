"""A share of so many, in words: what scripts that count false alarms print."""

import math


def share(found, all_):
    """With Wilson's interval of 95 %."""
    p, z = found / all_, 1.96
    middle, half = p + z * z / (2 * all_), z * math.sqrt(p * (1 - p) / all_ + z * z / (4 * all_ * all_))
    low, high = ((middle + s * half) / (1 + z * z / all_) for s in (-1, 1))
    return f"{found} of {all_} ({100 * p:.1f} % [{100 * low:.1f}, {100 * high:.1f}])"
