"""What is wrong with a dataset is said on its page in the reader's language, whatever it is; it is kept in English."""

import html
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
from trainingapp.datasets.errors import DatasetError, ReportItem
from trainingapp.datasets.importing.importer import check_upload, run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.sources.archive import _size
from trainingapp.models import Dataset
from trainingapp.presentation.sentences import finding_in_readers_language

#: Three words of English one after the other. Names of files in these tests have none.
ENGLISH = re.compile(r"[A-Za-z][a-z]+(?: [A-Za-z]*[a-z]+){2,}")
CHINESE = {"accept-language": "zh-hans"}
#: Too large, or too many, to be made here for their messages' sake; other tests take them in.
SLOW = ("bomb", "large", "many", "entries", "zip64", "pixels", "millions", "9,400", "without end")


def english_in(messages: list[str]) -> list[str]:
    with translation.override("zh-hans"):
        said = map(finding_in_readers_language, messages)
        return [message for message in said if ENGLISH.search(message)]


def refused_for(upload: Path) -> list[str]:
    """What the check of an upload finds wrong."""
    try:
        check_upload(upload)
    except DatasetError as error:
        return [item["message"] for item in error.items]
    return []


def quick(sources: Iterable[hostile.Hostile]) -> list[ParameterSet]:
    return [pytest.param(one.make, id=one.name) for one in sources if not any(word in one.name for word in SLOW)]


def taken_in(tree: Tree | bytes, owner: User, folder: Path, on_error: str) -> list[ReportItem]:
    """What an inspection and the import behind it report."""
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
    items = [item for way in ("stop", "leave_out") for item in taken_in(tree, other_user, tmp_path, way)]
    assert english_in([item["message"] for item in items]) == []


@pytest.mark.parametrize("make", quick(hostile.archives()))
def test_hostile_archives(make: Callable[[], Tree | bytes], tmp_path: Path) -> None:
    upload = tmp_path / "upload.zip"
    content = make()
    upload.write_bytes(content if isinstance(content, bytes) else hostile.zipped(content))
    assert english_in(refused_for(upload)) == []


def bad_images() -> Tree:
    """Class folders in which nearly everything is wrong that can be."""
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
    items = [item for way in ("stop", "leave_out") for item in taken_in(bad_images(), other_user, tmp_path, way)]
    assert len({item["code"] for item in items}) > 9
    assert english_in([item["message"] for item in items]) == []


def test_turned_annotations_and_equal_images(other_user: User, tmp_path: Path) -> None:
    tree = annotated.coco_tree()
    path = next(path for path in tree if path.endswith(".png"))
    tree["train/unnamed.png"] = tree[path]
    items = taken_in(tree, other_user, tmp_path, "stop")
    assert "not_annotated" in {item["code"] for item in items}
    assert english_in([item["message"] for item in items]) == []


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
    said = report_of(client.get(dataset.get_absolute_url(), headers=CHINESE).content.decode())
    kept = [*dataset.report, *dataset.proposal.get("report", [])]
    assert ENGLISH.search(" ".join(item["message"] for item in kept)), "it is kept in English"
    assert not ENGLISH.search(said)
    in_english = report_of(client.get(dataset.get_absolute_url()).content.decode())
    assert kept[0]["message"] in in_english


def test_a_refused_upload(client: Client, user: User, data_dir: Path, settings: Any) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = data_dir / "uploads"
    client.force_login(user)
    content = hostile.zipped({**two_classes(), "../evil.png": image(1), "my cats/../evil.png": image(2)})
    values = {"name": "Bad", "archive": SimpleUploadedFile("my birds.zip", content)}
    page = client.post(reverse("dataset_import"), values, headers=CHINESE).content.decode()
    said = page.split('id="id_archive_error">')[1].split("</div>")[0]
    assert "../evil.png" in said
    assert not ENGLISH.search(html.unescape(said))


def test_what_is_kept_is_english_in_a_studio_of_another_language(other_user: User, tmp_path: Path) -> None:
    with translation.override("zh-hans"):
        items = taken_in(bad_images(), other_user, tmp_path, "leave_out")
    assert items
    assert all(item["message"].replace("…", "").isascii() for item in items)


def test_sizes_are_kept_in_english_and_shown_as_the_reader_writes_them() -> None:
    with translation.override("zh-hans"):
        kept = f"The zip unpacks from {_size(512)} to {_size(10**10)}: a zip bomb. Nothing of it was read."
        assert kept == "The zip unpacks from 512 bytes to 9.3 GB: a zip bomb. Nothing of it was read."
        assert "512 字节" in finding_in_readers_language(kept)
