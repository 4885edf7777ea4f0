"""Findings about the images of a dataset and the boxes and masks on them."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# Files that cannot be decoded

EMPTY_FILE = define("dataset_empty_file", gettext_noop("%(path)s is empty (0 bytes)."))
TEXT_FILE = define("dataset_text_file", gettext_noop("%(path)s is a text file, not an image."))
POINTER_FILE = define(
    "dataset_pointer_file",
    gettext_noop("%(path)s is a pointer of Git LFS, not the image itself. Fetch the images with: git lfs pull"),
)
NOT_AN_IMAGE = define(
    "dataset_not_an_image", gettext_noop("%(path)s is not an image in a supported format (%(formats)s).")
)
TRUNCATED = define("dataset_truncated", gettext_noop("%(path)s is truncated: its end is missing."))
CORRUPTED = define("dataset_corrupted", gettext_noop("%(path)s is corrupted and cannot be read: %(reason)s."))
TOO_MANY_PIXELS = define(
    "dataset_too_many_pixels",
    gettext_noop(
        "%(path)s is too large to decode (%(width)d x %(height)d pixels); at most %(most).1f megapixels are allowed."
    ),
)
FAR_TOO_MANY_PIXELS = define(
    "dataset_far_too_many_pixels",
    gettext_noop("%(path)s is too large to decode; at most %(most).1f megapixels are allowed."),
)
TOO_MUCH_MEMORY = define(
    "dataset_too_much_memory",
    gettext_noop(
        "%(path)s is too large to decode (%(width)d x %(height)d pixels of a %(format)s need %(megabytes)d "
        "MB); at most %(most)d MB are allowed."
    ),
)
COLOURS_UNKNOWN = define(
    "dataset_colours_unknown",
    gettext_noop(
        "%(path)s is a color image; a table must assign a class to each color: class_dict.csv, labelmap.txt or "
        "label_colors.txt."
    ),
)

# Properties of images that the owner should know

TINY = define(
    "dataset_tiny",
    ngettext(
        "%(count)d image is smaller than %(pixels)d pixels on a side; a network can hardly recognize anything in it.",
        "%(count)d images are smaller than %(pixels)d pixels on a side; a network can hardly recognize "
        "anything in them.",
    ),
)
EXIF_ORIENTATION = define(
    "dataset_exif_orientation",
    ngettext(
        "%(count)d image is stored rotated; it is turned upright for training, as its EXIF data says.",
        "%(count)d images are stored rotated; they are turned upright for training, as their EXIF data says.",
    ),
)
ANIMATED = define(
    "dataset_animated",
    ngettext(
        "%(count)d image has several frames; the first one is used.",
        "%(count)d images have several frames; the first one is used.",
    ),
)
DEEP = define(
    "dataset_deep",
    ngettext(
        "%(count)d image has 16 bits per color channel; the upper 8 bits are used.",
        "%(count)d images have 16 bits per color channel; the upper 8 bits are used.",
    ),
)
DEEP_BITS = define(
    "dataset_deep_bits",
    ngettext(
        "%(count)d image has more than 8 bits per channel. Its values fit into %(bits)d bits, the upper 8 of which "
        "are used.",
        "%(count)d images have more than 8 bits per channel. All values fit into %(bits)d bits, the upper 8 of which "
        "are used.",
    ),
)
DEEP_RANGE = define(
    "dataset_deep_range",
    ngettext(
        "%(count)d image has more than 8 bits per channel. Its values from %(low)g to %(high)g were scaled to 8 bits.",
        "%(count)d images have more than 8 bits per channel. Values from %(low)g to %(high)g were scaled to 8 bits, in "
        "the same way for all of them.",
    ),
)
CONSTANT = define(
    "dataset_constant",
    ngettext(
        "%(count)d image is a single color: all of its pixels are equal.",
        "%(count)d images are each a single color: all of their pixels are equal.",
    ),
)
ALL_CONSTANT = define(
    "dataset_all_constant",
    gettext_noop(
        "All %(count)d images of more than 8 bits are a single color once they are reduced to 8 bits. Their values go "
        "from %(low)g to %(high)g. Select another bit depth, or save the images with 8 bits."
    ),
)
CONVERTED = define(
    "dataset_converted",
    ngettext(
        "%(count)d HEIC or AVIF image is stored as JPEG or PNG.",
        "%(count)d HEIC or AVIF images are stored as JPEG or PNG.",
    ),
)
BANDS_OPEN = define(
    "dataset_bands_open",
    gettext_noop("%(path)s has %(count)d bands. Select the three bands that become red, green and blue."),
)
BAND_MISSING = define(
    "dataset_band_missing",
    gettext_noop("%(path)s has %(count)d bands, counted from 0; there is no band %(band)d."),
)
BANDS_CHOICE = define(
    "dataset_bands_choice",
    gettext_noop("%(path)s has %(count)d bands, counted from 0; three of them become red, green and blue."),
)
DEPTH_CHOICE = define(
    "dataset_depth_choice",
    gettext_noop(
        "%(path)s has more than 8 bits per channel. Without a selection, the range is chosen by the values of all "
        "images."
    ),
)
ANNOTATION_TURNED = define(
    "dataset_annotation_turned",
    ngettext(
        "%(count)d image is annotated as stored, before its EXIF rotation; its annotations are rotated with it.",
        "%(count)d images are annotated as stored, before their EXIF rotation; their annotations are rotated "
        "with them.",
    ),
)

# Boxes and masks

SIZE_MISMATCH = define(
    "dataset_size_mismatch",
    gettext_noop(
        "%(where)s: the annotations are for an image of %(width)d x %(height)d pixels, but %(path)s has "
        "%(real_width)d x %(real_height)d."
    ),
)
BOX_OUTSIDE = define(
    "dataset_box_outside",
    gettext_noop("%(where)s: the box %(box)s lies outside the image of %(width)d x %(height)d pixels."),
)
BOX_WITHOUT_AREA = define("dataset_box_without_area", gettext_noop("%(where)s: the box %(box)s has no area."))
BOX_CLIPPED = define(
    "dataset_box_clipped",
    ngettext(
        "%(count)d box that exceeds its image by %(pixels)d pixels was clipped: %(where)s.",
        "%(count)d boxes that exceed their images by up to %(pixels)d pixels were clipped, among them %(where)s.",
    ),
)
OBJECTS_LOST = define(
    "dataset_objects_lost",
    ngettext(
        "%(count)d image was left out because none of its objects can be used: %(paths)s.",
        "%(count)d images were left out because none of their objects can be used, among them %(paths)s.",
    ),
)
MOST_OBJECTS_UNUSABLE = define(
    "dataset_most_objects_unusable",
    gettext_noop(
        "%(count)d of %(total)d objects have no area or lie outside of their images: the coordinates may be in another "
        "unit or for images of another size. Correct the annotations, or import the rest by leaving out what is faulty."
    ),
)
BOXES_IN_SHARES = define(
    "dataset_boxes_in_shares",
    gettext_noop(
        "%(where)s: the coordinates of all boxes are between 0 and 1 (%(box)s), but this format has pixels. Multiply x "
        "and width by the width of the image, y and height by its height."
    ),
)
BOXES_OF_CORNERS = define(
    "dataset_boxes_of_corners",
    gettext_noop(
        "%(where)s: %(count)d of %(total)d boxes exceed their image, but would fit as left, top, right and bottom. "
        "Write them as left, top, width and height."
    ),
)
MASK_EMPTY = define("dataset_mask_empty", gettext_noop("%(where)s: the mask is empty."))
MASK_SIZE = define(
    "dataset_mask_size",
    gettext_noop("%(where)s: the mask has %(width)d x %(height)d pixels, the image %(real_width)d x %(real_height)d."),
)
MASK_FILE_SIZE = define(
    "dataset_mask_file_size",
    gettext_noop("%(path)s has %(width)d x %(height)d pixels, its image %(real_width)d x %(real_height)d."),
)
RUN_LENGTHS_INVALID = define(
    "dataset_run_lengths_invalid",
    gettext_noop("%(where)s: the run lengths of the mask do not fill %(width)d x %(height)d pixels."),
)

# Identical and similar images

DUPLICATE = define("dataset_duplicate", gettext_noop("%(path)s is identical to %(other)s."))
DUPLICATE_LABEL = define(
    "dataset_duplicate_label", gettext_noop("%(path)s is identical to %(other)s, which has another class.")
)
LEAK = define(
    "dataset_leak", gettext_noop("%(path)s is identical to %(other)s: one is in training, the other in validation.")
)
NEAR_LEAK = define("dataset_near_leak", gettext_noop("%(path)s looks almost like %(other)s, which is in training."))
