"""One or two datasets in one upload, in any format, incomplete or modified: a clear error or a correct import.

There must be no traceback, no classes named after folders of splits, images, labels or masks, no split that differs
from the given one, and no object, mask or label that differs from the written one.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.helpers.annotated import Tree
from tests.helpers.exports import CODES, EXPORTS, FOLDERS, Export, differences, digests, imported, plain_names
from tests.helpers.searches import IS_NEW, search
from tests.helpers.sources import image, whole_import, write_tree, write_zip
from trainingapp.datasets.codes import TITLES
from trainingapp.datasets.importing import importer
from trainingapp.models import Dataset

#: `make test-all` tries three times as many, more than 5,000.
CASES = 1_700 if IS_NEW else 60
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "Train", "train2017"),
    "val": ("val", "valid", "validation", "Val"),
    "images": ("images", "Images", "imgs"),
    "masks": ("masks", "Masks"),
    "labels": ("labels", "Labels"),
}
TOGETHER = (("", ""), ("a/", "a/"), ("export/data/", "export/data/"))
APART = (("first/", "second/"), ("照片/", "other set/"), ("data/a/", "data/b/"))
IS_CLASS = re.compile(
    r"background|foreground|object|class \d+|\d+|cat|dog|owl|first|second|照片|other set|a|b|data|export|bonn"
)
STRAY: Mapping[str, bytes] = {
    "notes.json": b'{"author": "me", "year": 2026}',
    "extra.xml": b"<note><to>you</to></note>",
    "list.csv": b"a,b\n1,2\n",
    "log.txt": b"epoch 1 of 2\n",
    "results.json": b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
}
GARBAGE = b'\0<]},"'
READABLE_GARBAGE = '<]},"'
"""What of GARBAGE can be part of the name of a class."""
NAME_TABLES = ("classes.txt", "labelmap.txt", "obj.names")


@dataclass(frozen=True)
class Part:
    """One dataset of a mixture. `renamed` are its renamed folders."""

    export: str
    stems: str
    prefix: str
    with_test: bool
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def about(self) -> Export:
        return EXPORTS[self.export]

    def files(self) -> Tree:
        files = self.about.files(self.stems, with_test=self.with_test)
        return {self.prefix + self.path(path): content for path, content in files.items()}

    def path(self, path: str) -> str:
        return "/".join(self.renamed.get(part, part) for part in path.split("/"))


@dataclass(frozen=True, repr=False)
class Mixture:
    """The files and the datasets that they come from.

    `is_whole`: no file of a dataset is missing or changed. `is_clear`: no file of one replaces that of another.
    `is_broken`: a file is damaged. `has_more`: there are images that belong to no dataset. `reading` is the choice of a
    format, as in the review.
    """

    tree: Tree
    parts: tuple[Part, ...]
    is_whole: bool = True
    is_clear: bool = True
    is_broken: bool = False
    has_more: bool = False
    as_zip: bool = False
    reading: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Omits the content of the files, which can be megabytes."""
        facts = f"is_whole={self.is_whole}, is_broken={self.is_broken}, as_zip={self.as_zip}, reading={self.reading}"
        return f"Mixture(parts={self.parts}, {facts}, paths={sorted(self.tree)})"

    def is_intact(self, *names: str) -> bool:
        """Whether the files of these names are unchanged in every dataset."""
        return all(
            self.tree.get(path) == content
            for part in self.parts
            for path, content in part.files().items()
            if path.rpartition("/")[2] in names
        )

    def names(self) -> set[str]:
        """The class names: those that were written, and those that damaged name tables give.

        If the user chose classes from file names, images of no dataset (z0.png, zz9.png) also have classes.
        """
        names = {name for part in self.parts for name in part.about.names}
        if not self.is_intact(*NAME_TABLES):
            names |= {READABLE_GARBAGE + name for name in ("", "background", *names)}
        if self.has_more and self.reading.get("class_from") == "file_name":
            names |= {"z", "zz"}
        if not self.is_intact("class-descriptions-boxable.csv"):
            names |= set(CODES)
        return names

    def numbered(self) -> set[str]:
        """The digests of images whose instance masks can be read as class masks.

        This applies to demo scenes if the user chooses it, or if their JSON file is missing or damaged.
        """
        if self.reading.get("format") != "masks" and self.is_intact("annotations.json"):
            return set()
        return {sha for part in self.parts if part.export == "scenes" for sha in digests(part.stems)}

    def given_splits(self) -> dict[str, set[str]]:
        """The splits of each image in every dataset that contains it, by image digest."""
        present = {digest(content) for content in self.tree.values() if content}
        splits: dict[str, set[str]] = {}
        open_: set[str] = set()
        for part in self.parts:
            whole = part.files()
            for sha, item in digests(part.stems).items():
                if sha not in present or item not in part.about.items(part.stems, with_test=part.with_test):
                    continue
                carrier = part.prefix + part.path(part.about.given_by.format(split=item.split))
                is_given = part.about.given_by == FOLDERS or self.tree.get(carrier) == whole.get(carrier, b"-")
                if part.about.given_by and is_given:
                    splits.setdefault(sha, set()).add(item.split)
                else:
                    open_.add(sha)
        return {sha: found for sha, found in splits.items() if sha not in open_}


@cache
def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def photo_digests() -> frozenset[str]:
    return frozenset(sha for stems in ("plain", "other", "screenshot", "chinese") for sha in digests(stems))


def is_photo(content: bytes | None) -> bool:
    return bool(content) and digest(content or b"") in photo_digests()


@st.composite
def parts(draw: st.DrawFn, prefix: str, stems: list[str]) -> Part:
    renamed = (
        {old: draw(st.sampled_from(new)) for old, new in OTHER_NAMES.items()} if draw(st.integers(0, 3)) == 0 else {}
    )
    return Part(
        draw(st.sampled_from(sorted(EXPORTS))), draw(st.sampled_from(stems)), prefix, draw(st.booleans()), renamed
    )


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(2):
            archive.writestr(f"{name}{number}.png", image(700 + number))
    return buffer.getvalue()


@st.composite
def disturbed(draw: st.DrawFn, mixture: Mixture) -> Mixture:
    """The mixture with additional files, without some of its files, or with a damaged file."""
    tree = dict(mixture.tree)
    folders = sorted({path.rpartition("/")[0] for path in tree})
    folder = draw(st.sampled_from(folders))
    place = f"{folder}/" if folder else ""
    photos = sorted(path for path, content in tree.items() if is_photo(content))
    others = sorted(set(tree) - set(photos))
    for kind in draw(st.lists(st.sampled_from(["stray", "readme", "zip", "image", "broken", "missing"]), max_size=3)):
        if kind == "stray":
            name = draw(st.sampled_from(sorted(STRAY)))
            tree.setdefault(place + name, STRAY[name])
        elif kind == "readme":
            names = " and ".join(PurePosixPath(path).name for path in photos[:2])
            tree[place + draw(st.sampled_from(["README.md", "README.roboflow.txt"]))] = names.encode()
        elif kind == "zip":
            name = draw(st.sampled_from(["backup", "images"]))
            tree[f"{place}{name}.zip"] = zipped("z")
            mixture = replace(mixture, has_more=True)
        elif kind == "image":
            tree[f"{draw(st.sampled_from(photos)).rpartition('/')[0]}/zz9.png"] = image(999, (60, 40))
            mixture = replace(mixture, has_more=True)
        elif kind == "broken" and others:
            path = draw(st.sampled_from(others))
            content = tree.get(path) or b""
            at = content.rfind(b"\n", 0, draw(st.integers(0, len(content)))) + 1
            tree[path] = content[:at] + GARBAGE + (content[at:] if draw(st.booleans()) else b"")
            mixture = replace(mixture, is_whole=False, is_broken=True)
        elif kind == "missing":
            gone = set(draw(st.lists(st.sampled_from(photos), max_size=2)))
            if others:
                gone |= set(draw(st.one_of(st.just(others), st.lists(st.sampled_from(others), max_size=3))))
            tree = {path: content for path, content in tree.items() if path not in gone}
            mixture = replace(mixture, is_whole=False)
    return replace(mixture, tree=tree)


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    prefixes = draw(st.sampled_from([*TOGETHER, *APART]))
    first = draw(parts(prefixes[0], ["plain", "screenshot", "chinese"]))
    found, tree, is_clear = (first,), first.files(), True
    if prefixes in APART or draw(st.booleans()):
        second = draw(parts(prefixes[1], ["plain", "other"] if prefixes in TOGETHER else ["other", "chinese"]))
        # If both have a file with the same path, that of the first is kept.
        other = second.files()
        is_clear = all(tree.get(path, other[path]) == other[path] for path in other)
        found, tree = (first, second), {**other, **tree}
    formats = {part.about.format for part in found} - {"class_folders", "file_name"}
    choices: list[Mapping[str, str]] = [{}, {}, {}, *({"format": name} for name in sorted(formats))]
    reading = draw(st.sampled_from(choices)) if len(found) > 1 else first.about.reading or {}
    is_whole = is_clear and not any(part.renamed for part in found)
    mixture = Mixture(tree, found, is_whole, is_clear, as_zip=draw(st.integers(0, 3)) == 0, reading=reading)
    return draw(disturbed(mixture)) if draw(st.booleans()) else mixture


def check_right(dataset: Dataset, mixture: Mixture) -> None:
    warned = {item["code"] for item in dataset.report}
    names = mixture.names()
    assert all(name in names or IS_CLASS.fullmatch(name) for name in dataset.classes), dataset.classes
    # The meaning of values is ambiguous if the masks of only one dataset have a single class. Those of the demo scenes
    # are read like any others where their annotations are not read.
    read_as_masks = {"masks", "scenes"} if dataset.format == "masks" else {"masks"}
    mask_names = {part.about.names for part in mixture.parts if part.about.format in read_as_masks}
    is_clear = mixture.is_clear and (len(mask_names) < 2 or min(map(len, mask_names)) > 1)
    if dataset.format == "yolo" and not mixture.is_intact("obj.names"):
        # A missing name list is replaced by that of the masks, which includes the background.
        is_clear = is_clear and not any(path.endswith("classes.txt") for path in mixture.tree)
    found = imported(dataset, [part.stems for part in mixture.parts])
    # Next to a dataset with all classes of its images, one with a single class per image is a subset.
    is_partly = mixture.is_broken or {part.about.holds for part in mixture.parts} == {"label", "labels"}
    given_splits = mixture.given_splits()
    shas = [digest((dataset.folder / one.sample.path).read_bytes()) for one in found]
    kept = [given_splits.get(sha, set()) for sha in shas]
    # If all usable images are for training, the import chooses the validation images from them.
    is_divided = set[str]().union(*kept) <= {"train"} or "val_set_aside" in warned
    classes = plain_names(dataset.classes, dataset.format)
    numbered = mixture.numbered() if dataset.format == "masks" else set()
    for one, sha, splits in zip(found, shas, kept, strict=True):
        allowed = {*splits, *({"val"} if "test" in splits and "test_as_val" in warned else ())}
        assert not splits or is_divided or one.sample.split in allowed, (one.sample.path, splits)
        faults = set(differences(one, dataset.folder, classes, partly=is_partly))
        faults -= {"mask"} if sha in numbered else set()
        if "detection" in dataset.tasks and not one.sample.boxes:
            is_background = not one.origin or not one.origin.boxes or not mixture.is_whole
            assert is_background or "no_label_file" in warned, f"{one.sample.path} became background"
        else:
            assert not is_clear or not faults, (one.sample.path, faults)
    photos = {digest(content) for content in mixture.tree.values() if content and is_photo(content)}
    assert not photos - set(shas) or dataset.report, "images were left out without a finding"


def is_doubtful(dataset: Dataset, part: Part) -> bool:
    """Whether detector results next to class folders are the cause: their images may belong to another task."""
    reasons = {(item["code"], PurePosixPath(item["file"]).name) for item in dataset.report if item["level"] == "error"}
    return part.about.format == "class_folders" and reasons == {("unread_annotations", "results.json")}


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables flushing: the search is about reading, not about power failures."""
    monkeypatch.setattr(importer.os, "sync", lambda: None)


@search(CASES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(mixture=mixtures(), on_error=st.sampled_from(["stop", "leave_out"]))
def test_a_mixture_gives_a_clear_error_or_a_correct_import(
    new_dataset: Callable[..., Dataset], data_dir: Path, tmp_path: Path, mixture: Mixture, on_error: str
) -> None:
    source = folder = tmp_path / "source"
    if mixture.as_zip:
        folder.mkdir()
        source = write_zip(folder / "set.zip", mixture.tree)
    else:
        write_tree(folder, mixture.tree)
    dataset = new_dataset(source)
    with whole_import(dataset, folder, data_dir, on_error, mixture.reading):
        assert all(item["code"] in TITLES and item["message"] for item in dataset.report)
        if dataset.status == Dataset.Status.READY:
            assert not dataset.errors
            check_right(dataset, mixture)
        else:
            is_expected = len(mixture.parts) > 1 or not mixture.is_whole or mixture.has_more
            assert is_expected or is_doubtful(dataset, mixture.parts[0]), dataset.report
