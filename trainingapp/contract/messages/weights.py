"""Messages about weights: those that a run starts from, files of the model library, and exports."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

NAMES_AND_MORE = define("names_and_more", gettext_noop("%(names)s and %(more)d more"))

# The weights that a run starts from

WEIGHTS_OF = define("weights_of", gettext_noop("Weights of %(file)s: %(report)s"))
TENSORS_LOADED = define("tensors_loaded", gettext_noop("%(loaded)d of %(total)d tensors were loaded."))
TENSORS_OTHER_SHAPE = define(
    "tensors_other_shape",
    ngettext(
        "%(count)d tensor has another shape and is initialized: %(names)s.",
        "%(count)d tensors have another shape and are initialized: %(names)s.",
    ),
)
TENSORS_MISSING = define(
    "tensors_missing",
    ngettext(
        "%(count)d tensor is not in the file and is initialized: %(names)s.",
        "%(count)d tensors are not in the file and are initialized: %(names)s.",
    ),
)
TENSORS_UNUSED = define(
    "tensors_unused",
    ngettext(
        "%(count)d tensor of the file is not used: %(names)s.",
        "%(count)d tensors of the file are not used: %(names)s.",
    ),
)
NO_WEIGHTS_FIT = define(
    "no_weights_fit",
    gettext_noop("None of the weights in %(file)s fit this model: start_from names another network."),
)
START_CHECKPOINT_MISSING = define(
    "start_checkpoint_missing", gettext_noop("The checkpoint to start from, %(file)s, no longer exists.")
)
START_CHECKPOINT_UNREADABLE = define(
    "start_checkpoint_unreadable",
    gettext_noop("The checkpoint to start from, %(file)s, cannot be read: %(error)s"),
)
START_WEIGHTS_MISSING = define("start_weights_missing", gettext_noop("The weights %(path)s no longer exist."))
START_WEIGHTS_UNREADABLE = define(
    "start_weights_unreadable", gettext_noop("The weights %(path)s cannot be read: %(error)s")
)
START_FILE_CORRUPTED = define(
    "start_file_corrupted",
    gettext_noop("The %(name)s, from which the run starts, %(damage)s. Nothing was trained."),
)

# Published weights

PUBLISHED_CORRUPTED = define(
    "published_corrupted", gettext_noop("%(path)s is corrupted: %(error)s. Delete it. %(advice)s")
)
PUBLISHED_NOT_DOWNLOADED = define(
    "published_not_downloaded",
    gettext_noop("Pretrained weights could not be downloaded from %(url)s: %(error)s. %(advice)s"),
)
CONNECT_OR_COPY = define(
    "connect_or_copy",
    gettext_noop("Connect this machine to %(host)s, or copy the file to %(path)s, or turn pretrained off."),
)

# Files of the model library

CHECKPOINT_INCOMPLETE = define(
    "checkpoint_incomplete", gettext_noop("The checkpoint does not contain the whole network. Missing: %(names)s.")
)
NOTHING_FITS = define(
    "nothing_fits",
    gettext_noop(
        "Nothing in the file fits %(architecture)s: it has %(given)s, the network has %(expected)s. Choose the "
        "architecture that the file was made for."
    ),
)
TENSOR_NOT_FINITE = define(
    "tensor_not_finite", gettext_noop("The tensor %(tensor)s contains numbers that are not finite.")
)
NOT_SAFETENSORS = define("not_safetensors", gettext_noop("The file is not a safetensors file: %(error)s"))
MORE_THAN_TENSORS = define(
    "more_than_tensors",
    gettext_noop("The file contains more than tensors and is not loaded, for security reasons."),
)
MORE_THAN_TENSORS_NAMED = define(
    "more_than_tensors_named",
    gettext_noop("The file contains more than tensors and is not loaded, for security reasons: it names %(name)s."),
)
NOT_PYTORCH = define("not_pytorch", gettext_noop("The file is not a PyTorch file: %(kind)s: %(error)s"))
DECOMPRESSION_BOMB = define(
    "decompression_bomb",
    gettext_noop("The file would grow to %(size)d bytes when it is opened. PyTorch files do not."),
)
NOT_A_STATE_DICT = define(
    "not_a_state_dict", gettext_noop("The file contains a %(type)s; a state dict (tensors by name) is required.")
)
NO_TENSORS = define("no_tensors", gettext_noop("The file contains no tensors by name. Its keys: %(names)s."))
TENSOR_NOT_DENSE = define(
    "tensor_not_dense", gettext_noop("The tensor %(tensor)s is sparse or quantized. Only dense tensors are supported.")
)
TENSOR_TOO_LARGE = define(
    "tensor_too_large", gettext_noop("The tensor %(tensor)s declares more numbers than the file contains.")
)

# Exports

WEIGHTS_DIFFER = define("export_weights_differ", gettext_noop("The file does not contain the weights of the network."))
FORMAT_NOT_CREATED = define(
    "export_format_not_created", gettext_noop("%(format)s cannot be created from this network: %(kind)s: %(error)s")
)
SCORES_DIFFER = define(
    "export_scores_differ",
    gettext_noop(
        "The results of %(format)s differ from those of PyTorch: scores by up to %(difference)s (allowed: %(allowed)s)."
    ),
)
BOXES_DIFFER = define(
    "export_boxes_differ",
    gettext_noop(
        "The results of %(format)s differ from those of PyTorch: scores by up to %(difference)s (allowed: "
        "%(allowed)s), boxes by up to %(pixels)s pixels."
    ),
)
