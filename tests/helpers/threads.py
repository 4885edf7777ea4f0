"""Concurrent calls."""

import threading
from collections.abc import Callable, Sequence


def in_threads(calls: Sequence[Callable[[], object]]) -> list[object]:
    """The results or exceptions of calls made at the same time, each in a thread with its own database connection."""
    from django.db import connection

    barrier = threading.Barrier(len(calls))
    results: list[object] = [None] * len(calls)

    def work(index: int) -> None:
        barrier.wait()
        try:
            results[index] = calls[index]()
        except Exception as error:  # noqa: BLE001  the test looks at it
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
