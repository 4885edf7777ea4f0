"""Findings about the classes and splits of a dataset, and messages around other findings."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# Around other messages

LEFT_OUT = define("dataset_left_out", gettext_noop("Left out: %(message)s"))
MORE_OF_THE_SAME_KIND = define("dataset_more_of_the_same_kind", gettext_noop("… and %(count)d more of the same kind."))
IMPORT_FAILED = define("dataset_import_failed", gettext_noop("The import failed: %(error)s"))

# Classes and splits

MASKS_LEFT_OUT = define(
    "dataset_masks_left_out",
    gettext_noop("There are %(count)d classes; masks distinguish at most %(most)d: no masks are created."),
)
TOO_MANY_CLASSES = define(
    "dataset_too_many_classes", gettext_noop("There are %(count)d classes; masks distinguish at most %(most)d.")
)
CLASS_WITHOUT_IMAGES = define("dataset_class_without_images", gettext_noop("The class %(name)s has no images."))
CLASS_WITHOUT_OBJECTS = define("dataset_class_without_objects", gettext_noop("No object is annotated as %(name)s."))
CLASS_WITHOUT_TRAIN = define("dataset_class_without_train", gettext_noop("The class %(name)s has no training images."))
CLASS_WITHOUT_VAL = define("dataset_class_without_val", gettext_noop("The class %(name)s has no validation images."))
NO_IMPORTABLE_IMAGES = define("dataset_no_importable_images", gettext_noop("There are no images that can be imported."))
ONE_CLASS = define(
    "dataset_one_class", gettext_noop("There is only one class, %(name)s; a classifier needs at least two.")
)
NO_OBJECTS = define("dataset_no_objects", gettext_noop("No image has an annotated object of any class."))
VAL_WITHOUT_TRAIN = define(
    "dataset_val_without_train",
    ngettext(
        "No training image was found: the source assigns its usable image to a validation or test split. Add the "
        "training images, or select that the splits are drawn again.",
        "No training image was found: the source assigns all of its %(count)d usable images to a validation or test "
        "split. Add the training images, or select that the splits are drawn again.",
    ),
)
VAL_SET_ASIDE = define(
    "dataset_val_set_aside",
    gettext_noop("There are no validation images; %(percent)d%% of each class are set aside for validation."),
)
NO_TRAIN_LEFT = define(
    "dataset_no_train_left",
    gettext_noop(
        "No training images are left. Correct those that cannot be used, or select that the splits are drawn again."
    ),
)
NO_VAL_LEFT = define(
    "dataset_no_val_left", gettext_noop("No validation images are left: at least one class needs two different images.")
)
CHOICE_UNKNOWN = define("dataset_choice_unknown", gettext_noop("There is no class %(name)s to import as %(new_name)s."))
CHOICE_TWICE = define("dataset_choice_twice", gettext_noop("The class %(name)s is selected twice."))
SAME_CONTENT = define(
    "dataset_same_content", gettext_noop("“%(dataset)s” has the same content; the files are stored once.")
)
