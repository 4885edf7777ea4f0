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
PUBLISHED_UNFIT = define(
    "published_unfit", gettext_noop("%(path)s does not contain the published weights of %(name)s: %(error)s")
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
WHOLE_MODEL = define(
    "whole_model",
    gettext_noop(
        "The file contains a whole model of the class %(name)s instead of its weights. Loading it would run code, so "
        "it is not loaded, for security reasons."
    ),
)
WHOLE_MODEL_OF_FAMILY = define(
    "whole_model_of_family",
    gettext_noop(
        "The file contains a whole model of %(family)s (%(name)s) instead of its weights. Loading it would run code, "
        "so it is not loaded, for security reasons."
    ),
)
SAVE_STATE_DICT = define(
    "save_state_dict",
    gettext_noop("Save the weights alone where the model was trained, with %(code)s, and upload that file."),
)
OTHER_NETWORKS = define(
    "other_networks",
    gettext_noop(
        "The networks of %(family)s are not available here; only those weights can be used that fit an architecture of "
        "the studio."
    ),
)
PICKLE_PROTOCOL = define(
    "pickle_protocol",
    gettext_noop(
        "The file was written with pickle protocol %(protocol)d, which cannot be loaded safely. Save it again with "
        "torch.save and without pickle_protocol."
    ),
)
SCRIPT_MODEL = define(
    "script_model",
    gettext_noop(
        "This is a %(kind)s file: a network with its code, not weights alone. Save its weights with %(code)s, and "
        "upload that file."
    ),
)
NOT_PYTORCH = define("not_pytorch", gettext_noop("The file is not a PyTorch file: %(kind)s: %(error)s"))
DECOMPRESSION_BOMB = define(
    "decompression_bomb",
    gettext_noop("The file would grow to %(bytes)d bytes when it is opened. PyTorch files do not."),
)
NOT_A_STATE_DICT = define(
    "not_a_state_dict", gettext_noop("The file contains a %(type)s; a state dict (tensors by name) is required.")
)
NOTHING_FITS_FAMILY = define(
    "nothing_fits_family",
    gettext_noop("The names of the tensors are those of %(family)s, whose networks are named differently."),
)
NO_TENSORS = define("no_tensors", gettext_noop("The file contains no tensors by name. Its keys: %(names)s."))
TENSOR_NOT_DENSE = define(
    "tensor_not_dense", gettext_noop("The tensor %(tensor)s is sparse or quantized. Only dense tensors are supported.")
)
TENSOR_TOO_LARGE = define(
    "tensor_too_large", gettext_noop("The tensor %(tensor)s declares more numbers than the file contains.")
)

# Files that are no weights

ENDING_UNKNOWN = define("weights_ending_unknown", gettext_noop("Only %(endings)s files are accepted, not %(name)s."))
NO_SAFETENSORS_HEADER = define(
    "no_safetensors_header", gettext_noop("This is not a safetensors file: the header is missing.")
)
NOT_TORCH_SAVE = define("not_torch_save", gettext_noop("This file was not written by torch.save."))
BIN_NOT_PYTORCH = define(
    "bin_not_pytorch",
    gettext_noop(
        "This file was not written by torch.save. Files of OpenVINO and ncnn have the ending .bin too; they contain a "
        "network prepared for inference."
    ),
)
EXPORTED_NETWORK = define(
    "exported_network",
    gettext_noop(
        "This is a file of %(kind)s, not PyTorch weights: a network prepared for inference. Upload the PyTorch weights "
        "that it was exported from."
    ),
)
OTHER_PROGRAM = define(
    "other_program",
    gettext_noop(
        "This is a file of %(kind)s, not PyTorch weights. Upload weights saved with "
        'torch.save(model.state_dict(), "weights.pt") or in safetensors.'
    ),
)
PYTHON_PICKLE = define(
    "python_pickle",
    gettext_noop(
        "Python pickles are not loaded, for security reasons. Upload weights saved with "
        'torch.save(model.state_dict(), "weights.pt") or in safetensors.'
    ),
)
ARCHIVE = define(
    "weights_archive",
    gettext_noop("This is a %(kind)s archive. Unpack it and upload the file of weights that it contains."),
)
LEGACY_TAR = define(
    "legacy_tar",
    gettext_noop(
        "This file has the tar format of PyTorch 0.1. Load it with an old version of PyTorch and save the weights "
        'again with torch.save(model.state_dict(), "weights.pt").'
    ),
)
SHARD_INDEX = define(
    "shard_index",
    gettext_noop(
        "This file lists the parts of a model that is stored in several files, and contains no weights. Load all "
        "parts, merge them into one dict, and save it with torch.save or safetensors.torch.save_file."
    ),
)
PART_OF_WEIGHTS = define(
    "part_of_weights",
    gettext_noop(
        "This is part %(number)d of %(count)d of a model that is stored in several files. Load all parts, merge them "
        "into one dict, and save it with torch.save or safetensors.torch.save_file."
    ),
)
GIT_LFS_POINTER = define(
    "git_lfs_pointer",
    gettext_noop("This is a pointer of Git LFS, not the file itself. Fetch the file with: git lfs pull"),
)
WEB_PAGE = define(
    "web_page",
    gettext_noop(
        "This is a web page, not weights: the download was redirected, for example to a login. Download the file again "
        "in a browser."
    ),
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

EXPORT_NO_BOXES = define(
    "export_no_boxes", gettext_noop("Non-maximum suppression is only available for detection models.")
)
EXPORT_NMS_ONE_IMAGE = define(
    "export_nms_one_image",
    gettext_noop(
        "Non-maximum suppression inside the model takes one image at a time. Choose a fixed batch size, or no "
        "suppression."
    ),
)
EXPORT_OPSET = define(
    "export_opset",
    gettext_noop("Opset %(opset)d is not available for this model. Choose one from %(least)d to %(most)d."),
)
EXPORT_TWO_STAGES = define(
    "export_two_stages",
    gettext_noop(
        "A two-stage detector chooses proposals for one image of one size. Choose a fixed batch size and a "
        "fixed image size."
    ),
)
EXPORT_TRANSFORMER_SIZE = define(
    "export_transformer_size",
    gettext_noop("The queries of this detector are made for images of one size. Choose a fixed image size."),
)
EXPORT_SIZE_FIXED = define(
    "export_size_fixed",
    gettext_noop("This network only takes images of its own size: %(error)s. Choose a fixed image size."),
)
HALF_DIFFERS = define(
    "export_half_differs",
    gettext_noop(
        "With weights in half precision, the scores differ by up to %(difference)s (allowed: %(allowed)s). "
        "Choose single precision."
    ),
)
HALF_OVERFLOW = define(
    "export_half_overflow",
    gettext_noop("The weights %(tensor)s are too large for half precision. Choose single precision."),
)
