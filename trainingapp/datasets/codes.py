"""The codes of a validation report, each with a heading in the reader's language.

The messages themselves are stored in English when the import is made; a page shows them under these headings.
"""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

TITLES: dict[str, str | Promise] = {
    "animated": _("Pictures with several frames"),
    "bad_name": _("Names that cannot be used"),
    "bomb": _("The zip is too large once unpacked"),
    "class_without_train": _("Classes without pictures to train on"),
    "class_without_val": _("Classes without pictures for validation"),
    "compression": _("Compression that is not read"),
    "damaged_entry": _("Damaged files in the zip"),
    "deep": _("Pictures with more than 8 bits a channel"),
    "disk_full": _("The disk is too full"),
    "duplicate": _("Equal pictures"),
    "duplicate_label": _("Equal pictures in different classes"),
    "duplicate_name": _("Names that are there twice"),
    "empty": _("Nothing in it"),
    "empty_class": _("Class folders without a picture"),
    "encrypted": _("Encrypted files"),
    "exif_orientation": _("Pictures that are turned upright"),
    "ignored_file": _("Files passed over"),
    "import_failed": _("The import failed"),
    "leak": _("Equal pictures in training and validation"),
    "link": _("Links and devices"),
    "mixed_layout": _("Folders that do not fit together"),
    "no_train": _("No pictures to train on"),
    "no_val": _("No pictures for validation"),
    "not_a_picture": _("Files that are no pictures"),
    "not_a_zip": _("Not a zip"),
    "not_permitted": _("Files that may not be read"),
    "outside_class": _("Pictures outside of class folders"),
    "path_traversal": _("Names that lead out of the dataset"),
    "read_error": _("Files that could not be read or written"),
    "size_lies": _("Files longer than announced"),
    "source_missing": _("The source is gone"),
    "test_as_val": _("The test split is used for validation"),
    "test_left_out": _("The test split is left out"),
    "tiny": _("Tiny pictures"),
    "too_few_classes": _("Too few classes"),
    "too_many_pixels": _("Pictures too large to decode"),
    "truncated": _("Pictures cut short"),
    "unreadable": _("Damaged pictures"),
    "val_set_aside": _("Validation pictures set aside"),
}
