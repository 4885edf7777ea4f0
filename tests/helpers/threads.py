"""Many at once."""

import threading
from collections.abc import Callable, Sequence


def in_threads(calls: Sequence[Callable[[], object]]) -> list[object]:
    """What the calls return or raise, made at the same moment in a thread and with a database connection each."""
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
