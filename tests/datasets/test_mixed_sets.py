"""Two datasets in one source: the images of the unread one are reported, and no splits or classes are invented."""

from collections.abc import Callable

import pytest

from tests.helpers import annotated, known_datasets
from tests.helpers.annotated import IMAGES, source_of
from tests.helpers.annotation_programs import label_studio_csv_tree
from tests.helpers.exports import EXPORTS
from tests.helpers.sources import Tree, codes, image, two_classes
from trainingapp.datasets.options import ReadingOptions
from trainingapp.datasets.report import DatasetError, Report
from trainingapp.datasets.sources.formats.registry import FORMATS, read_layout
from trainingapp.datasets.sources.layout import Layout
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]


def read(tree: Tree, format_: str = "auto") -> tuple[Layout, list[str]]:
    """The layout, and the codes of the findings."""
    report = Report()
    layout = read_layout(source_of(dict(tree)), report, reading=ReadingOptions(format=format_))
    return layout, [item["code"] for item in report.items()]


@pytest.mark.parametrize("name", [format_.NAME for format_ in FORMATS if format_.NAME not in ("class_folders", "yolo")])
def test_a_chosen_format_without_its_files_has_no_images(name: str) -> None:
    layout, found = read({**two_classes(2), "notes.json": b"{}", "a.xml": b"<a/>", "b.csv": b"a,b\n1,2\n"}, name)
    assert layout.images == []
    assert "not_annotated" in found


def test_other_images_next_to_cityscapes_are_reported() -> None:
    layout, found = read({**EXPORTS["cityscapes"].files(), "other/a.png": image(1)})
    assert (len(layout.images), found) == (len(IMAGES), ["not_annotated"])
    assert read(EXPORTS["cityscapes"].files())[1] == []


@pytest.mark.parametrize(
    "pattern",
    ["{{}}/{label}/{split}/{stem}.png", "{{}}/{label}/images/{split}/{stem}.png", "{label}/{split}/{stem}.png"],
)
def test_split_folders_within_class_folders_are_not_ignored(pattern: str) -> None:
    tree = known_datasets.folders_tree(pattern)
    more = {"cat/direct.png": image(1)} if pattern.startswith("{label}") else {}
    doubled = {path.replace("{}", name): content for path, content in tree.items() for name in ("one", "two")}
    with pytest.raises(DatasetError) as refused:
        read({**doubled, **more})
    assert [item["code"] for item in refused.value.items] == ["mixed_layout"]
    assert "train, val" in refused.value.items[0]["message"]


def test_objects_in_json_are_not_classes(import_tree: ImportTree) -> None:
    layout, found = read(label_studio_csv_tree(), "csv")
    assert (layout.classes, "not_annotated" in found) == ([], True)


def test_images_with_classes_are_not_backgrounds_for_images_with_objects() -> None:
    objects = {f"one/{path}": content for path, content in EXPORTS["imagefolder"].files().items()}
    labels = {f"two/{path}": content for path, content in EXPORTS["imagefolder labels"].files("other").items()}
    layout, found = read({**objects, **labels})
    assert {one.file.path.partition("/")[0] for one in layout.images} == {"one"}
    assert found == ["ignored_file", "not_annotated"]


def test_lists_are_used_for_images_without_split_folders() -> None:
    in_folders = {f"one/{path}": content for path, content in annotated.mask_tree("colour").items()}
    in_lists = {f"two/{path}": content for path, content in EXPORTS["voc masks"].files("other").items()}
    layout, _found = read({**in_folders, **in_lists})
    kinds = {one.file.path.rpartition("/")[2].partition(".")[0]: one.kind for one in layout.images}
    assert kinds == {stem.format(item.stem[1:]): item.split for item in IMAGES for stem in ("p{}", "q{}")}


def test_images_with_a_version_in_the_name_of_their_split_are_for_testing() -> None:
    """ISIC-2017_Test_v2_Data next to ISIC-2017_Training_Data."""
    layout, found = read(EXPORTS["isic"].files(with_test=True))
    assert {one.file.path.rpartition("/")[2] for one in layout.images} == {f"{item.stem}.jpg" for item in IMAGES}
    assert found == ["test_left_out"]


def test_pixel_values_of_roboflow_have_names(import_tree: ImportTree) -> None:
    dataset = import_tree(EXPORTS["roboflow masks"].files())
    assert (dataset.classes, codes(dataset, "warning")) == (annotated.CLASSES, [])


def test_folders_in_data_yaml_are_those_next_to_it() -> None:
    """Both datasets have train/images; the images of the other one are not backgrounds."""
    yolo = {f"b/{path}": content for path, content in EXPORTS["yolo polygons"].files().items()}
    masks = {f"a/{path}": content for path, content in EXPORTS["masks grey"].files("other").items()}
    layout, found = read({**yolo, **masks})
    assert layout.format == "yolo"
    assert {one.file.path.partition("/")[0] for one in layout.images} == {"b"}
    assert "no_label_file" not in found


def test_the_last_part_of_a_split_folder_is_not_sufficient() -> None:
    """data.yaml names val/images, and the folder is called validation/images."""
    tree = {path.replace("val/", "validation/"): content for path, content in EXPORTS["yolo polygons"].files().items()}
    layout, found = read(tree)
    kinds = {one.file.path.rpartition("/")[2].partition(".")[0]: one.kind for one in layout.images}
    assert (kinds, found) == ({item.stem: item.split for item in IMAGES}, [])


def test_images_in_folders_without_labels_are_not_backgrounds() -> None:
    yolo = {path: content for path, content in EXPORTS["yolo polygons"].files().items() if path != "data.yaml"}
    layout, found = read({**yolo, **EXPORTS["carvana"].files("other")}, "yolo")
    assert len(layout.images) == len(IMAGES)
    assert "no_label_file" not in found


def images_alone(export: str, prefix: str = "", stems: str = "plain") -> Tree:
    return {prefix + path: content for path, content in EXPORTS[export].files(stems).items() if path.endswith(".png")}


def test_split_folders_with_other_words_are_not_classes() -> None:
    """VisDrone2019-DET-train and VisDrone2019-DET-val without annotations, in two folders."""
    layout, _found = read({**images_alone("visdrone", "first/"), **images_alone("visdrone", "second/", "other")})
    assert layout.classes == ["first", "second"]
    kinds = {one.file.path.rpartition("/")[2].partition(".")[0]: one.kind for one in layout.images}
    assert kinds == {stem.format(item.stem[1:]): item.split for item in IMAGES for stem in ("p{}", "q{}")}


@pytest.mark.parametrize("folder", ["site/", "site/north/"])
def test_nested_split_folders_with_other_words_are_refused(folder: str) -> None:
    with pytest.raises(DatasetError) as refused:
        read({**images_alone("visdrone", f"first/{folder}"), **images_alone("visdrone", "second/", "other")})
    assert [item["code"] for item in refused.value.items] == ["mixed_layout"]
    assert "VisDrone2019-DET-train, VisDrone2019-DET-val" in refused.value.items[0]["message"]


@pytest.mark.parametrize(("export", "folder"), [("visdrone", "VisDrone2019-DET-train/annotations"), ("yolo", "labels")])
def test_other_texts_among_labels_are_reported(export: str, folder: str) -> None:
    layout, found = read({**EXPORTS[export].files(), f"{folder}/log.txt": b"epoch 1 of 2\n"})
    assert (layout.format, len(layout.images), found) == (export, len(IMAGES), ["ignored_file"])


def test_a_damaged_line_of_kitti_adds_no_class() -> None:
    tree = {**EXPORTS["kitti"].files()}
    path = next(path for path, content in tree.items() if path.endswith(".txt") and content)
    layout, found = read({**tree, path: b'\0<]},"' + (tree[path] or b"")}, "kitti")
    assert (layout.classes, found) == (sorted(annotated.CLASSES), ["bad_annotation"])


def test_names_next_to_the_darknet_settings_take_precedence() -> None:
    layout, _found = read({**EXPORTS["yolo darknet"].files(), **EXPORTS["masks grey"].files("other")}, "yolo")
    assert layout.classes == annotated.CLASSES
