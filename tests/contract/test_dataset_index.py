"""The index of a dataset folder: read as written, and wrong lines refused by number."""

import json
from pathlib import Path

import pytest

from trainingapp.contract.dataset_index import Sample, read_index, write_index

SAMPLES = [Sample("images/train/ä b/1.png", 0, "train", 8, 9), Sample("images/val/c/2.png", 1, "val", 7, 6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_index(tmp_path, name="n", tasks=["classification"], classes=["ä b", "c"], fingerprint="f", samples=SAMPLES)
    return tmp_path


def test_read_as_written(folder: Path) -> None:
    index = read_index(folder)
    assert (index.name, index.tasks, index.classes, index.fingerprint) == ("n", ["classification"], ["ä b", "c"], "f")
    assert index.split("train") == SAMPLES[:1]
    assert index.split("val") == SAMPLES[1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "'label'"),
        ({"label": True}, "'label'"),
        ({"split": "test"}, "'split'"),
        ({"path": "../secret.png"}, "'path'"),
        ({"path": "/etc/passwd"}, "'path'"),
        ({"width": 0}, "'width'"),
        ({"height": "9"}, "'height'"),
        ({"labels": "0"}, "'labels'"),
        ({"labels": [1, 0]}, "'labels'"),
        ({"labels": [0, 0]}, "'labels'"),
        ({"labels": [2]}, "'label'"),
    ],
)
def test_an_invalid_line_is_named(folder: Path, change: dict[str, object], message: str) -> None:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **change})
    (folder / "samples.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"samples.jsonl line 2: {message}"):
        read_index(folder)


def test_several_labels_are_read_as_written(tmp_path: Path) -> None:
    samples = [
        Sample("images/1.png", -1, "train", 8, 9, labels=(0, 2)),
        Sample("images/2.png", -1, "val", 8, 9, labels=()),
    ]
    write_index(tmp_path, name="n", tasks=["classification"], classes=["a", "b", "c"], fingerprint="", samples=samples)
    index = read_index(tmp_path)
    assert (index.samples, index.label_mode) == (samples, "multi")


def test_a_dataset_with_one_label_per_image_is_written_as_before(folder: Path) -> None:
    first = (folder / "samples.jsonl").read_text().splitlines()[0]
    assert first == '{"path":"images/train/ä b/1.png","split":"train","width":8,"height":9,"label":0}'
    assert read_index(folder).label_mode == "single"


def test_broken_json_is_named_with_its_line(folder: Path) -> None:
    (folder / "samples.jsonl").write_text('{"path":\n')
    with pytest.raises(ValueError, match=r"samples\.jsonl line 1: not valid JSON"):
        read_index(folder)


@pytest.mark.parametrize("name", ["dataset.json", "samples.jsonl"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: the file is missing"):
        read_index(folder)


@pytest.mark.parametrize("change", [{"format": 3}, {"classes": []}, {"classes": [1]}, {"name": None}])
def test_an_invalid_header_is_named(folder: Path, change: dict[str, object]) -> None:
    head = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**head, **change}))
    with pytest.raises(ValueError, match=r"dataset\.json: "):
        read_index(folder)


def test_an_invalid_sample_is_not_written(tmp_path: Path) -> None:
    wrong = Sample("a.png", 5, "train", 1, 1)
    with pytest.raises(ValueError, match="line 1"):
        write_index(tmp_path, name="n", tasks=["classification"], classes=["a"], fingerprint="f", samples=[wrong])
    assert not (tmp_path / "dataset.json").exists()
