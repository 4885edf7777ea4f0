"""Classification: class folders and label tables."""

from functools import partial

from tests.datasets.cases.kit import Case, Ready, Refused, Tree, class_folders, lines, numbered, photos

CLASSIFICATION = "classification"


def table(
    rows: list[str],
    *,
    images: str = "p{}.jpg",
    count: int = 8,
    path: str = "labels.csv",
    encoding: str = "utf-8",
    end: str = "\n",
) -> Tree:
    return numbered(images, count) | {path: lines(*rows, end=end).decode().encode(encoding)}


def folders(*names: str, train: int, warnings: str = "", val: int = 2) -> Ready:
    return Ready("class_folders", CLASSIFICATION, list(names), train, val, warnings)


def with_splits() -> Tree:
    return photos(
        *(
            f"{part}/{name}/{part}{number}.jpg"
            for part, count in (("train", 4), ("valid", 2), ("test", 1))
            for name in ("1", "2", "10", "big cat")
            for number in range(count)
        )
    )


def class_without_val() -> Tree:
    train = [f"train/{name}/{number}.jpg" for name in "abc" for number in range(4)]
    return photos(*train, *(f"val/{name}/v{number}.jpg" for name in "ab" for number in range(2)))


def two_levels() -> Tree:
    inner = ("dog/poodle", "dog/boxer", "cat/siamese")
    return photos(*(f"{folder}/{number}.jpg" for folder in inner for number in range(3)))


FOLDERS = [
    Case(
        "s02_macos_narrow_space",
        lambda: photos(
            *(
                f"{name}/Screenshot 2026-01-0{number + 1} at 3.04.0{number}\u202fPM.png"
                for name in ("login", "error")
                for number in range(4)
            )
        ),
        folders("error", "login", train=6),
    ),
    Case(
        "o_cls_valid_test",
        with_splits,
        Ready(
            "class_folders",
            CLASSIFICATION,
            ["1", "2", "10", "big cat"],
            16,
            8,
            "test_left_out",
            "valid0 valid1",
        ),
    ),
    Case(
        "o_cls_one_each",
        partial(class_folders, "a", "b", "c", each=1),
        Refused("no_val", ("No validation images are left",)),
    ),
    Case(
        "o_cls_missing_in_val",
        class_without_val,
        Ready("class_folders", CLASSIFICATION, ["a", "b", "c"], 12, 4, "class_without_val", "v0 v1"),
    ),
    Case("o_cls_case_twins", partial(class_folders, "Cat", "cat", "dog"), folders("Cat", "cat", "dog", train=9, val=3)),
    Case("o_cls_deep", two_levels, folders("cat", "dog", train=7)),
    Case(
        "o_cls_flat_test",
        lambda: class_folders("cat", "dog", prefix="train/") | numbered("test/{}.jpg", 4),
        folders("cat", "dog", train=6, warnings="test_left_out val_set_aside"),
    ),
    Case(
        "o_cls_flat_val",
        lambda: (
            class_folders("n01440764", "n01443537", prefix="train/", suffix="JPEG")
            | numbered("val/ILSVRC2012_val_0000000{}.JPEG", 4)
        ),
        Refused("mixed_layout", ("the folder of the val split", "not in class folders")),
    ),
    Case(
        "o_cls_train_as_class",
        partial(class_folders, "train", "car", "bus"),
        folders("bus", "car", "train", train=9, val=3),
    ),
    Case("o_cls_valid_invalid", partial(class_folders, "valid", "invalid"), folders("invalid", "valid", train=6)),
    Case(
        "o_symlinked_folder",
        partial(class_folders, "cat", "dog"),
        Refused("link", ("a link that leads out of the folder", "ask an administrator")),
        linked=True,
    ),
]

DISEASES = ["healthy", "scab", "scab frog_eye_leaf_spot"]
TWO_LABELS = ["cat", "dog", "cat|dog"]


def listed(name: str, *, numbers: range, folder: str = "images") -> Tree:
    rows = [f"{folder}/image00{number}.jpg {number % 2}" for number in numbers]
    return {f"{name}-images.txt": lines(*rows)}


def lists_of_numbers() -> Tree:
    about = lines("train: ./train-images.txt", "val: ./val-images.txt", "nc: 2", "names: ['class0', 'class1']")
    tree = numbered("images/image00{}.jpg", 8) | {"dataset.yaml": about}
    return tree | listed("train", numbers=range(6)) | listed("val", numbers=range(6, 8))


TABLES = [
    Case(
        "s23_csv_multi_label_column",
        lambda: table(
            ["image,labels", *(f"8{number}.jpg,{DISEASES[number % 3]}" for number in range(8))],
            images="train_images/8{}.jpg",
            path="train.csv",
        ),
        Ready(
            "csv", CLASSIFICATION, ["frog_eye_leaf_spot", "healthy", "scab"], 5, 3, "val_set_aside", label_mode="multi"
        ),
    ),
    Case(
        "s28_folder_cls_lists",
        lists_of_numbers,
        Refused("unread_annotations", ("train-images.txt", "val-images.txt", "Export the annotations as")),
    ),
    Case(
        "o_csv_gbk",
        lambda: table(
            ["filename,label", *(f"p{number}.jpg,{'狗猫'[number % 2]}" for number in range(8))],
            encoding="gbk",
            end="\r\n",
        ),
        Ready("csv", CLASSIFICATION, ["狗", "猫"], 6, 2),
    ),
    Case(
        "o_csv_no_header",
        lambda: table([f"p{number}.jpg,{('dog', 'cat')[number % 2]}" for number in range(8)], images="pics/p{}.jpg"),
        Ready("csv", CLASSIFICATION, ["cat", "dog"], 6, 2),
    ),
    Case(
        "o_csv_kaggle_id_breed",
        lambda: (
            table(
                ["id,breed", *(f"ab{number},{('poodle', 'boxer')[number % 2]}" for number in range(8))],
                images="train/ab{}.jpg",
            )
            | numbered("test/zz{}.jpg", 8)
        ),
        Ready("csv", CLASSIFICATION, ["boxer", "poodle"], 6, 2, "not_annotated val_set_aside"),
    ),
    Case(
        "o_csv_id_label_no_ending",
        lambda: table(
            ["image_id,label", *(f"ab{number},{number % 2}" for number in range(8))],
            images="train/ab{}.jpg",
            path="train.csv",
        ),
        Ready("csv", CLASSIFICATION, ["0", "1"], 6, 2, "val_set_aside"),
    ),
    Case(
        "o_csv_two_rows_a_picture",
        lambda: table(
            ["filename,label", *(f"p{number}.jpg,{'ba'[number % 2]}" for number in range(8)), "p0.jpg,c"],
            images="pics/p{}.jpg",
        ),
        Refused(
            "empty_class several_labels",
            ("labels.csv line 10",),
            Ready("csv", CLASSIFICATION, ["a", "b"], 6, 2, "empty_class several_labels"),
        ),
    ),
    Case(
        "o_csv_pipe_multi",
        lambda: table(
            ["filename,label", *(f"p{number}.jpg,{TWO_LABELS[number % 3]}" for number in range(9))],
            images="pics/p{}.jpg",
            count=9,
        ),
        Ready("csv", CLASSIFICATION, ["cat", "dog"], 7, 2, label_mode="multi"),
    ),
]

CASES = [*FOLDERS, *TABLES]
