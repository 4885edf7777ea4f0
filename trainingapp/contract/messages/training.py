"""Messages of the trainer: its log, the results of requests, the resume check, and why an attempt failed."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# The log

FIRST_STEP = define("first_step", gettext_noop("First step of this attempt completed: step %(step)d."))
TRAINS_ON_FOLDS = define(
    "trains_on_folds",
    gettext_noop(
        "Cross-validation with the folds 0 to %(last)d: fold %(fold)d with %(val)d images for validation, %(train)d "
        "images of the others for training."
    ),
)
RESUMED_FROM = define("resumed_from", gettext_noop("Continuing from %(file)s, after step %(step)d."))
STOPPED_EARLY = define(
    "stopped_early", gettext_noop("Stopped early: the result has not improved since epoch %(epoch)d.")
)
PATIENCE_RENEWED = define(
    "patience_renewed",
    gettext_noop("Early stopping counts again from epoch %(epoch)d, because the total number of epochs was increased."),
)
EPOCHS_CHANGED = define(
    "epochs_changed",
    gettext_noop(
        "The total number of epochs is now %(epochs)d instead of %(before)d. From step %(step)d the learning rate "
        "follows the schedule of a run of %(epochs)d epochs."
    ),
)
STEPS_PER_EPOCH_CHANGED = define(
    "steps_per_epoch_changed",
    gettext_noop("An epoch now has %(steps)d steps instead of %(before)d: the step numbers change."),
)
OTHER_DATASET = define("other_dataset", gettext_noop("The dataset is not the one that the checkpoint was trained on."))
BATCH_SIZE_CHOSEN = define("batch_size_chosen", gettext_noop("batch_size %(batch_size)d was chosen (%(trials)s)."))
BATCH_SIZE_TRIAL = define("batch_size_trial", gettext_noop("%(batch_size)d: %(images_per_s).0f img/s"))
ALGORITHMS_FAST = define(
    "algorithms_fast",
    gettext_noop(
        "Deterministic algorithms are off for this run: %(reason)s. A resumed run continues from its checkpoint, but "
        "is not bit-identical."
    ),
)
NOT_DETERMINISTIC_MODEL = define(
    "not_deterministic_model",
    gettext_noop(
        "%(model)s cannot be trained with deterministic algorithms on this GPU: %(reason)s. Set deterministic to auto "
        "or fast, or choose another model."
    ),
)
OPERATION_EXCLUDED = define("operation_excluded", gettext_noop("%(operation)s has no deterministic algorithm"))
COMPILER_MISSING = define(
    "compiler_missing",
    gettext_noop("a deterministic operation could not be compiled (this needs Triton and a C compiler): %(error)s"),
)
GRADIENT_DIFFERS = define(
    "gradient_differs", gettext_noop("the gradient of %(name)s differed when the same step was repeated")
)
NOT_COMPILED = define("not_compiled", gettext_noop("The network trains without torch.compile: %(reason)s"))
NO_BFLOAT16 = define(
    "no_bfloat16", gettext_noop("Mixed precision is off: this CPU does not support bfloat16 instructions.")
)
TENSORBOARD_STOPPED = define(
    "tensorboard_stopped",
    gettext_noop("The TensorBoard files could not be written; no more are written: %(error)s"),
)
TENSORBOARD_NOT_INSTALLED = define(
    "tensorboard_not_installed",
    gettext_noop("No TensorBoard files are written: the package tensorboard is not installed (%(error)s)."),
)
TENSORBOARD_UNAVAILABLE = define("tensorboard_unavailable", gettext_noop("No TensorBoard files are written: %(error)s"))

# Results of requests

SAVED_AS = define("saved_as", gettext_noop("Saved as %(file)s."))
EPOCHS_SET = define("epochs_set", gettext_noop("The total number of epochs is now %(epochs)d."))
EPOCHS_SET_TO_STARTED = define(
    "epochs_set_to_started",
    gettext_noop("The total number of epochs is now %(epochs)d, because epoch %(epoch)d has already started."),
)
EPOCHS_UNCHANGED = define("epochs_unchanged", gettext_noop("The total number of epochs is %(epochs)d."))
EPOCHS_REFUSED = define("epochs_refused", gettext_noop("The total number of epochs remains %(epochs)d: %(error)s."))
VALIDATED = define("validated", gettext_noop("Validated at step %(step)d: %(values)s."))
JUST_VALIDATED = define("just_validated", gettext_noop("This step has just been validated: %(values)s."))
METRIC_VALUE = define("metric_value", gettext_noop("%(metric)s %(value)s"))

# The resume check

RESUME_EXACT = define(
    "resume_exact", gettext_noop("Resume verified: the step after %(file)s was repeated and is bit-exact.")
)
RESUME_DIFFERS = define(
    "resume_differs",
    gettext_noop("The step after %(file)s was repeated; its relative difference is %(difference)s: %(changes)s."),
)
RESUME_UNKNOWN = define("resume_unknown", gettext_noop("Resume cannot be verified: %(changes)s."))
STEP_NOT_RECORDED = define(
    "resume_step_not_recorded", gettext_noop("the step after this checkpoint was not recorded before")
)
VALUE_CHANGED = define("resume_value_changed", gettext_noop("%(name)s was %(before)s, now %(now)s"))
DEVICE = define("resume_device", gettext_noop("the device"))
DEVICES = define("resume_devices", gettext_noop("the number of devices"))
REDUCED_FAST = define(
    "resume_reduced_fast", gettext_noop("gradients are added in an order that the devices choose (reduction is fast)")
)
CPU_THREADS = define("resume_cpu_threads", gettext_noop("the number of CPU threads"))
PRECISION = define("resume_precision", gettext_noop("the precision"))
ALGORITHMS = define("resume_algorithms", gettext_noop("the choice of algorithms"))
DETERMINISTIC = define("resume_deterministic", gettext_noop("deterministic"))
FAST = define("resume_fast", gettext_noop("fast"))
NOT_DETERMINISTIC = define(
    "resume_not_deterministic",
    gettext_noop("the run uses algorithms that are not bit-reproducible (deterministic algorithms are off)"),
)
NOTHING_CHANGED = define("resume_nothing_changed", gettext_noop("no known cause has changed"))

# Why an attempt failed

DIVERGED = define(
    "diverged",
    gettext_noop("%(fact)s: training has diverged. Lower learning_rate, lengthen warmup_epochs, or turn off amp."),
)
WEIGHTS_NOT_FINITE = define("weights_not_finite", gettext_noop("The weights %(tensor)s are no longer finite"))
LOSS_NOT_FINITE = define(
    "loss_not_finite", gettext_noop("The loss became %(value)s at or shortly before step %(step)d")
)
VALIDATION_NOT_FINITE = define(
    "validation_not_finite", gettext_noop("The validation %(metric)s of epoch %(epoch)d is %(value)s")
)
DISK_FULL = define("disk_full", gettext_noop("The disk is full (%(error)s). Free some space, then resume the run."))
READ_ONLY = define(
    "read_only",
    gettext_noop(
        "Nothing can be written to the run's folder (%(error)s). No checkpoint was lost: resume the run once its "
        "folder is writable again."
    ),
)
OUT_OF_MEMORY = define(
    "out_of_memory",
    gettext_noop("Memory ran out: %(error)s Halve batch_size, choose a smaller image_size or model, or turn on amp."),
)
DEVICE_ERROR = define("device_error", gettext_noop("The GPU reported an error: %(error)s"))
SHARED_MEMORY = define(
    "shared_memory",
    gettext_noop(
        "The shared memory (/dev/shm) is too small for the loader processes. Enlarge it (docker run --shm-size=8g, or "
        "shm_size in a compose file), or set num_workers to 0. PyTorch reports: %(error)s"
    ),
)
DRIVER_UNSUITABLE = define(
    "driver_unsuitable",
    gettext_noop(
        "The driver of the GPU does not suit this build of PyTorch. Update the driver and restart the machine, "
        "install a build for the driver, or choose device cpu. PyTorch reports: %(error)s"
    ),
)
ARCHITECTURE_UNSUPPORTED = define(
    "architecture_unsupported",
    gettext_noop(
        "This build of PyTorch contains no code for the architecture of the GPU. Install a build that supports it "
        "(pytorch.org), or choose another device. PyTorch reports: %(error)s"
    ),
)
NOT_DETERMINISTIC_OPERATION = define(
    "not_deterministic_operation",
    gettext_noop("%(operation)s has no deterministic algorithm on a GPU. Set deterministic to auto or fast."),
)
DEVICE_ASSERT = define(
    "device_assert",
    gettext_noop(
        "An index was out of range on the GPU: in most cases a label that the model has no output for. Run it with "
        "device cpu: the error there names the line. PyTorch reports: %(error)s"
    ),
)
BATCH_NORM_NEEDS_TWO = define(
    "batch_norm_needs_two",
    gettext_noop("Batch norm cannot train on one image at a time: use batch_size 2 or more."),
)
TWO_IMAGES_DO_NOT_FIT = define(
    "two_images_do_not_fit",
    gettext_noop("Not even a batch of two images fits into memory: choose a smaller image_size or model."),
)
NO_USABLE_GPU = define(
    "no_usable_gpu",
    gettext_noop("device is %(device)s, but this machine has no GPU that torch can use. Use auto or cpu."),
)
GPU_NUMBER_TOO_HIGH = define(
    "gpu_number_too_high",
    ngettext(
        "device is %(device)s, but this machine has %(count)d GPU, numbered from 0. Use auto.",
        "device is %(device)s, but this machine has %(count)d GPUs, numbered from 0. Use auto.",
    ),
)
DEVICE_UNAVAILABLE = define(
    "device_unavailable",
    gettext_noop("torch cannot use %(device)s, which was assigned to the run: %(error)s"),
)
CHECKPOINT_MISMATCH = define(
    "checkpoint_mismatch", gettext_noop("The checkpoint does not match the configuration: %(error)s")
)
SUPERSEDED = define(
    "superseded",
    gettext_noop("Attempt %(present)d of this run has started; attempt %(attempt)d ends without saving."),
)
STILL_RUNNING = define("still_running", gettext_noop("Another trainer still holds %(path)s."))
NO_MESSAGE = define("no_message", gettext_noop("no message."))
UNEXPECTED_ERROR = define("unexpected_error", gettext_noop("%(kind)s: %(error)s"))
