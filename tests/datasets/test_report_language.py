"""Findings are stored as codes with parameters and in English, and rendered in the active language."""

import html
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import translation

from tests.helpers import annotated, hostile
from tests.helpers.sources import Tree, image, two_classes, write_tree, write_zip
from trainingapp.contract.messages import dataset_annotations as annotation_messages
from trainingapp.contract.messages import dataset_images as image_messages
from trainingapp.contract.messages import dataset_sources as source_messages
from trainingapp.datasets.importing.importer import check_upload, run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.report import DatasetError, Report, ReportItem, item_text, report_item
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import size_param
from trainingapp.management.foreground import print_report
from trainingapp.models import Dataset

#: Three consecutive English words. File names in these tests contain none.
ENGLISH = re.compile(r"[A-Za-z][a-z]+(?: [A-Za-z]*[a-z]+){2,}")
#: Texts that a message quotes from a file.
QUOTED = re.compile(r"'[^']*'")
CHINESE = {"accept-language": "zh-hans"}
#: Too large or too numerous for this test; other tests import them.
SLOW = ("bomb", "large", "many", "entries", "zip64", "pixels", "millions", "9,400", "without end")


def english_in(items: list[ReportItem]) -> list[str]:
    """Texts of findings that are not Chinese after storing and loading them."""
    with translation.override("zh-hans"):
        texts = [item_text(item) for item in json.loads(json.dumps(items))]
    return [text for text in texts if ENGLISH.search(QUOTED.sub("", text))]


def refused_for(upload: Path) -> list[ReportItem]:
    """The findings with which an upload is refused."""
    try:
        check_upload(upload)
    except DatasetError as error:
        return error.items
    return []


def quick(sources: Iterable[hostile.Hostile]) -> list[ParameterSet]:
    """Sources for this test: every third in CI, all in the long tests."""
    chosen = [one for one in sources if not any(word in one.name for word in SLOW)]
    return [
        pytest.param(one.make, id=one.name, marks=[pytest.mark.long] if index % 3 else [])
        for index, one in enumerate(chosen)
    ]


def findings_of(tree: Tree | bytes, owner: User, folder: Path, on_error: str) -> list[ReportItem]:
    """The findings of an inspection and of the import after it."""
    upload = folder / f"{on_error}.zip"
    if isinstance(tree, bytes):
        upload.write_bytes(tree)
    else:
        write_zip(upload, tree)
    dataset = Dataset.objects.create(name=on_error, owner=owner, source=str(upload), status="inspecting")
    run_inspection(dataset)
    found: list[ReportItem] = [*dataset.report, *dataset.proposal.get("report", [])]
    if dataset.status == Dataset.Status.PROPOSED:
        options = {"on_error": on_error, "split": "given" if dataset.proposal["has_splits"] else "stratified"}
        Dataset.objects.filter(pk=dataset.pk).update(status="importing", options=options)
        dataset.refresh_from_db()
        run_import(dataset)
        found += dataset.report
    return found


@pytest.mark.parametrize("make", quick([*hostile.annotations(), *hostile.images()]))
def test_hostile_annotations_and_images(make: Callable[[], Tree | bytes], other_user: User, tmp_path: Path) -> None:
    tree = make()
    items = [item for way in ("stop", "leave_out") for item in findings_of(tree, other_user, tmp_path, way)]
    assert english_in(items) == []


@pytest.mark.parametrize("make", quick(hostile.archives()))
def test_hostile_archives(make: Callable[[], Tree | bytes], tmp_path: Path) -> None:
    upload = tmp_path / "upload.zip"
    content = make()
    upload.write_bytes(content if isinstance(content, bytes) else hostile.zipped(content))
    assert english_in(refused_for(upload)) == []


def bad_images() -> Tree:
    """Class folders with nearly every kind of error."""
    robin = image(1, (40, 40))
    return {
        **two_classes(prefix="train/"),
        **{f"train/{name}": content for name, content in two_classes(1).items()},
        "train/cat/robin.png": robin,
        "val/cat/robin.png": robin,
        "val/dog/robin.png": robin,
        "train/cat/empty.png": b"",
        "train/cat/text.png": b"no image at all",
        "train/cat/other.png": b"\x00\x01" * 40,
        "train/dog/short.png": robin[:-200],
        "train/dog/tiny.png": image(2, (3, 3)),
        "train/dog/moving.gif": hostile.many_frames(),
        "train/dog/broken.png": robin[:60] + b"\0" * 30 + robin[90:],
        "train/notes.txt": b"x",
        "train/README": b"x",
        "outside.png": image(3),
        "train/fox/one.png": image(4),
        "val/owl/one.png": image(5),
        "test/cat/1.png": image(6),
    }


def test_bad_images(other_user: User, tmp_path: Path) -> None:
    items = [item for way in ("stop", "leave_out") for item in findings_of(bad_images(), other_user, tmp_path, way)]
    assert len({item["code"] for item in items}) > 9
    assert english_in(items) == []


def test_turned_annotations_and_equal_images(other_user: User, tmp_path: Path) -> None:
    tree = annotated.coco_tree()
    path = next(path for path in tree if path.endswith(".png"))
    tree["train/unnamed.png"] = tree[path]
    items = findings_of(tree, other_user, tmp_path, "stop")
    assert "not_annotated" in {item["code"] for item in items}
    assert english_in(items) == []


def report_of(page: str) -> str:
    """The text of the validation report on a page."""
    section = page.split('aria-labelledby="report-title"')[1].split("</section>")[0]
    return html.unescape(re.sub(r"<[^>]+>", " ", section))


@pytest.mark.parametrize("work", [run_inspection, run_import])
def test_the_page_of_a_bad_dataset(work: Callable[[Dataset], None], client: Client, user: User, tmp_path: Path) -> None:
    status = "inspecting" if work is run_inspection else "importing"
    tree = bad_images() | {"train/my cats/a b.txt": b"x", "train/my cats/one.png": b"no image"}
    source = write_tree(tmp_path / "source", tree)
    dataset = Dataset.objects.create(name="Bad", owner=user, source=str(source), status=status)
    work(dataset)
    client.force_login(user)
    shown = report_of(client.get(dataset.get_absolute_url(), headers=CHINESE).content.decode())
    stored = [*dataset.report, *dataset.proposal.get("report", [])]
    assert ENGLISH.search(" ".join(item["message"] for item in stored)), "the English text is stored, too"
    assert not ENGLISH.search(shown)
    in_english = report_of(client.get(dataset.get_absolute_url()).content.decode())
    assert stored[0]["message"] in in_english


def test_a_refused_upload(client: Client, user: User, data_dir: Path, settings: Any) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = data_dir / "uploads"
    client.force_login(user)
    content = hostile.zipped({**two_classes(), "../evil.png": image(1), "my cats/../evil.png": image(2)})
    values = {"name": "Bad", "archive": SimpleUploadedFile("my birds.zip", content)}
    page = client.post(reverse("dataset_import"), values, headers=CHINESE).content.decode()
    shown = page.split('id="id_archive_error">')[1].split("</div>")[0]
    assert "../evil.png" in shown
    assert not ENGLISH.search(html.unescape(shown))


def test_the_stored_text_is_english_in_a_studio_of_another_language(other_user: User, tmp_path: Path) -> None:
    with translation.override("zh-hans"):
        items = findings_of(bad_images(), other_user, tmp_path, "leave_out")
    assert items
    assert all(item["message"].replace("…", "").isascii() for item in items)


def test_sizes_are_rendered_in_the_active_language() -> None:
    message = source_messages.ZIP_BOMB(source="a.png", packed=size_param(512), size=size_param(10**10))
    item = report_item("error", "bomb", message)
    assert item["message"] == ("a.png unpacks from 512 bytes to 9.3 GB, as a zip bomb does. Nothing of it was read.")
    with translation.override("zh-hans"):
        assert "512 字节" in item_text(item)


def test_a_nested_message_is_rendered() -> None:
    report = Report(lenient=True)
    where = Position("a b.json", 1204).param()
    fault = annotation_messages.INVALID_ENTRY_OF_LIST(
        where=where, key="annotations", fault=annotation_messages.BBOX_TOO_LARGE()
    )
    report.fault("bad_annotation", fault, "a b.json")
    [item] = report.items()
    assert item["message"] == "Left out: a b.json line 1204: in annotations: bbox is too large."
    with translation.override("zh-hans"):
        assert item_text(item) == "已略过：a b.json 第 1204 行：annotations 中，bbox 过大。"


@pytest.mark.parametrize(("count", "text"), [(1, "1 image has"), (3, "3 images have")])
def test_counts_have_plural_forms(count: int, text: str) -> None:
    assert str(image_messages.ANIMATED(count=count)).startswith(text)


#: The form stored by version 0.1: only the English text.
OLD_ITEM: ReportItem = {
    "level": "error",
    "code": "truncated",
    "file": "cat/1.png",
    "message": "cat/1.png is cut short: its end is missing.",
}


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_findings_of_version_0_1_are_shown_as_they_were_stored(language: str, client: Client, user: User) -> None:
    dataset = Dataset.objects.create(name="Old", owner=user, source="/x", status="refused", report=[OLD_ITEM])
    client.force_login(user)
    page = client.get(dataset.get_absolute_url(), headers={"accept-language": language}).content.decode()
    assert OLD_ITEM["message"] in report_of(page)


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_finding_with_a_code_of_a_later_version_has_its_stored_text(language: str) -> None:
    item: ReportItem = {**OLD_ITEM, "text": {"code": "dataset_of_tomorrow", "params": {"path": "cat/1.png"}}}
    with translation.override(language):
        assert item_text(item) == OLD_ITEM["message"]


@pytest.mark.parametrize(("language", "text"), [("en", "truncated"), ("zh-hans", "不完整")])
def test_the_api_renders_findings_and_keeps_their_codes(language: str, text: str, client: Client, user: User) -> None:
    message = image_messages.TRUNCATED(path="cat/1.png")
    report = [report_item("error", "truncated", message, "cat/1.png")]
    dataset = Dataset.objects.create(
        name="Cut", owner=user, source="/x", status="refused", report=report, proposal={"report": report}
    )
    client.force_login(user)
    found = client.get(f"/api/v1/datasets/{dataset.pk}", headers={"accept-language": language}).json()
    for [item] in (found["report"], found["proposal"]["report"]):
        assert text in item["message"]
        assert item["text"] == {"code": "dataset_truncated", "params": {"path": "cat/1.png"}}


@pytest.mark.parametrize(("language", "text"), [("en", "is truncated"), ("zh-hans", "不完整：缺少结尾")])
def test_the_admin_renders_findings(language: str, text: str, client: Client, admin_user: User, user: User) -> None:
    report = [report_item("error", "truncated", image_messages.TRUNCATED(path="cat/1.png"))]
    dataset = Dataset.objects.create(name="Cut", owner=user, source="/x", status="refused", report=report)
    client.force_login(admin_user)
    address = reverse("admin:trainingapp_dataset_change", args=[dataset.pk])
    page = client.get(address, headers={"accept-language": language}).content.decode()
    assert f"<p>error: cat/1.png {text}" in page


@pytest.mark.parametrize(("language", "text"), [("en", "truncated"), ("zh-hans", "不完整")])
def test_commands_print_findings_in_the_active_language(
    language: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with translation.override(language):
        print_report([report_item("error", "truncated", image_messages.TRUNCATED(path="cat/1.png"))])
    assert text in capsys.readouterr().out
