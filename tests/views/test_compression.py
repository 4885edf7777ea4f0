"""Pages and answers of the API are compressed; streams, downloads and images are sent as they are."""

import gzip
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import reverse

from cvstudio.compression import CompressionMiddleware
from tests.api.conftest import api_of
from tests.helpers.world import line, store_events
from trainingapp.models import TrainingRun

GZIP = {"Accept-Encoding": "gzip, deflate, br"}
TEXT = "a text that is long enough to be worth it. " * 20


def passed(response: HttpResponse, accepted: str = "gzip, deflate, br") -> HttpResponse:
    """The response as the middleware returns it to a program that accepts these encodings."""
    request = RequestFactory().get("/", headers={"Accept-Encoding": accepted})
    answer = CompressionMiddleware(lambda _request: response)(request)
    assert isinstance(answer, HttpResponse)
    return answer


def test_a_page_is_compressed_and_says_so(user_client: Client, run: TrainingRun) -> None:
    plain = user_client.get(reverse("run_list"))
    assert "Content-Encoding" not in plain.headers
    packed = user_client.get(reverse("run_list"), headers=GZIP)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert packed.headers["Cache-Control"] == "private, no-store"
    assert int(packed.headers["Content-Length"]) == len(packed.content) < len(plain.content) / 3
    text = gzip.decompress(packed.content).decode()
    assert f'id="run-{run.pk}"' in text
    assert text.endswith("</html>\n")


def test_the_length_of_the_same_page_differs_between_two_answers() -> None:
    """Random padding: the length does not tell how well a guess compresses (BREACH)."""
    assert len({len(passed(HttpResponse(TEXT)).content) for _number in range(60)}) > 10


def test_the_token_of_forms_is_another_text_in_each_answer(user_client: Client, run: TrainingRun) -> None:
    tokens = {user_client.get(reverse("run_list")).context["csrf_token"] for _number in range(3)}
    assert len({str(token) for token in tokens}) == 3


def test_an_answer_of_the_api_is_compressed(db: None, user: User, run: TrainingRun) -> None:
    store_events(run, *(line(f"line {number}") for number in range(50)))
    api = api_of(user)
    plain = api.get(f"training/{run.pk}/logs")
    packed = api.get(f"training/{run.pk}/logs", **GZIP)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content


def test_an_etag_of_the_api_stays_the_one_that_a_change_is_sent_with(db: None, user: User, run: TrainingRun) -> None:
    api = api_of(user)
    shown = api.get(f"training/{run.pk}", **GZIP)
    tag = shown.headers["ETag"]
    assert tag.startswith('"')
    assert "Content-Encoding" not in shown.headers
    sent = {"If_Match": tag, **GZIP}
    assert api.put(f"training/{run.pk}", {"name": "other"}, **sent).status_code == 200
    assert api.put(f"training/{run.pk}", {"name": "third"}, **sent).status_code == 412


@pytest.mark.parametrize(
    ("media_type", "headers"),
    [
        ("image/webp", {}),
        ("application/zip", {}),
        ("application/octet-stream", {}),
        ("text/csv; charset=utf-8", {"Content-Disposition": 'attachment; filename="a.csv"'}),
        ("text/html", {"Content-Encoding": "br"}),
        ("application/json", {"ETag": '"3"'}),
    ],
)
def test_an_answer_that_gains_nothing_is_left_as_it_is(media_type: str, headers: dict[str, str]) -> None:
    answer = passed(HttpResponse(TEXT, content_type=media_type, headers=headers))
    assert answer.content == TEXT.encode()
    assert answer.headers.get("Content-Encoding") == headers.get("Content-Encoding")
    assert answer.headers.get("ETag") == headers.get("ETag")


@pytest.mark.parametrize("accepted", ["", "br", "deflate"])
def test_a_program_that_takes_no_gzip_gets_none(accepted: str) -> None:
    answer = passed(HttpResponse(TEXT), accepted)
    assert answer.content == TEXT.encode()
    assert answer.headers["Vary"] == "Accept-Encoding"


def test_a_script_that_is_downloaded_is_not_compressed(user_client: Client, run: TrainingRun) -> None:
    answer = user_client.get(reverse("run_script", args=[run.pk]), headers=GZIP)
    assert answer.status_code == 200
    assert "Content-Encoding" not in answer.headers


@pytest.mark.django_db(transaction=True)
async def test_a_stream_is_sent_event_by_event(user: User, run: TrainingRun) -> None:
    client = AsyncClient()
    await sync_to_async(client.force_login)(user)
    answer: Any = await client.get(reverse("event_stream") + f"?topics=run.{run.pk}", headers=GZIP)
    assert "Content-Encoding" not in answer.headers
    stream = aiter(answer.streaming_content)
    assert await anext(stream) == b": connected\n\n"
    await stream.aclose()
