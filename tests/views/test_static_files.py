"""Static files: addresses that change with the content, kept by browsers for a year, and sent compressed."""

import gzip
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.test import Client
from django.urls import reverse

from cvstudio.static_files import IMMUTABLE, static_version
from tests.helpers.studio import REPOSITORY, Studio, wait_for

LAYOUT = "css/layout.css"


def versioned(name: str) -> str:
    return staticfiles_storage.url(name)


def test_the_address_has_a_version_and_is_kept_for_a_year(client: Client) -> None:
    assert re.fullmatch(r"/static/[0-9a-f]{12}/css/layout\.css", versioned(LAYOUT))
    response = client.get(versioned(LAYOUT))
    assert response.headers["Cache-Control"] == IMMUTABLE
    assert response.headers["Content-Type"] == 'text/css; charset="utf-8"'
    assert b"".join(response) == (REPOSITORY / "static" / LAYOUT).read_bytes()


@pytest.mark.django_db
def test_every_static_file_of_a_page_has_the_version(client: Client) -> None:
    page = client.get(reverse("login")).content.decode()
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert len(found) > 15
    assert {address.split("/")[2] for address in found} == {static_version()}
    assert {client.get(address).status_code for address in found} == {200}


def test_what_files_refer_to_keeps_the_version() -> None:
    """Relative addresses do; an absolute one in a style sheet or a script would lead past it."""
    for path in [*(REPOSITORY / "static/css").glob("*.css"), *(REPOSITORY / "static/js").glob("*.js")]:
        assert "/static/" not in path.read_text(), path.name


@pytest.mark.parametrize("version", ["0" * 12, "f" * 12])
def test_a_page_from_before_an_upgrade_gets_its_files_but_keeps_none(client: Client, version: str) -> None:
    response = client.get(f"/static/{version}/{LAYOUT}")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-cache"


def test_an_address_without_a_version_is_not_kept_for_long(client: Client) -> None:
    assert client.get(f"/static/{LAYOUT}").headers["Cache-Control"] == "max-age=60, public"


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["css/nothing.css", "../settings.py", "js/", ""])
def test_other_addresses_are_not_served(client: Client, name: str) -> None:
    assert client.get(f"/static/{static_version()}/{name}").status_code in (302, 404)


def test_a_text_is_compressed_and_a_font_is_not(client: Client) -> None:
    packed = client.get(versioned(LAYOUT), headers={"Accept-Encoding": "gzip, br"})
    content = packed.content
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert packed.headers["Cache-Control"] == IMMUTABLE
    assert packed.headers["Content-Length"] == str(len(content))
    assert gzip.decompress(content) == (REPOSITORY / "static" / LAYOUT).read_bytes()
    font = client.get(
        versioned("vendor/bootstrap-icons/fonts/bootstrap-icons.woff2"), headers={"Accept-Encoding": "gzip"}
    )
    assert "Content-Encoding" not in font.headers
    assert font.headers["Cache-Control"] == IMMUTABLE


def test_both_forms_have_a_tag_and_are_found_unchanged_by_it(client: Client) -> None:
    tags = set()
    for accepted in ("", "gzip"):
        headers = {"Accept-Encoding": accepted}
        tag = client.get(versioned(LAYOUT), headers=headers).headers["ETag"]
        again = client.get(versioned(LAYOUT), headers={**headers, "If-None-Match": tag})
        assert (again.status_code, again.headers["ETag"], again.headers["Cache-Control"]) == (304, tag, IMMUTABLE)
        tags.add(tag)
    assert len(tags) == 2


def test_a_part_of_a_file_is_sent_uncompressed(client: Client) -> None:
    part = client.get(versioned(LAYOUT), headers={"Accept-Encoding": "gzip", "Range": "bytes=0-9"})
    assert part.status_code == 206
    assert b"".join(part) == (REPOSITORY / "static" / LAYOUT).read_bytes()[:10]
    assert "Content-Encoding" not in part.headers


def test_a_head_request_tells_the_same_length(client: Client) -> None:
    headers = {"Accept-Encoding": "gzip"}
    assert (
        client.head(versioned(LAYOUT), headers=headers).headers["Content-Length"]
        == client.get(versioned(LAYOUT), headers=headers).headers["Content-Length"]
    )


# Real servers


def checkout_in(folder: Path) -> Path:
    """A checkout with static files of its own; the rest is this one's."""
    folder.mkdir()
    shutil.copytree(REPOSITORY / "cvstudio", folder / "cvstudio", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "static").mkdir()
    for name in ("css", "js", "img"):
        shutil.copytree(REPOSITORY / "static" / name, folder / "static" / name)
    (folder / "static" / "node_modules").symlink_to(REPOSITORY / "static" / "node_modules")
    shutil.copy(REPOSITORY / "manage.py", folder)  # Python looks for modules where the file itself is
    for name in ("trainingapp", "templates", "locale", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


def fetch(studio: Studio, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, Cache-Control and text of an address."""
    request = urllib.request.Request(studio.url + path, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.status, response.headers.get("Cache-Control", ""), response.read().decode()


def layout_of(studio: Studio) -> str:
    """The address of a style sheet, as the page of the login refers to it."""
    return re.findall(r'href="(/static/[^"]*css/layout\.css)"', fetch(studio, "/login/")[2])[0]


@pytest.mark.long
@pytest.mark.parametrize("debug", [False, True])
def test_a_changed_file_is_seen_at_once_after_an_upgrade(tmp_path: Path, debug: bool) -> None:
    checkout = checkout_in(tmp_path / "checkout")
    installation = Studio(tmp_path / "data", DEBUG="true" if debug else "")
    installation.repository = checkout
    installation.env["PYTHONPATH"] = str(checkout)
    try:
        installation.migrate()
        server = installation.spawn("web")
        wait_for(installation.answers, 60, "the web server answers")
        before = layout_of(installation)
        _status, caching, text = fetch(installation, before)
        assert caching == ("max-age=0, public" if debug else IMMUTABLE)
        assert "/* changed */" not in text
        with (checkout / "static" / LAYOUT).open("a") as file:
            file.write("/* changed */")
        if not debug:
            installation.stop(server)
            installation.spawn("web")
            wait_for(installation.answers, 60, "the web server answers again")
        after = layout_of(installation)
        assert (after == before) == debug
        assert fetch(installation, after)[2].endswith("/* changed */")
        if not debug:  # a page that is still open in a browser
            assert fetch(installation, before)[1:] == ("no-cache", fetch(installation, after)[2])
    finally:
        installation.cut_power()
