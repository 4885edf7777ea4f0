"""A reader of the event stream of a run. Like a browser, it reconnects with the number of the last event received."""

import http.client
import threading
from contextlib import closing, suppress

RETRY_S = 0.2
SILENCE_S = 30.0


class StreamReader:
    """Follows a run in a thread and records the number of each event received, in order."""

    def __init__(self, port: int, token: str, run_id: int) -> None:
        self.numbers: list[int] = []
        self._port, self._token, self._run_id = port, token, run_id
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"reader-{run_id}", daemon=True)
        self._thread.start()

    def has_seen(self, number: int) -> bool:
        return bool(self.numbers) and self.numbers[-1] >= number

    def end(self) -> None:
        self._done.set()
        self._thread.join(SILENCE_S)

    def _follow(self) -> None:
        while not self._done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SILENCE_S)
            with suppress(OSError, http.client.HTTPException), closing(connection):  # the drill kills the server
                headers = {
                    "Authorization": f"Bearer {self._token}",
                    "Last-Event-ID": str(max(self.numbers, default=0)),
                }
                connection.request("GET", f"/api/v1/training/{self._run_id}/events", headers=headers)
                response = connection.getresponse()
                number = None
                while response.status == 200 and not self._done.is_set() and (line := response.readline()):
                    if line.startswith(b"id:"):
                        number = int(line[3:])
                    elif line == b"\n" and number is not None:  # an event counts only when it is complete
                        self.numbers.append(number)
                        number = None
            self._done.wait(RETRY_S)
