"""`manage.py import_dataset` and `manage.py demo`."""

import json
from pathlib import Path

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from PIL import Image

from tests.helpers import annotated
from tests.helpers.sources import files_under, two_classes, write_tree, write_zip
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.run_lengths import decoded, read_outlines
from trainingapp.jobs import execution
from trainingapp.models import Dataset, Job

#: The import runs in a thread with its own connection, which sees only committed data.
pytestmark = pytest.mark.django_db(transaction=True)


def test_import_a_folder(admin: User, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("import_dataset", write_tree(tmp_path / "source", two_classes()), name="Pets")
    dataset = Dataset.objects.get()
    assert (dataset.name, dataset.owner, dataset.status) == ("Pets", admin, "ready")
    assert "2 classes, 8 images for training, 2 for validation" in capsys.readouterr().out


@pytest.mark.usefixtures("admin")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_command_ends_if_its_job_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_job: Job) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(execution, "work", broken)
    with pytest.raises(CommandError, match="without a result"):
        call_command("import_dataset", write_tree(tmp_path / "source", two_classes()), name="Pets")


def test_import_for_another_owner(user: User, tmp_path: Path) -> None:
    call_command("import_dataset", write_zip(tmp_path / "pets.zip", two_classes()), name="Pets", owner="ada")
    assert Dataset.objects.get().owner == user


@pytest.mark.usefixtures("admin")
def test_refused_import_prints_the_report(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tree(tmp_path / "source", {**two_classes(), "cat/note.jpg": b"text"})
    with pytest.raises(CommandError, match="refused") as caught:
        call_command("import_dataset", source, name="Pets")
    assert caught.value.returncode == 1
    assert "cat/note.jpg is a text file, not an image" in capsys.readouterr().out
    assert files_under(data_dir) == []


@pytest.mark.usefixtures("admin")
def test_name_already_in_use(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", two_classes())
    call_command("import_dataset", source, name="Pets")
    with pytest.raises(CommandError, match="already"):
        call_command("import_dataset", source, name="Pets")
    assert Dataset.objects.count() == 1


def test_without_an_administrator(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="createsuperuser"):
        call_command("import_dataset", write_tree(tmp_path / "source", two_classes()), name="Pets")


@pytest.mark.usefixtures("admin")
def test_source_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="does not exist"):
        call_command("import_dataset", tmp_path / "nowhere", name="Pets")


@pytest.mark.usefixtures("admin")
def test_demo_is_drawn_once(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("demo", images=40, size=32)
    call_command("demo", images=40, size=32)
    dataset = Dataset.objects.get(name="Demo scenes")
    assert (dataset.count("train"), dataset.count("val"), dataset.report) == (32, 8, [])
    assert "is already there" in capsys.readouterr().out


@pytest.mark.usefixtures("admin")
def test_demo_supports_all_built_in_tasks() -> None:
    call_command("demo", images=40, size=32)
    dataset = Dataset.objects.get()
    assert sorted(dataset.tasks) == ["classification", "detection", "instances", "segmentation"]
    for sample in read_index(dataset.folder).samples:
        assert sample.path.split("/")[2] == dataset.classes[sample.label]
        with Image.open(dataset.folder / sample.mask) as mask:
            values_HW = np.asarray(mask)
        assert set(np.unique(values_HW)) - {0} == {box.label + 1 for box in sample.boxes}
        large = sample.boxes[0]
        inside_HW = values_HW[int(large.top) : int(large.bottom), int(large.left) : int(large.right)]
        assert large.label == sample.label
        assert (inside_HW == large.label + 1).sum() == (values_HW == large.label + 1).sum()
        masks = [decoded(text, 32, 32) for text in read_outlines(dataset.folder / sample.outlines)]
        for box, mask_HW in zip(sample.boxes, masks, strict=True):
            rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
            assert (box.left, box.top) == (columns[0], rows[0])
            assert (box.right, box.bottom) == (columns[-1] + 1, rows[-1] + 1)
            assert (values_HW[mask_HW] == box.label + 1).all()
        assert np.array_equal(np.sum(masks, axis=0), values_HW > 0)  # objects do not overlap


@pytest.mark.usefixtures("admin")
def test_demo_refuses_invalid_arguments() -> None:
    for options in ({"images": 3}, {"size": 8}, {"seed": -1}):
        with pytest.raises(CommandError, match="must be"):
            call_command("demo", **options)


def test_inspect_prints_the_content_of_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tree(tmp_path / "source", annotated.coco_tree())
    call_command("import_dataset", source, inspect=True)
    out = capsys.readouterr().out
    assert "Format coco, for detection. Images: 4 train, 2 val." in out
    assert "cat: 2 images, 3 objects" in out
    call_command("import_dataset", source, inspect=True, json=True)
    proposal = json.loads(capsys.readouterr().out)
    assert (proposal["format"], proposal["report"]) == ("coco", [])


def test_inspect_of_an_empty_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tree(tmp_path / "source", {"note.txt": b"x"})
    with pytest.raises(CommandError, match="cannot be imported"):
        call_command("import_dataset", source, inspect=True)
    assert "The images are not in the source" in capsys.readouterr().out


@pytest.mark.usefixtures("admin")
def test_choices_on_the_command_line(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", annotated.coco_tree())
    arguments = [
        "--name",
        "Pets",
        "--rename",
        "cat=pet",
        "--rename",
        "dog=pet",
        "--order",
        "owl",
        "--split",
        "stratified",
    ]
    call_command("import_dataset", source, *arguments, "--val-share", "0.5", "--seed", "3")
    dataset = Dataset.objects.get()
    assert (dataset.classes, dataset.images) == (["owl", "pet"], {"train": 3, "val": 3})
    call_command("import_dataset", source, "--name", "No owls", "--leave-out", "owl", "--on-error", "leave_out")
    assert Dataset.objects.get(name="No owls").classes == ["cat", "dog"]


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--rename", "bear=pet"], "no class bear"),
        (["--rename", "cat"], "OLD=NEW"),
        (["--leave-out", "bear"], "no class bear"),
        (["--leave-out", "cat", "--order", "cat"], "no class cat"),
        (["--val-share", "2"], "--val-share"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_invalid_choices_are_refused(tmp_path: Path, arguments: list[str], text: str) -> None:
    source = write_tree(tmp_path / "source", annotated.coco_tree())
    with pytest.raises(CommandError, match=text):
        call_command("import_dataset", source, "--name", "Pets", *arguments)
    assert not Dataset.objects.exists()
