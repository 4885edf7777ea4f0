"""Findings about the zip or folder that a dataset is imported from, and about the layout of its folders."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# Zips and folders

DISK_FULL = define(
    "dataset_disk_full",
    gettext_noop(
        "Not enough disk space: the images need %(size)s, %(free)s are free and %(reserve)s are kept in "
        "reserve. %(short)s more are required."
    ),
)
DISK_FULL_DURING_IMPORT = define(
    "dataset_disk_full_during_import", gettext_noop("The disk became full during the import. No file was kept.")
)
SOURCE_MISSING = define("dataset_source_missing", gettext_noop("%(source)s was not found."))
NOT_PERMITTED = define(
    "dataset_not_permitted", gettext_noop("The studio has no permission to read or write %(source)s.")
)
READ_ERROR = define("dataset_read_error", gettext_noop("A file could not be read or written: %(reason)s."))
OTHER_ARCHIVE = define(
    "dataset_other_archive",
    gettext_noop("The file is a %(kind)s archive, which is not supported. Pack the files as a zip or a tar."),
)
SOURCE_IS_A_WEB_PAGE = define(
    "dataset_source_is_a_web_page",
    gettext_noop(
        "The file is a web page, not an archive: the download was redirected, for example to a login. Download it "
        "again in a browser."
    ),
)
SOURCE_IS_A_POINTER = define(
    "dataset_source_is_a_pointer",
    gettext_noop("The file is a pointer of Git LFS, not the archive itself. Fetch the archive with: git lfs pull"),
)
NOT_A_TAR = define("dataset_not_a_tar", gettext_noop("The tar archive cannot be read: %(reason)s."))
NO_TAR_INSIDE = define(
    "dataset_no_tar_inside",
    gettext_noop("The file is compressed with %(compression)s, but there is no tar archive in it."),
)
TAR_HEADER_TOO_LARGE = define(
    "dataset_tar_header_too_large", gettext_noop("The tar archive has a header of more than %(most)d MB.")
)
IN_ARCHIVE = define("dataset_in_archive", gettext_noop("%(path)s: %(message)s"))
NAMES_DECODED = define(
    "dataset_names_decoded",
    gettext_noop(
        "The archive does not declare the encoding of its file names; they were read as %(encoding)s: %(names)s."
    ),
)
NOT_A_ZIP = define("dataset_not_a_zip", gettext_noop("The file is not a valid zip: %(reason)s."))
ZIP_INCOMPLETE = define(
    "dataset_zip_incomplete",
    gettext_noop(
        "The zip is incomplete: its end, which lists the files, is missing or damaged. Download or create it again; of "
        "a zip in several parts, unpack all parts and pack the files as one zip."
    ),
)
FOLDER_INSTEAD_OF_ZIP = define("dataset_folder_instead_of_zip", gettext_noop("This is a folder, not a zip or a tar."))
DIRECTORY_TOO_LARGE = define(
    "dataset_directory_too_large", gettext_noop("The zip's central directory is larger than %(size)s.")
)
TOO_MANY_ENTRIES = define(
    "dataset_too_many_entries",
    gettext_noop("The archive has %(count)d entries; at most %(most)d are allowed. Import a folder instead."),
)
UNPACKED_TOO_LARGE = define(
    "dataset_unpacked_too_large", gettext_noop("The archive unpacks to %(size)s; at most %(limit)s are allowed.")
)
ZIP_BOMB = define(
    "dataset_zip_bomb",
    gettext_noop("%(source)s unpacks from %(packed)s to %(size)s, as a zip bomb does. Nothing of it was read."),
)
LARGER_THAN_DECLARED = define(
    "dataset_larger_than_declared", gettext_noop("%(path)s is larger than the archive declares.")
)
DAMAGED_ENTRY = define("dataset_damaged_entry", gettext_noop("%(path)s is corrupted in the archive: %(reason)s."))
PATH_TRAVERSAL = define("dataset_path_traversal", gettext_noop("%(path)s points outside the dataset."))
LINK_OR_DEVICE = define(
    "dataset_link_or_device", gettext_noop("%(path)s is a link or a device; only regular files are imported.")
)
DEVICE_OR_PIPE = define(
    "dataset_device_or_pipe", gettext_noop("%(path)s is a device or a pipe; only regular files are imported.")
)
LINK_OUTSIDE = define(
    "dataset_link_outside",
    gettext_noop(
        "%(path)s is a link that leads out of the folder, or nowhere. Such links are followed to the folders in "
        "IMPORT_DIRS, and where that is not set for administrators. Copy the files into the folder, or ask an "
        "administrator to import it."
    ),
)
TOO_MANY_LINKED = define(
    "dataset_too_many_linked", gettext_noop("The folder links to more than %(most)d files. Import their folder itself.")
)
ENCRYPTED = define("dataset_encrypted", gettext_noop("%(path)s is encrypted; create the zip without a password."))
COMPRESSION = define(
    "dataset_compression", gettext_noop("%(path)s uses an unsupported compression method; use Deflate.")
)
NAME_UNUSABLE = define(
    "dataset_name_unusable",
    gettext_noop("The name %(path)s cannot be used: it has control characters, or a folder without a name."),
)
NAME_TOO_LONG = define("dataset_name_too_long", gettext_noop("The name %(path)s… is too long."))
NAME_DUPLICATE = define("dataset_name_duplicate", gettext_noop("%(path)s occurs twice."))
FILE_AND_FOLDER = define("dataset_file_and_folder", gettext_noop("%(path)s is both a file and a folder."))
NO_FILES = define("dataset_no_files", gettext_noop("The source contains no files."))
NO_IMAGES = define("dataset_no_images", gettext_noop("The source contains no images."))
IMAGES_NOT_INCLUDED = define(
    "dataset_images_not_included",
    ngettext(
        "The images are not in the source: it contains only %(count)d file of another kind (%(suffixes)s). Add the "
        "images; many annotation programs leave them out unless the export is set to include images.",
        "The images are not in the source: it contains only %(count)d files of other kinds (%(suffixes)s). Add the "
        "images; many annotation programs leave them out unless the export is set to include images.",
    ),
)

IMAGES_WITHOUT_ENDING = define(
    "dataset_images_without_ending",
    ngettext(
        "%(count)d file has no ending, but is an image: %(path)s. Add the ending of its format, such as .jpg or .png.",
        "%(count)d files have no ending, but are images, such as %(path)s. Add the endings of their formats, such as "
        ".jpg or .png.",
    ),
)
UNKNOWN_FORMAT = define(
    "dataset_unknown_format", gettext_noop("There is no format %(name)s. The formats are: %(names)s.")
)

# Class folders and splits

MIXED_FOLDERS = define(
    "dataset_mixed_folders",
    gettext_noop(
        "There are other folders beside %(folders)s: %(others)s. Move their images into the folders of the splits, or "
        "leave them out of the source."
    ),
)
SPLIT_TWICE = define("dataset_split_twice", gettext_noop("The folders %(folders)s all belong to the %(split)s split."))
FLAT_SPLIT = define(
    "dataset_flat_split",
    gettext_noop(
        "The images in %(path)s, the folder of the %(split)s split, are not in class folders. Sort them into folders "
        "named like those of the other splits, or add a CSV file with the class of each image."
    ),
)
FOLDERS_ARE_NO_CLASSES = define(
    "dataset_folders_are_no_classes",
    ngettext(
        "%(count)d folder (%(folders)s) is named like a split, images, labels or masks, not like a class, and no "
        "annotations were recognized. Put the images of each class into a folder with the name of the class, or "
        "include the annotations as COCO JSON, YOLO, Pascal VOC, masks or a CSV file.",
        "%(count)d folders (%(folders)s) are named like splits, images, labels or masks, not like classes, and no "
        "annotations were recognized. Put the images of each class into a folder with the name of the class, or "
        "include the annotations as COCO JSON, YOLO, Pascal VOC, masks or a CSV file.",
    ),
)
FOLDERS_OF_SPLITS = define(
    "dataset_folders_of_splits",
    gettext_noop(
        "Within the class folders there are folders of splits: %(folders)s. Arrange them as train/CLASS and val/CLASS, "
        "or as CLASS/train and CLASS/val with no other images in the class folders."
    ),
)
FOLDERS_OF_MASKS = define(
    "dataset_folders_of_masks",
    gettext_noop(
        "Within the class folders there are folders of masks: %(folders)s. Arrange images and masks as images/ and "
        "masks/ for segmentation, or remove the masks for classification."
    ),
)
YOLO_WITHOUT_LABELS = define(
    "dataset_yolo_without_labels",
    gettext_noop(
        "%(path)s describes a dataset of YOLO, but there are no label files. Add the folder labels, with a text file "
        "for each image."
    ),
)
SAME_INNER_FOLDERS = define(
    "dataset_same_inner_folders",
    gettext_noop(
        "The folders %(folders)s contain the same folders (%(inner)s), which are taken for the classes. If they are "
        "versions of the same images, import one of them."
    ),
)
MASKS_NOT_PAIRED = define(
    "dataset_masks_not_paired",
    gettext_noop(
        "No mask has the name of an image, apart from marks such as _mask: %(masks)s. Give each mask the name of its "
        "image. Several masks of one image must become one, with a value for each class."
    ),
)
UNCLAIMED_FILES = define(
    "dataset_unclaimed_files",
    ngettext(
        "%(count)d file (%(paths)s) refers to the images, but its format was not recognized, so the names of the "
        "folders were not taken for classes. Export the annotations as COCO JSON, YOLO or Pascal VOC, or remove the "
        "file if the folders are the classes.",
        "%(count)d files (%(paths)s) refer to the images, but their format was not recognized, so the names of the "
        "folders were not taken for classes. Export the annotations as COCO JSON, YOLO or Pascal VOC, or remove the "
        "files if the folders are the classes.",
    ),
)
UNCLAIMED_MASKS = define(
    "dataset_unclaimed_masks",
    ngettext(
        "%(count)d image looks like the mask of another image: %(paths)s. Arrange images and masks as images/ and "
        "masks/ for segmentation, or remove the masks for classification.",
        "%(count)d images look like masks of other images: %(paths)s. Arrange images and masks as images/ and masks/ "
        "for segmentation, or remove the masks for classification.",
    ),
)
FAMILY_NOT_READ = define(
    "dataset_family_not_read", gettext_noop("%(path)s is a file of %(family)s, which is not read. %(advice)s")
)
EXPORT_ANNOTATIONS = define(
    "dataset_export_annotations",
    gettext_noop("Export the annotations from there as COCO JSON, YOLO or Pascal VOC, and the images with them."),
)
CONVERT_ANNOTATIONS = define(
    "dataset_convert_annotations",
    gettext_noop(
        "Convert boxes and outlines to COCO JSON, YOLO or Pascal VOC, and classes of images to a CSV file with a line "
        "for each image."
    ),
)
SAVE_AS_CSV = define("dataset_save_as_csv", gettext_noop("Save the table as CSV, in UTF-8, and add that file."))
UNPACK_FILE = define("dataset_unpack_file", gettext_noop("Unpack the file, and add what it contains."))
WRITE_IMAGES = define(
    "dataset_write_images",
    gettext_noop(
        "Write the images as files, in a folder for each class or with annotations as COCO JSON, YOLO or Pascal VOC."
    ),
)
TEST_FOLDER_AS_VAL = define(
    "dataset_test_folder_as_val", gettext_noop("There is no val folder; %(path)s is used for validation.")
)
NO_CLASS_FOLDERS = define(
    "dataset_no_class_folders",
    gettext_noop("There are no class folders: put the images of each class into a folder with the name of the class."),
)
OUTSIDE_CLASSES = define(
    "dataset_outside_classes",
    ngettext(
        "%(count)d image outside of any class folder was ignored.",
        "%(count)d images outside of any class folder were ignored.",
    ),
)
FOLDER_LEFT_OUT = define(
    "dataset_folder_left_out",
    ngettext("%(count)d image in %(path)s was left out.", "%(count)d images in %(path)s were left out."),
)
TEST_LEFT_OUT = define(
    "dataset_test_left_out",
    ngettext("%(count)d image of the test split was left out.", "%(count)d images of the test split were left out."),
)
TEST_AS_VAL = define(
    "dataset_test_as_val", gettext_noop("There are no validation images; the test split is used for validation.")
)

# Parts of other messages

THE_ZIP = define("dataset_the_zip", gettext_noop("The zip"))
THE_ARCHIVE = define("dataset_the_archive", gettext_noop("The archive"))
THE_SOURCE = define("dataset_the_source", gettext_noop("The source"))
A_FILE = define("dataset_a_file", gettext_noop("a file"))
BYTES = define("dataset_bytes", ngettext("%(count)d byte", "%(count)d bytes"))
