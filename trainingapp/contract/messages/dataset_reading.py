"""How a source was read: where its splits come from, what was chosen automatically, and which files were not read."""

from trainingapp.contract.messages import Param, define, gettext_noop, ngettext

# Where the splits come from. Each is a sentence.

SPLIT_FROM_FOLDERS = define(
    "dataset_split_from_folders", gettext_noop("The splits come from the names of the folders: %(folders)s.")
)
SPLIT_FROM_FILE = define("dataset_split_from_file", gettext_noop("The splits come from %(path)s."))
SPLIT_FROM_LISTS = define(
    "dataset_split_from_lists", gettext_noop("The splits come from the lists of images %(paths)s.")
)
SPLIT_FROM_ANNOTATION_FILES = define(
    "dataset_split_from_annotation_files",
    gettext_noop("The splits come from the names of the annotation files: %(paths)s."),
)
SPLIT_FROM_COLUMN = define(
    "dataset_split_from_column", gettext_noop("The splits come from the column %(column)s of %(path)s.")
)
SPLIT_NOT_GIVEN = define(
    "dataset_split_not_given", gettext_noop("The source has no splits; the validation images are drawn.")
)
SPLIT_IGNORED = define(
    "dataset_split_ignored",
    gettext_noop("The splits of the source are ignored, as selected; the validation images are drawn."),
)
SPLIT_DRAWN = define(
    "dataset_split_drawn",
    gettext_noop("%(percent)g%% of each class were drawn for validation, with the seed %(seed)d."),
)

# The formats by the NAME of their module

FORMAT_TITLES = {
    "class_folders": define("dataset_format_class_folders", gettext_noop("Class folders")),
    "coco": define("dataset_format_coco", gettext_noop("COCO JSON")),
    "yolo": define("dataset_format_yolo", gettext_noop("YOLO")),
    "voc": define("dataset_format_voc", gettext_noop("Pascal VOC")),
    "masks": define("dataset_format_masks", gettext_noop("Images with masks")),
    "csv": define("dataset_format_csv", gettext_noop("CSV list")),
    "one_hot": define("dataset_format_one_hot", gettext_noop("One-hot CSV")),
    "scenes": define("dataset_format_scenes", gettext_noop("Demo scenes")),
    "labelme": define("dataset_format_labelme", gettext_noop("Labelme")),
    "cvat": define("dataset_format_cvat", gettext_noop("CVAT")),
    "label_studio": define("dataset_format_label_studio", gettext_noop("Label Studio")),
    "csv_boxes": define("dataset_format_csv_boxes", gettext_noop("CSV of boxes")),
    "via": define("dataset_format_via", gettext_noop("VGG Image Annotator")),
    "visdrone": define("dataset_format_visdrone", gettext_noop("VisDrone")),
    "cityscapes": define("dataset_format_cityscapes", gettext_noop("Cityscapes")),
    "imagefolder": define("dataset_format_imagefolder", gettext_noop("Hugging Face image folder")),
    "datumaro": define("dataset_format_datumaro", gettext_noop("Datumaro")),
    "file_name": define("dataset_format_file_name", gettext_noop("Classes in file names")),
    "createml": define("dataset_format_createml", gettext_noop("Create ML")),
    "supervisely": define("dataset_format_supervisely", gettext_noop("Supervisely")),
    "csv_runs": define("dataset_format_csv_runs", gettext_noop("CSV of run lengths")),
    "kitti": define("dataset_format_kitti", gettext_noop("KITTI")),
}


def format_title(name: str) -> Param:
    """The title of a format as a parameter of a message; of an unknown one its name."""
    return FORMAT_TITLES[name]() if name in FORMAT_TITLES else name


# Labels of images

LABELS_SEPARATED = define(
    "dataset_labels_separated",
    ngettext(
        "%(count)d different label is a list separated by %(separator)s, such as “%(example)s”.",
        "%(count)d different labels are lists separated by %(separator)s, such as “%(example)s”.",
    ),
)
SEPARATED_BY_SPACE = define("dataset_separated_by_space", gettext_noop("spaces"))
SEPARATED_BY_COMMA = define("dataset_separated_by_comma", gettext_noop("commas"))
ONE_LABEL_EACH = define("dataset_one_label_each", gettext_noop("Each image has exactly one class."))
SAME_IN_SEVERAL_CLASSES = define(
    "dataset_same_in_several_classes",
    ngettext(
        "%(count)d file is in the folders of several classes, such as %(path)s.",
        "%(count)d files are in the folders of several classes, such as %(path)s.",
    ),
)
IMAGES_WITH_SEVERAL_CATEGORIES = define(
    "dataset_images_with_several_categories",
    ngettext("%(count)d image has several categories.", "%(count)d images have several categories."),
)

# Files that were not read

UNREAD_OTHER_FORMAT = define(
    "dataset_unread_other_format", gettext_noop("they look like %(format)s, and another format was read")
)
UNREAD_ANNOTATIONS = define(
    "dataset_unread_annotations", gettext_noop("the format that was read has no use for these files")
)
UNREAD_IMAGE_FORMAT = define("dataset_unread_image_format", gettext_noop("this image format is not supported"))
UNREAD_HEIF = define(
    "dataset_unread_heif",
    gettext_noop(
        'the library for HEIC images is not installed; install it with pip install "cvstudio[heif]", or convert the '
        "images to JPEG"
    ),
)
ONLY_UNREAD_IMAGES = define(
    "dataset_only_unread_images",
    ngettext(
        "The %(count)d image that was found (%(suffixes)s) cannot be read: %(reason)s.",
        "None of the %(count)d images that were found (%(suffixes)s) can be read: %(reason)s.",
    ),
)
UNREAD_MEDIA = define("dataset_unread_media", gettext_noop("videos, archives and arrays are not read"))
UNREAD_DOCUMENT = define("dataset_unread_document", gettext_noop("documents are not read"))
UNREAD_UNKNOWN = define("dataset_unread_unknown", gettext_noop("no format uses this kind of file"))

# A group of such files; `files` names the first, `reason` is one of the above.

UNREAD_FILES = define(
    "dataset_unread_files",
    ngettext(
        "%(count)d file ending in %(suffix)s was not read: %(reason)s (%(files)s).",
        "%(count)d files ending in %(suffix)s were not read: %(reason)s (%(files)s).",
    ),
)
UNREAD_FILES_WITHOUT_SUFFIX = define(
    "dataset_unread_files_without_suffix",
    ngettext(
        "%(count)d file without an extension was not read: %(reason)s (%(files)s).",
        "%(count)d files without an extension were not read: %(reason)s (%(files)s).",
    ),
)
AND_MORE = define("dataset_and_more", gettext_noop("%(first)s and %(rest)d more"))

# Coordinates

FIRST_PIXEL_ZERO = define(
    "dataset_first_pixel_zero",
    ngettext(
        "%(count)d box begins at the coordinate 0, among them %(where)s: the coordinates are read as counted from 0. "
        "Those of Pascal VOC count from 1.",
        "%(count)d boxes begin at the coordinate 0, among them %(where)s: the coordinates are read as counted from 0. "
        "Those of Pascal VOC count from 1.",
    ),
)
FIRST_PIXEL_ONE = define(
    "dataset_first_pixel_one",
    ngettext(
        "%(count)d box begins at the coordinate 0, but more begin at 1: the coordinates are read as counted from 1.",
        "%(count)d boxes begin at the coordinate 0, but more begin at 1: the coordinates are read as counted from 1.",
    ),
)

# The values of masks

MASKS_THRESHOLDED = define(
    "dataset_masks_thresholded",
    ngettext(
        "%(count)d mask has soft edges: pixels of %(level)d and more are the class, the others the background.",
        "%(count)d masks have soft edges: pixels of %(level)d and more are the class, the others the background.",
    ),
)
MASK_VALUES_UNCLEAR = define(
    "dataset_mask_values_unclear",
    gettext_noop(
        "The masks have %(count)d different values, and no file names their classes. Select whether bright pixels are "
        "one class or each value is a class, add a classes.txt, or save the masks with one value for each class."
    ),
)
JPEG_MASKS = define(
    "dataset_jpeg_masks",
    ngettext(
        "%(count)d mask is a JPEG (%(path)s), which changes the values of pixels, and not all pixels are black or "
        "white. Save the masks as PNG, or select how to read their values.",
        "%(count)d masks are JPEGs (such as %(path)s), which changes the values of pixels, and not all pixels are "
        "black or white. Save the masks as PNG, or select how to read their values.",
    ),
)
JPEG_WITH_COLOURS = define(
    "dataset_jpeg_with_colours",
    gettext_noop("%(path)s is a JPEG, which changes colors, so that no class can be assigned to them. Save it as PNG."),
)
INSTANCE_MASKS = define(
    "dataset_instance_masks",
    ngettext(
        "%(count)d mask has values of up to %(value)d: they number instances, not classes. Export masks of classes, "
        "with values from 0 to 255.",
        "%(count)d masks have values of up to %(value)d: they number instances, not classes. Export masks of classes, "
        "with values from 0 to 255.",
    ),
)
VOID_ASSUMED = define(
    "dataset_void_assumed",
    gettext_noop(
        "The value 255 in the masks is taken for unknown and ignored in training; no file says what it means."
    ),
)
VOID_AS_IN_VOC = define(
    "dataset_void_as_in_voc", gettext_noop("The value 255 in the masks is unknown, as in the masks of Pascal VOC.")
)
CLASS_ASSUMED = define(
    "dataset_class_assumed",
    gettext_noop("The values of the masks divide the range evenly (%(values)s), so that 255 is taken for a class."),
)
