"""Findings about annotation files: COCO JSON, YOLO, Pascal VOC, CSV, masks and drawn scenes.

`where` is `AT_LINE`, or the path of the file alone. A `fault` completes "FILE line N: ..." and is no sentence.
"""

from trainingapp.contract.messages import define, gettext_noop, ngettext

AT_LINE = define("dataset_at_line", gettext_noop("%(path)s line %(line)d"))

# Files of annotations

NOT_TEXT = define("dataset_not_text", gettext_noop("%(path)s is not a text file (%(reason)s)."))
WRONG_ENCODING = define(
    "dataset_wrong_encoding",
    gettext_noop("%(where)s cannot be decoded as %(encoding)s. Save the file as UTF-8, or select another encoding."),
)
DECLARED_ENCODING_WRONG = define(
    "dataset_declared_encoding_wrong",
    gettext_noop(
        "%(where)s: the file declares the encoding %(declared)s, but is probably %(probable)s. Correct the "
        "declaration, or select the encoding of the annotation files."
    ),
)
UNKNOWN_ENCODING = define(
    "dataset_unknown_encoding", gettext_noop("%(path)s: there is no encoding %(encoding)s for text files.")
)
TEXTS_DECODED = define(
    "dataset_texts_decoded",
    ngettext(
        "%(count)d annotation file is not UTF-8; it was read as %(encodings)s.",
        "%(count)d annotation files are not UTF-8; they were read as %(encodings)s.",
    ),
)
FILE_TOO_LARGE = define(
    "dataset_file_too_large", gettext_noop("%(path)s is larger than %(most)d MB, the limit for such files.")
)
XML_TOO_LARGE = define(
    "dataset_xml_too_large", gettext_noop("%(path)s is larger than %(most)d MB, the limit for XML files.")
)
TEXT_BOMB = define(
    "dataset_text_bomb",
    gettext_noop("%(path)s unpacks to %(megabytes)d MB from a tiny fraction of that, as a zip bomb does."),
)
INVALID_JSON = define("dataset_invalid_json", gettext_noop("%(where)s is not valid JSON: %(reason)s."))
INVALID_CSV = define("dataset_invalid_csv", gettext_noop("%(where)s is not valid CSV: %(reason)s."))
INVALID_XML = define("dataset_invalid_xml", gettext_noop("%(where)s is not valid XML: %(reason)s."))
INVALID_YAML = define("dataset_invalid_yaml", gettext_noop("%(where)s is not valid YAML: %(reason)s."))
XML_NOT_PLAIN = define(
    "dataset_xml_not_plain", gettext_noop("%(path)s defines entities or refers to other files; only plain XML is read.")
)
TOO_DEEP = define("dataset_too_deep", gettext_noop("it is nested too deeply"))
QUOTED_NAME_MISSING = define("dataset_quoted_name_missing", gettext_noop("a name in quotes is missing"))
CHARACTER_MISSING = define("dataset_character_missing", gettext_noop("%(character)s is missing"))
TEXT_AFTER_END = define("dataset_text_after_end", gettext_noop("there is text after its end"))
VALUE_TOO_LARGE = define("dataset_value_too_large", gettext_noop("one value of a list is larger than %(most)d MB"))

# Images, masks and classes that annotations refer to

NO_IMAGE_NAMED = define("dataset_no_image_named", gettext_noop("%(where)s: there is no image %(path)s."))
NO_IMAGE_WITH_ID = define("dataset_no_image_with_id", gettext_noop("%(where)s: there is no image with the id %(id)s."))
NO_IMAGE_FOR = define("dataset_no_image_for", gettext_noop("There is no image for %(path)s."))
NO_IMAGE_FOR_MASK = define("dataset_no_image_for_mask", gettext_noop("There is no image for the mask %(path)s."))
SEVERAL_MASKS = define(
    "dataset_several_masks",
    ngettext(
        "%(count)d image has several masks: %(paths)s. Combine the masks of an image into one, with a value for each "
        "class.",
        "%(count)d images have several masks, such as %(paths)s. Combine the masks of an image into one, with a value "
        "for each class.",
    ),
)
NO_MASK_FOR_IMAGE = define("dataset_no_mask_for_image", gettext_noop("There is no mask for the image %(path)s."))
IMAGE_TWICE = define(
    "dataset_image_twice", gettext_noop("%(where)s: the image %(path)s is already annotated (%(elsewhere)s).")
)
TWO_LABEL_FILES = define("dataset_two_label_files", gettext_noop("%(path)s and %(other)s are both for %(image)s."))
NOT_ANNOTATED = define(
    "dataset_not_annotated",
    ngettext(
        "%(count)d image that no annotation refers to was left out.",
        "%(count)d images that no annotation refers to were left out.",
    ),
)
NO_LABEL_FILE = define(
    "dataset_no_label_file",
    ngettext(
        "%(count)d image has no label file and counts as an image without objects.",
        "%(count)d images have no label file and count as images without objects.",
    ),
)
PARTLY_OUTLINED = define(
    "dataset_partly_outlined",
    ngettext(
        "Only %(count)d of %(total)d objects has an outline: the dataset is for detection alone.",
        "Only %(count)d of %(total)d objects have an outline: the dataset is for detection alone.",
    ),
)
NO_CATEGORY = define("dataset_no_category", gettext_noop("%(where)s: there is no category %(id)s."))
NO_CLASS = define("dataset_no_class", gettext_noop("%(where)s: there is no class %(text)s."))
SECOND_CLASS = define(
    "annotation_second_class",
    gettext_noop(
        "%(where)s: %(path)s has the class %(name)s here and %(other)s at %(elsewhere)s; an image has one class. If "
        "images can show several classes, select several labels per image."
    ),
)
NOT_ONE_LABEL = define(
    "annotation_not_one_label",
    gettext_noop(
        "%(where)s: %(path)s has %(count)d classes; an image has exactly one. If images can show several classes or "
        "none, select several labels per image."
    ),
)
NOT_ZERO_OR_ONE = define("annotation_not_zero_or_one", gettext_noop("%(where)s: must be 0 or 1, not %(text)s."))
LABELS_MAY_BE_LISTS = define(
    "annotation_labels_may_be_lists",
    ngettext(
        "%(count)d label looks like several in one, such as “%(example)s”. If images can show several classes, select "
        "several labels per image.",
        "%(count)d labels look like several in one, such as “%(example)s”. If images can show several classes, select "
        "several labels per image.",
    ),
)
CLASS_MISSING = define("dataset_class_missing", gettext_noop("%(where)s: the class is missing."))
OBJECT_WITHOUT_NAME = define("dataset_object_without_name", gettext_noop("%(where)s: the object has no name."))
NOT_A_CLASS_NAME = define("dataset_not_a_class_name", gettext_noop("%(path)s: %(text)s is not a class name."))
CLASS_NAMES_NOT_UNIQUE = define(
    "dataset_class_names_not_unique", gettext_noop("%(path)s: each class needs a name of its own.")
)
NO_COLOURS = define("dataset_no_colours", gettext_noop("%(path)s does not assign a color to any class."))
UNKNOWN_PIXELS = define("dataset_unknown_pixels", gettext_noop("%(path)s has pixels of an unknown class."))
UNKNOWN_PIXEL_VALUES = define(
    "dataset_unknown_pixel_values", gettext_noop("%(path)s has pixels of an unknown class: %(values)s.")
)
PIXEL_COLOUR = define("dataset_pixel_colour", gettext_noop("color %(red)d,%(green)d,%(blue)d"))
PIXEL_VALUE = define("dataset_pixel_value", gettext_noop("value %(value)d"))
VALUE_OF_TYPE = define("dataset_value_of_type", gettext_noop("a %(type)s"))

# Invalid entries

INVALID_ENTRY = define("dataset_invalid_entry", gettext_noop("%(where)s: %(fault)s."))
INVALID_ENTRY_OF_LIST = define("dataset_invalid_entry_of_list", gettext_noop("%(where)s: in %(key)s: %(fault)s."))
TOO_FEW_COLUMNS = define(
    "dataset_too_few_columns",
    ngettext("%(where)s: there is only %(count)d column.", "%(where)s: there are only %(count)d columns."),
)
NOT_A_SPLIT = define("dataset_not_a_split", gettext_noop("%(where)s: %(text)s is not a split; use train, val or test."))
BNDBOX_INVALID = define("dataset_bndbox_invalid", gettext_noop("%(where)s: bndbox needs the numbers %(keys)s."))
YOLO_LINE_INVALID = define(
    "dataset_yolo_line_invalid",
    ngettext(
        "%(where)s: a class and four numbers (or the points of a polygon) are required, not %(count)d value.",
        "%(where)s: a class and four numbers (or the points of a polygon) are required, not %(count)d values.",
    ),
)
YOLO_NOT_NUMBERS = define(
    "dataset_yolo_not_numbers",
    gettext_noop(
        "%(where)s: %(text)s is not a line of YOLO: the number of a class and four numbers (or the points of a "
        "polygon), separated by spaces, with decimal points."
    ),
)
YOLO_NO_CLASS = define(
    "dataset_yolo_no_class",
    gettext_noop("%(where)s: there is no class %(text)s; the classes are numbered from 0 to %(last)d."),
)
NOT_VOC = define("dataset_not_voc", gettext_noop("%(path)s was not read: it is not an annotation file of Pascal VOC."))
CORNERS_SWAPPED = define(
    "dataset_corners_swapped",
    ngettext(
        "%(count)d box has its left and right or top and bottom interchanged; it was put in order: %(where)s.",
        "%(count)d boxes have left and right or top and bottom interchanged; they were put in order, among them "
        "%(where)s.",
    ),
)
COCO_KEYPOINTS = define(
    "dataset_coco_keypoints",
    ngettext(
        "%(count)d object in %(path)s has key points, which were ignored; its box was imported.",
        "%(count)d objects in %(path)s have key points, which were ignored; their boxes were imported.",
    ),
)
TEST_NOT_ANNOTATED = define(
    "dataset_test_not_annotated",
    ngettext(
        "%(count)d image of the test split was left out: %(path)s has no annotations.",
        "%(count)d images of the test split were left out: %(path)s has no annotations.",
    ),
)
IMAGES_MERGED = define(
    "dataset_images_merged",
    ngettext(
        "%(count)d image is listed more than once; it has the objects of all its entries: %(paths)s.",
        "%(count)d images are listed more than once; each has the objects of all its entries. Among them: %(paths)s.",
    ),
)
YOLO_POSE = define(
    "dataset_yolo_pose",
    ngettext(
        "%(count)d object has key points (YOLO pose); its box was imported, the key points were ignored: %(where)s.",
        "%(count)d objects have key points (YOLO pose); their boxes were imported, the key points were ignored. The "
        "first is %(where)s.",
    ),
)
YOLO_EXTRA_COLUMNS = define(
    "dataset_yolo_extra_columns",
    ngettext(
        "%(count)d line has columns after its box, as predictions (confidence) and tracks (number) do; they were "
        "ignored: %(where)s. Check that these are annotations.",
        "%(count)d lines have columns after their box, as predictions (confidence) and tracks (number) do; they were "
        "ignored. Check that these are annotations. The first is %(where)s.",
    ),
)
YOLO_REPEATED = define(
    "dataset_yolo_repeated",
    ngettext(
        "%(count)d line repeats another one of its file and was left out: %(where)s.",
        "%(count)d lines repeat another one of their file and were left out. The first is %(where)s.",
    ),
)
YOLO_FOUR_CORNERS = define(
    "dataset_yolo_four_corners",
    ngettext(
        "The only object has four corners, as oriented boxes (OBB) do: %(where)s. The box around it was imported, and "
        "its corners as its outline.",
        "All objects have four corners, as oriented boxes (OBB) do. The boxes around them were imported, and their "
        "corners as outlines. The first is %(where)s.",
    ),
)
YOLO_AMBIGUOUS = define(
    "dataset_yolo_ambiguous",
    gettext_noop(
        "%(where)s: lines of %(count)d values can be outlines, or boxes with key points. Name kpt_shape in data.yaml "
        "if they are key points; otherwise export the outlines as COCO JSON."
    ),
)
YOLO_PIXELS = define(
    "dataset_yolo_pixels",
    ngettext(
        "%(where)s: the coordinate %(value)g is not a share of the image between 0 and 1 (%(count)d line). Divide x "
        "and width by the width of the image, y and height by its height.",
        "%(where)s: the coordinate %(value)g is not a share of the image between 0 and 1 (%(count)d lines). Divide x "
        "and width by the width of the image, y and height by its height.",
    ),
)
SPLIT_NOT_FOUND = define(
    "dataset_split_not_found",
    gettext_noop(
        "%(path)s names %(entry)s as the %(split)s split, but the source contains no such images. Correct the entry, "
        "or remove it to let the validation images be drawn."
    ),
)
LIST_ENTRIES_MISSING = define(
    "dataset_list_entries_missing",
    ngettext(
        "%(count)d of %(total)d entries of %(path)s is not in the source: %(entries)s.",
        "%(count)d of %(total)d entries of %(path)s are not in the source, among them %(entries)s.",
    ),
)
NOT_LISTED = define(
    "dataset_not_listed",
    ngettext(
        "%(count)d image in no list of a split was left out: %(paths)s.",
        "%(count)d images in no list of a split were left out, among them %(paths)s.",
    ),
)
IN_SEVERAL_SPLITS = define(
    "dataset_in_several_splits",
    ngettext(
        "%(count)d image belongs to more than one split: %(paths)s.",
        "%(count)d images belong to more than one split, among them %(paths)s.",
    ),
)
NOT_AN_OBJECT = define("dataset_not_an_object", gettext_noop("not a JSON object"))
IMAGE_NEEDS_ID_AND_NAME = define(
    "dataset_image_needs_id_and_name", gettext_noop("an image needs an id and a file_name")
)
IMAGE_ID_TWICE = define("dataset_image_id_twice", gettext_noop("the image id %(id)s occurs twice"))
CATEGORY_NEEDS_ID_AND_NAME = define(
    "dataset_category_needs_id_and_name", gettext_noop("a category needs an id and a name")
)
CATEGORY_ID_TWICE = define("dataset_category_id_twice", gettext_noop("the category id %(id)s occurs twice"))
ANNOTATION_NEEDS_IDS = define(
    "dataset_annotation_needs_ids", gettext_noop("an annotation needs an image_id and a category_id")
)
BBOX_INVALID = define(
    "dataset_bbox_invalid", gettext_noop("bbox must be four numbers: left, top, width, height; not %(text)s")
)
BBOX_TOO_LARGE = define("dataset_bbox_too_large", gettext_noop("bbox is too large"))
SEGMENTATION_INVALID = define(
    "dataset_segmentation_invalid",
    gettext_noop("segmentation must be lists of x, y, x, y, ... or run lengths with their size"),
)
BOX_AND_OUTLINE_MISSING = define(
    "dataset_box_and_outline_missing", gettext_noop("an annotation needs a bbox or a segmentation")
)
IMAGE_NEEDS_PATH_AND_MASK = define(
    "dataset_image_needs_path_and_mask", gettext_noop("an image needs a path and a mask")
)
LABELS_AND_BOXES_DIFFER = define(
    "dataset_labels_and_boxes_differ", gettext_noop("an image needs as many labels as boxes, and at least one")
)
LABEL_NOT_A_CLASS = define("dataset_label_not_a_class", gettext_noop("a label is not the number of a class"))
BOX_INVALID = define("dataset_box_invalid", gettext_noop("a box must be four numbers"))
NO_SUCH_IMAGE = define("dataset_no_such_image", gettext_noop("there is no image %(path)s"))
