"""A reader of a run's event stream, as a browser or a program is one: it comes back with the last number it has."""

import http.client
import threading
import time

RETRY_S = 0.2
SILENCE_S = 30.0


class StreamReader:
    """Follows a run in a thread and notes the number of every event that it is given, in their order."""

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
            try:
                self._read_on()
            except (OSError, http.client.HTTPException):
                time.sleep(RETRY_S)  # the server is down: that is what the drill does

    def _read_on(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SILENCE_S)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Last-Event-ID": str(max(self.numbers, default=0))}
            connection.request("GET", f"/api/v1/training/{self._run_id}/events", headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise http.client.HTTPException(f"status {response.status}")
            number = None
            while not self._done.is_set() and (line := response.readline()):
                if line.startswith(b"id:"):
                    number = int(line[3:])
                elif line == b"\n" and number is not None:  # an event counts when its end has come
                    self.numbers.append(number)
                    number = None
        finally:
            connection.close()
