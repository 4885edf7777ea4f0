"""Messages of the jobs that engine processes carry out: progress, notes and errors."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

JOB_KIND_UNKNOWN = define("job_kind_unknown", gettext_noop("This worker cannot carry out jobs of the kind %(kind)s."))

# Progress

BUILDING_NETWORK = define("building_network", gettext_noop("Building the network"))
CREATING_FILE = define("creating_file", gettext_noop("Creating %(file)s"))
PACKING = define("packing", gettext_noop("Packing"))
READING_WEIGHTS = define("reading_weights", gettext_noop("Reading the file and testing it on the network"))
LOADING_NETWORK = define("loading_network", gettext_noop("Loading the network"))
PREDICTING = define("predicting", gettext_noop("Predicting"))
MEASURING = define("measuring", gettext_noop("Measuring"))
WRITING_WEIGHTS = define("writing_weights", gettext_noop("Writing the weights"))
FINDING_BATCH_SIZE = define("finding_batch_size", gettext_noop("Finding the batch size …"))
BUILDING_MODEL = define("building_model", gettext_noop("Building the model …"))
LOADING_IMAGES = define("loading_images", gettext_noop("Loading images …"))
TRAINING_STEPS = define("training_steps", gettext_noop("Training a few steps …"))
VALIDATING_IMAGES = define("validating_images", gettext_noop("Validating a few images …"))

# Predictions

NOT_AN_IMAGE = define("not_an_image", gettext_noop("This cannot be read as an image: %(error)s"))
NO_IMAGES = define("no_images", gettext_noop("There are no images."))
TOO_MANY_IMAGES = define("too_many_images", gettext_noop("The folder has more than %(most)d images."))
NO_LABELS = define("no_labels", gettext_noop("No labels are known for these images."))
IMAGES_UNREADABLE = define(
    "images_unreadable", gettext_noop("Some images cannot be read, so the metrics are not computed.")
)
NO_ANNOTATIONS = define("no_annotations", gettext_noop("The dataset has no annotations for %(task)s."))
CLASSES_UNKNOWN = define(
    "classes_unknown", gettext_noop("The model does not have these classes of the dataset: %(names)s.")
)
LABELS_DIFFER = define(
    "labels_differ",
    gettext_noop("The model and the dataset differ in whether an image can have several labels."),
)
MASK_CLASSES_DIFFER = define(
    "mask_classes_differ",
    gettext_noop("The classes of the masks, or their order, differ from those of the model."),
)

CONVERSION_DIFFERS = define(
    "conversion_differs",
    gettext_noop(
        "The images of the dataset were reduced to 8 bits in another way than those that the model was trained on. The "
        "metrics can be lower than for images that are converted as the model expects."
    ),
)

FOLD_SPLITS = define(
    "fold_splits",
    gettext_noop(
        "The model was trained on other folds of this dataset. Training and validation mean the images that its run "
        "trained on and those of its fold %(fold)d."
    ),
)

# The check before a run

BATCH_DOES_NOT_FIT = define(
    "batch_does_not_fit",
    gettext_noop(
        "A batch of %(given)d images does not fit into memory. This does: batch_size %(batch_size)d with "
        "accumulation_steps %(steps)d; the optimizer sees the same number of images per step."
    ),
)
MEMORY_IN_USE = define(
    "memory_in_use",
    gettext_noop("The run needs more memory than is available now: other work has to end first."),
)
NOT_FINITE = define(
    "preflight_not_finite",
    gettext_noop(
        "The loss, the gradients or the weights are not finite after a few steps: lower learning_rate, lengthen "
        "warmup_epochs, or turn off amp."
    ),
)
LOADER_SLOW = define("loader_slow", gettext_noop("The device waits for images: increase num_workers."))
DISK_SHORT = define(
    "disk_short",
    ngettext(
        "The disk has %(free)s available and the run may need %(needed)s for %(count)d checkpoint: %(short)s too "
        "little. Free some space, or keep fewer checkpoints.",
        "The disk has %(free)s available and the run may need %(needed)s for %(count)d checkpoints: %(short)s too "
        "little. Free some space, or keep fewer checkpoints.",
    ),
)
