"""The garbage collector of long-lived processes."""

import gc

#: Objects created, minus those freed, before a collection of the youngest generation; then how many collections of one
#: generation precede one of the next. The first number of Python is 700, which a page exceeds several times
#: (benchmarks/operations.py).
THRESHOLDS = (10_000, 10, 10)


def settle() -> None:
    """Exempt everything loaded so far from collections, and make these rarer. Called once, when a process has started.

    Modules, models, URL patterns and templates are some hundred thousand objects that live as long as the process. Each
    full collection would examine all of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
