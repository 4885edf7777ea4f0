"""Messages of the tasks: what is wrong with a dataset, a configuration or published weights."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# Datasets

OTHER_TASK = define("other_task", gettext_noop("The dataset is for %(tasks)s, not for %(task)s."))
TOO_FEW_IMAGES = define(
    "too_few_images",
    ngettext(
        "The %(split)s split has %(count)d image; it needs at least %(least)d.",
        "The %(split)s split has %(count)d images; it needs at least %(least)d.",
    ),
)
IMAGE_WITHOUT_LABEL = define("image_without_label", gettext_noop("Some images have no label."))
IMAGE_WITHOUT_LABELS = define(
    "image_without_labels",
    gettext_noop("The images of the dataset have one label each. Set label_mode to single."),
)
SEVERAL_LABELS = define(
    "several_labels",
    gettext_noop("The images of the dataset have several labels. Set label_mode to multi."),
)
IMAGE_WITHOUT_MASK = define("image_without_mask", gettext_noop("Some images have no mask."))
IMAGE_WITHOUT_OUTLINES = define(
    "image_without_outlines",
    gettext_noop("Some images have objects without masks. Import the dataset again to store them."),
)
SPLIT_WITHOUT_BOX = define("split_without_box", gettext_noop("No image of the %(split)s split has a box."))
IMAGE_UNREADABLE = define("image_unreadable", gettext_noop("%(path)s cannot be read as an image: %(error)s"))
MASK_UNREADABLE = define("mask_unreadable", gettext_noop("%(path)s cannot be read as a mask: %(error)s"))
MASK_CHANNELS = define(
    "mask_channels", gettext_noop("%(path)s cannot be used as a mask: it must have one 8-bit channel.")
)
MASK_VALUE = define(
    "mask_value",
    ngettext(
        "%(path)s contains the value %(value)d, but there is %(count)d class.",
        "%(path)s contains the value %(value)d, but there are %(count)d classes.",
    ),
)

# Networks

NETWORK_UNKNOWN = define("network_unknown", gettext_noop("%(library)s has no network named %(name)s."))
FAMILY_UNKNOWN = define(
    "family_unknown", gettext_noop("%(library)s has no architecture named %(name)s. It has %(known)s.")
)
NO_PATCH_FEATURES = define(
    "no_patch_features",
    gettext_noop(
        "%(name)s does not keep a grid of patches, as vision transformers do. Use it as the encoder of a decoder, for "
        "example smp/unet_tu-%(name)s."
    ),
)
NETWORK_CANNOT_BE_BUILT = define("network_cannot_be_built", gettext_noop("%(name)s cannot be built: %(error)s"))
SIZE_CANNOT_BE_BUILT = define(
    "size_cannot_be_built", gettext_noop("%(name)s cannot be built for images of %(size)d pixels: %(error)s")
)
SIZE_OUT_OF_RANGE = define(
    "size_out_of_range",
    gettext_noop("%(name)s needs images of %(smallest)d to %(largest)d pixels. Set image_size to %(usual)d."),
)
SIZE_STEP = define(
    "size_step", gettext_noop("%(name)s needs images whose sides are a multiple of %(step)d pixels. Change image_size.")
)
LIBRARY_MISSING = define(
    "library_missing",
    gettext_noop(
        "%(name)s needs the Python package %(package)s, which is not installed. Run pip install "
        "'cvstudio[%(extra)s]', or choose another model."
    ),
)
NOTHING_TO_ADAPT = define(
    "nothing_to_adapt",
    gettext_noop(
        "The backbone of this network has no linear layers for adapters, as transformers and ConvNeXt have. Set "
        "lora_rank to 0."
    ),
)
OTHER_NETWORK = define("other_network", gettext_noop("The weights do not fit the network %(name)s: %(error)s"))

PIXELS_BESIDE_PATCHES = define(
    "pixels_beside_patches",
    gettext_noop(
        "The network cuts images into patches of %(patch)d pixels. Of images of %(size)d pixels, it does not see the "
        "last %(rest)d on the right and at the bottom. An image_size of %(fitting)d leaves out none."
    ),
)

# Published weights

OTHER_SIZE_PUBLISHED = define(
    "other_size_published",
    gettext_noop(
        "%(name)s was pretrained with images of %(published)d pixels. With an image_size of %(size)d, its features may "
        "be less accurate."
    ),
)
WEIGHTS_LICENCE = define(
    "weights_licence",
    gettext_noop(
        "The published weights of %(name)s are under the license %(licence)s. It also applies to models that are "
        "trained from them."
    ),
)
NON_COMMERCIAL_WEIGHTS = define(
    "non_commercial_weights",
    gettext_noop(
        "The published weights of %(name)s are not offered, because their license excludes commercial use. Set "
        "pretrained to none, or upload weights that you may use."
    ),
)

NO_PUBLISHED_MODEL = define(
    "no_published_model",
    gettext_noop("There are no published weights of the whole model for %(name)s. Set pretrained to backbone or none."),
)
NO_PUBLISHED_BACKBONE = define(
    "no_published_backbone",
    gettext_noop("There are no published ImageNet weights for the backbone %(name)s. Set pretrained to none."),
)
NO_PUBLISHED_WEIGHTS_FIT = define(
    "no_published_weights_fit", gettext_noop("None of the published weights fit %(name)s.")
)
