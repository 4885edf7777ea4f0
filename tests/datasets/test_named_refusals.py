"""Unsupported sources: the error names what was found and suggests an alternative."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.datasets.cases.kit import Tree, class_folders, numbered, photo
from tests.helpers.sources import assert_refused, write_tree, write_zip
from trainingapp.datasets.importing.importer import check_upload
from trainingapp.datasets.report import DatasetError
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
PHOTOS = numbered("images/p{}.jpg", 4)
SEQUENCES = numbered("train/MOT17-02/img1/00000{}.jpg", 4) | numbered("train/MOT17-04/img1/00000{}.jpg", 4)


def each(path: str, content: str) -> Tree:
    return {path.format(number): content.encode() for number in range(4)}


def lines_of(form: str) -> bytes:
    return "\n".join(form.format(number) for number in range(4)).encode()


def panoptic() -> bytes:
    images = [{"id": number, "file_name": f"p{number}.jpg"} for number in range(4)]
    annotations = [{"image_id": number, "segments_info": [{"id": 1, "category_id": 1}]} for number in range(4)]
    return json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}).encode()


def captions() -> bytes:
    images = [{"id": number, "file_name": f"p{number}.jpg"} for number in range(4)]
    annotations = [{"id": number, "image_id": number, "caption": "a dog"} for number in range(4)]
    return json.dumps({"images": images, "annotations": annotations}).encode()


BDD = [{"name": f"p{number}.jpg", "labels": [{"category": "car", "box2d": {"x1": 1}}]} for number in range(4)]
RESULTS = [{"image_id": number, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.9} for number in range(4)]
DATA_ROW = '{{"data_row": {{"external_id": "p{}.jpg"}}}}'
SOURCE_REF = '{{"source-ref": "s3://bucket/p{}.jpg"}}'
POLYGON = "<polygon><pt><x>1</x><y>1</y></pt></polygon>"
LABELME_WEB = f"<annotation><object><name>car</name>{POLYGON}</object></annotation>"

FAMILIES: list[tuple[Tree, str]] = [
    (SEQUENCES | {"train/MOT17-02/gt/gt.txt": b"1,1,5,5,20,20,1,1,1.0\n2,1,5,5,20,20,1,1,1.0\n"}, "MOT Challenge"),
    (PHOTOS | {"faces_bbx_gt.txt": lines_of("p{}.jpg\n1\n5 5 20 20 0 0 0 0 0 0")}, "WIDER FACE"),
    (PHOTOS | {"list_attr_celeba.txt": b"4\nBald Young\n" + lines_of("p{}.jpg 1 -1")}, "CelebA"),
    (PHOTOS | each("labelTxt/p{}.txt", "5.0 5.0 25.0 5.0 25.0 25.0 5.0 25.0 plane 0\n"), "DOTA"),
    (PHOTOS | {"annotations.txt": lines_of("p{}.jpg 5,5,25,25,0 10,10,30,30,1")}, "keras-yolo3"),
    (PHOTOS | {"det_train.json": json.dumps(BDD).encode()}, "BDD100K"),
    (PHOTOS | {"labels.json": b'{"classes": ["a"], "labels": {"p0": 0, "p1.jpg": 0, "p2.jpg": 0}}'}, "FiftyOne"),
    (PHOTOS | each("annotations/p{}.json", '{"version": "2.0", "item": {"slots": []}}'), "V7 Darwin"),
    (PHOTOS | {"export.ndjson": lines_of(DATA_ROW)}, "Labelbox"),
    (PHOTOS | {"output.manifest": lines_of(SOURCE_REF)}, "SageMaker"),
    (PHOTOS | {"all.csv": lines_of("TRAIN,gs://bucket/p{}.jpg,car,0.1,0.1,,,0.5,0.6,,")}, "Google AutoML"),
    (PHOTOS | {"panoptic_train2017.json": panoptic()}, "COCO Panoptic"),
    (PHOTOS | {"captions_train2017.json": captions()}, "COCO Captions"),
    (PHOTOS | {"results.json": json.dumps(RESULTS).encode()}, "COCO results"),
    (PHOTOS | each("Annotations/p{}.xml", LABELME_WEB), "LabelMe (MIT)"),
    (PHOTOS | {"annotation_train.odgt": lines_of('{{"ID": "p{}"}}')}, "CrowdHuman"),
    (PHOTOS | {"labels.xlsx": b"PK"}, "Excel"),
    (PHOTOS | {"annotations.json.gz": b"\x1f\x8b"}, "gzip"),
    (PHOTOS | {"imagelabels.mat": b"MATLAB 5.0 MAT-file"}, "MATLAB"),
    (PHOTOS | each("masks/p{}.npy", "\x93NUMPY"), "NumPy"),
    ({"data/train-00000-of-00001.parquet": b"PAR1"}, "Parquet"),
    ({"train/cells.tfrecord": b"\0" * 64}, "TFRecord"),
    ({"train-images-idx3-ubyte": b"\0\0\x08\x03"}, "MNIST"),
    ({"cifar-10-batches-py/data_batch_1": b"\x80\x02"}, "CIFAR"),
]


@pytest.mark.parametrize(("tree", "family"), FAMILIES, ids=[family for _tree, family in FAMILIES])
def test_known_kinds_of_datasets_are_named(import_tree: ImportTree, data_dir: Path, tree: Tree, family: str) -> None:
    assert_refused(import_tree(tree), data_dir, "unread_annotations", f"is a file of {family}", ", which is not read. ")


def test_files_of_other_kinds_next_to_class_folders_are_accepted(import_tree: ImportTree) -> None:
    tree = class_folders("cat", "dog") | {"features.npz": b"PK", "model.pkl": b"\x80", "gt.txt": b"notes"}
    dataset = import_tree(tree)
    assert (dataset.status, dataset.format, dataset.classes) == ("ready", "class_folders", ["cat", "dog"])


@pytest.mark.parametrize(
    ("tree", "code", "texts"),
    [
        ({f"cat/{number}": photo(f"{number}.png") for number in range(4)}, "no_images", ("no ending", "cat/0")),
        (PHOTOS | {f"masks/p{n}_{k}.png": photo(f"{n}{k}.png") for n in range(4) for k in ("cat", "dog")},
         "not_classes", ("masks/p0_cat.png", "must become one")),
        (PHOTOS | {f"masks/{name}/p{n}.png": photo(f"{n}{name}.png") for n in range(4) for name in ("cat", "dog")},
         "duplicate_name", ("4 images have several masks", "into one, with a value for each class")),
        (PHOTOS | {"data.yaml": b"names: [cat]\n"}, "no_label_file", ("data.yaml", "Add the folder labels")),
        (numbered("sequences/uav1/{}.jpg", 4) | numbered("sequences/uav2/{}.jpg", 4)
         | {f"annotations/uav{n}.txt": b"1 0 5 5" for n in (1, 2)}, "unread_annotations", ("annotations/uav1.txt",)),
        (class_folders("cat", "dog") | {"cat/x.jpg": b"version https://git-lfs.github.com/spec/v1\n"},
         "not_an_image", ("pointer of Git LFS", "git lfs pull")),
    ],
)  # fmt: skip
def test_images_and_masks_that_cannot_be_used_are_named(
    import_tree: ImportTree, data_dir: Path, tree: Tree, code: str, texts: tuple[str, ...]
) -> None:
    assert_refused(import_tree(tree), data_dir, code, *texts)


def refusal_of(upload: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        check_upload(upload)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
        (b"no archive at all", "not a valid zip"),
    ],
)
def test_uploads_that_are_not_archives_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    write_tree(tmp_path, {"a.zip": content})
    assert text in refusal_of(tmp_path / "a.zip")


def test_an_incomplete_zip_is_named(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", class_folders("cat", "dog")).read_bytes()
    for part in (whole[:-300], whole[len(whole) // 2 :]):
        (tmp_path / "b.zip").write_bytes(part)
        assert "The zip is incomplete" in refusal_of(tmp_path / "b.zip")


def test_an_upload_without_images_lists_its_content(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("annotations.json", "{}")
    assert "only 1 file of another kind (.json)" in refusal_of(tmp_path / "a.zip")
