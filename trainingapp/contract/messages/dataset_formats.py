"""Findings about the exports of annotation programs and of well-known datasets.

`where` is `AT_LINE` of dataset_annotations.py, or the path of the file alone.
"""

from trainingapp.contract.messages import define, gettext_noop, ngettext

SHAPE_NOT_READ = define(
    "dataset_shape_not_read",
    gettext_noop("%(where)s: the object has the type %(type)s, which cannot be used. Usable types: %(known)s."),
)
FIELD_INVALID = define("dataset_field_invalid", gettext_noop("%(where)s: the field %(field)s is missing or not valid."))
BOX_OF_LINE = define("dataset_box_of_line", gettext_noop("%(where)s: %(text)s is not a box of four numbers."))
NOT_EIGHT_NUMBERS = define(
    "dataset_not_eight_numbers", gettext_noop("%(where)s: %(text)s is not a line of eight numbers, as in VisDrone.")
)
CLASSES_SEVERAL = define(
    "dataset_classes_several", gettext_noop("%(where)s: the object has several classes: %(names)s. It must have one.")
)
ONE_CLASS_ASSUMED = define(
    "dataset_one_class_assumed",
    ngettext(
        "The annotations do not name classes: the %(count)d object became the class %(name)s.",
        "The annotations do not name classes: all %(count)d objects became the class %(name)s.",
    ),
)
ROTATED_BOXES = define(
    "dataset_rotated_boxes",
    ngettext(
        "%(count)d rotated rectangle was replaced by the upright box around it, first at %(where)s.",
        "%(count)d rotated rectangles were replaced by the upright boxes around them, first at %(where)s.",
    ),
)
LABELS_NOT_USED = define(
    "dataset_labels_not_used",
    ngettext(
        "%(count)d class of a whole image was not used, since other annotations are objects; the first is at "
        "%(where)s.",
        "%(count)d classes of whole images were not used, since other annotations are objects; the first is at "
        "%(where)s.",
    ),
)
FRAME_MISSING = define(
    "dataset_frame_missing",
    gettext_noop(
        "%(where)s: there is no image %(name)s for frame %(frame)d of the video. Export the task in CVAT with “Save "
        "images” switched on, or as “CVAT for images”."
    ),
)
UNFINISHED_TASKS = define(
    "dataset_unfinished_tasks",
    ngettext(
        "%(count)d image has no finished annotation and was left out, first at %(where)s. Predictions are not "
        "annotations: accept them in Label Studio.",
        "%(count)d images have no finished annotation and were left out, first at %(where)s. Predictions are not "
        "annotations: accept them in Label Studio.",
    ),
)
SECOND_ANNOTATIONS = define(
    "dataset_second_annotations",
    ngettext(
        "%(count)d image was annotated more than once; the first annotation is used. It is at %(where)s.",
        "%(count)d images were annotated more than once; the first annotation of each is used. The first image is at "
        "%(where)s.",
    ),
)
IGNORED_REGIONS = define(
    "dataset_ignored_regions",
    ngettext(
        "%(count)d ignored region was left out, first at %(where)s: VisDrone does not evaluate objects there.",
        "%(count)d ignored regions were left out, first at %(where)s: VisDrone does not evaluate objects there.",
    ),
)
DONT_CARE_REGIONS = define(
    "dataset_dont_care_regions",
    ngettext(
        "%(count)d region that is marked as DontCare was left out, first at %(where)s: KITTI does not evaluate "
        "objects there.",
        "%(count)d regions that are marked as DontCare were left out, first at %(where)s: KITTI does not evaluate "
        "objects there.",
    ),
)
NOT_KITTI = define("dataset_not_kitti", gettext_noop("%(where)s: %(text)s is not a line of 15 values, as in KITTI."))
RUNS_OF_LINE = define(
    "dataset_runs_of_line",
    gettext_noop(
        "%(where)s: %(column)s must be pairs of a start and a length, counted from 1 and without overlap, not %(text)s."
    ),
)
NO_LABEL_IN_METADATA = define(
    "dataset_no_label_in_metadata",
    gettext_noop(
        "%(where)s has neither a label nor objects; its fields are %(fields)s. Name the field with the class “label”, "
        "or the field with the boxes “objects”."
    ),
)
NO_CLASS_IN_NAME = define(
    "dataset_no_class_in_name", gettext_noop("The name of %(path)s does not begin with the name of a class.")
)
CLASSES_IN_NAMES = define(
    "dataset_classes_in_names", gettext_noop("The file names begin with words that could be classes: %(names)s.")
)
CLASSES_FROM_NAMES = define(
    "dataset_classes_from_names", gettext_noop("The classes come from the beginnings of the file names: %(names)s.")
)
