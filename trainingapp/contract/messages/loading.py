"""Messages about loading images: how many processes load them, and why."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

LOADERS_OF_GPU = define(
    "loaders_of_gpu",
    ngettext(
        "%(count)d loader process: of %(cores)d cores, divided by %(gpus)d GPUs, one is left to the trainer; at most "
        "%(most)d.",
        "%(count)d loader processes: of %(cores)d cores, divided by %(gpus)d GPUs, one is left to the trainer; at most "
        "%(most)d.",
    ),
)
LOADERS_NONE_ON_CPU = define(
    "loaders_none_on_cpu",
    gettext_noop("No loader processes: on a CPU they take the cores that compute; the trainer loads the images."),
)
LOADERS_NONE_LEFT = define(
    "loaders_none_left",
    gettext_noop("No loader processes: each GPU has one core, which the trainer needs; the trainer loads the images."),
)
LOADERS_CHOSEN = define(
    "loaders_chosen", ngettext("%(count)d loader process, as configured.", "%(count)d loader processes, as configured.")
)
LOADERS_IN_TRAINER = define("loaders_in_trainer", gettext_noop("No loader processes, as configured."))
LOADERS_LIMITED = define(
    "loaders_limited",
    ngettext(
        "Only %(count)d loader process: batches pass through the shared memory (/dev/shm), which has %(free_mb)d MB "
        "available, and a batch takes %(batch_mb)d MB. Enlarge it (docker run --shm-size=8g, or shm_size in a compose "
        "file).",
        "Only %(count)d loader processes: batches pass through the shared memory (/dev/shm), which has %(free_mb)d MB "
        "available, and a batch takes %(batch_mb)d MB. Enlarge it (docker run --shm-size=8g, or shm_size in a compose "
        "file).",
    ),
)
IMAGES_CACHED = define("images_cached", gettext_noop("Decoded images stay in memory (%(mb)d MB)."))
IMAGES_NOT_CACHED = define(
    "images_not_cached",
    gettext_noop("Images are decoded in each epoch: all need %(mb)d MB, and a run may use %(most_mb)d MB for them."),
)
