"""A web server that is stopped ends its open streams completely, and does not wait for their readers."""

import re
import signal
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

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


def test_open_streams_end_completely_when_the_server_stops(studio: Studio) -> None:
    (run,) = studio.prepare(start=False)
    server = studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    stream = logged_in(studio).open(f"{studio.url}/runs/{run}/events/", timeout=20)
    assert stream.readline() == b": connected\n"
    server.send_signal(signal.SIGTERM)
    stream.read()  # raises IncompleteRead when the connection is cut before the stream's end
    server.wait(20)
    assert "exceeded" not in studio.log.read_text(), "it waited for the streams until its patience was over"
