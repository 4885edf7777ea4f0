"""Messages about dataset.json and samples.jsonl of a dataset folder. `where` is a file with a line number."""

from trainingapp.contract.messages import define, gettext_noop

FILE_MISSING = define("dataset_file_missing", gettext_noop("%(path)s: the file is missing."))
NOT_UTF8 = define("dataset_file_not_utf8", gettext_noop("%(path)s: not UTF-8 text (%(error)s)."))
NOT_JSON = define("dataset_file_not_json", gettext_noop("%(where)s: not valid JSON (%(error)s)."))
NOT_AN_OBJECT = define("dataset_file_not_an_object", gettext_noop("%(where)s: must be a JSON object."))
FORMAT_UNKNOWN = define(
    "dataset_format_unknown",
    gettext_noop("%(path)s: the format is %(given)s; this version reads the formats 1 and %(newest)d."),
)
NOT_A_STRING = define("dataset_key_not_a_string", gettext_noop("%(path)s: %(key)s must be a string."))
NOT_A_NAME_LIST = define(
    "dataset_key_not_a_name_list",
    gettext_noop("%(path)s: %(key)s must be a list of names with at least one entry."),
)
LINE_OF_FILE = define("dataset_line_of_file", gettext_noop("%(path)s line %(line)d"))
SIZE_INVALID = define(
    "sample_size_invalid", gettext_noop("%(where)s: %(key)s must be an integer number of pixels, not %(given)s.")
)
SPLIT_INVALID = define(
    "sample_split_invalid", gettext_noop("%(where)s: 'split' must be 'train' or 'val', not %(given)s.")
)
BOXES_INVALID = define("sample_boxes_invalid", gettext_noop("%(where)s: 'boxes' must be a list."))
PATH_INVALID = define(
    "sample_path_invalid",
    gettext_noop("%(where)s: %(key)s must be a relative path within the dataset, not %(given)s."),
)
LABEL_INVALID = define(
    "sample_label_invalid", gettext_noop("%(where)s: 'label' must be an integer from 0 to %(most)d, not %(given)s.")
)
LABELS_INVALID = define(
    "sample_labels_invalid",
    gettext_noop("%(where)s: 'labels' must be a list of class numbers in ascending order, not %(given)s."),
)
BOX_INVALID = define(
    "sample_box_invalid", gettext_noop("%(where)s: a box must be [label, left, top, right, bottom], not %(given)s.")
)
BOX_OUTSIDE = define(
    "sample_box_outside",
    gettext_noop("%(where)s: the box %(box)s has no area or exceeds the image of %(width)d x %(height)d pixels."),
)
