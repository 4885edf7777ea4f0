"""A web server with many open streams: it serves pages beside them, and stops without waiting for their readers."""

import asyncio
import re
import resource
import signal
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import psutil
import pytest

from tests.helpers.studio import Studio, wait_for

pytestmark = pytest.mark.slow


def logged_in(studio: Studio) -> urllib.request.OpenerDirector:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    page = opener.open(f"{studio.url}/login/", timeout=10).read().decode()
    (token,) = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page))
    form = {"csrfmiddlewaretoken": token, "username": "admin", "password": "correct horse"}
    opener.open(f"{studio.url}/login/", urlencode(form).encode(), timeout=10).close()
    return opener


#: Descriptors of the server in the test: half of them are for streams, which is less than the test asks for.
DESCRIPTORS = 160


async def opened(studio: Studio, run: int, cookie: str) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of the run: its status and its connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", studio.port)
    head = f"GET /events/?topics=run.{run} HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\nCookie: {cookie}\r\n\r\n"
    writer.write(head.encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    status = int(answer.split()[1])
    assert status == 200 or "retry-after: " in answer
    return status, reader, writer


async def test_streams_take_no_threads_and_leave_room_for_pages(studio: Studio) -> None:
    (run,) = studio.prepare(start=False)
    server = studio.spawn("web")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (64, DESCRIPTORS))  # it raises the first to the second
    wait_for(studio.answers, 60, "the web server answers")
    browser = logged_in(studio)
    (jar,) = [
        handler.cookiejar for handler in browser.handlers if isinstance(handler, urllib.request.HTTPCookieProcessor)
    ]
    cookie = "; ".join(f"{one.name}={one.value}" for one in jar)
    threads = psutil.Process(server.pid).num_threads()
    streams = [await opened(studio, run, cookie) for _number in range(DESCRIPTORS // 2 + 5)]
    assert sorted(status for status, _reader, _writer in streams) == [200] * (DESCRIPTORS // 2) + [503] * 5
    assert psutil.Process(server.pid).num_threads() < threads + 20
    assert b"part-header" in await asyncio.to_thread(
        lambda: browser.open(f"{studio.url}/runs/{run}/", timeout=20).read()
    )
    # A client that leaves makes room for another one.
    streams[0][2].close()
    while (status := (await opened(studio, run, cookie))[0]) != 200:
        assert status == 503
    server.send_signal(signal.SIGTERM)
    for status, reader, _writer in streams[1:]:
        if status == 200:
            assert (await reader.read()).endswith(b"0\r\n\r\n")
    await asyncio.to_thread(server.wait, 20)
    log = studio.log.read_text()
    assert "Traceback" not in log
    assert "exceeded" not in log, "it waited for the streams until its patience was over"
