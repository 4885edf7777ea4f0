"""Messages about GPUs: why one cannot be used, and why one was quarantined."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# Why no run can be given a GPU

GPU_UNCHECKED = define("gpu_unchecked", gettext_noop("It is being checked whether torch can use it."))
GPU_LOST = define(
    "gpu_lost",
    gettext_noop(
        "The driver has lost it (%(error)s). Restart the host; if that recurs, check the card, its power supply and "
        "its slot."
    ),
)
GPU_UNREADABLE = define("gpu_unreadable", gettext_noop("The driver cannot read it (%(error)s)."))
GPU_WITHOUT_SLICES = define(
    "gpu_without_slices",
    gettext_noop("It is divided (MIG), but has no instance. Create instances by nvidia-smi mig, or turn MIG off."),
)
GPU_PROHIBITED = define(
    "gpu_prohibited",
    gettext_noop("Its compute mode is prohibited. Allow it by nvidia-smi --compute-mode=DEFAULT."),
)
GPU_CPU_BUILD = define(
    "gpu_cpu_build",
    gettext_noop("torch %(torch)s is a build for CPUs. Install a build for CUDA to train on the GPU."),
)
GPU_DRIVER = define(
    "gpu_driver",
    gettext_noop(
        "The driver is too old for torch %(torch)s, or does not match it (%(error)s). Update the driver, or install a "
        "build of torch for an older CUDA."
    ),
)
GPU_ARCHITECTURE = define(
    "gpu_architecture",
    gettext_noop(
        "torch %(torch)s has no kernels for its architecture. Install a build of torch that supports it, or hide the "
        "GPU by CUDA_VISIBLE_DEVICES."
    ),
)
GPU_BUSY = define(
    "gpu_busy",
    gettext_noop(
        "It is in exclusive-process mode, and another program uses it. End that program, or allow several by "
        "nvidia-smi --compute-mode=DEFAULT."
    ),
)
GPU_FULL = define(
    "gpu_full", gettext_noop("Other programs leave no memory to check it. It is checked again every 10 minutes.")
)
GPU_TIMEOUT = define(
    "gpu_timeout",
    gettext_noop("torch did not respond on it within %(seconds)d s. Restart the host if that recurs."),
)
GPU_CHECK_FAILED = define("gpu_check_failed", gettext_noop("A step of training on it failed (%(error)s)."))

# Why no GPU of a host can be used

GPU_DRIVER_FAILED = define(
    "gpu_driver_failed",
    gettext_noop("The GPU driver cannot be queried (%(error)s). Restart the host, or reinstall the driver."),
)
GPU_BACKEND_REFUSED = define(
    "gpu_backend_refused",
    gettext_noop("torch offers %(backend)s on this host, which CV Studio does not support: runs train on the CPU."),
)

# Why a GPU is in quarantine

QUARANTINED_FOR_ERRORS = define(
    "gpu_quarantined_for_errors",
    ngettext(
        "It is in quarantine: %(count)d run in a row failed with an error of the GPU. It is released when it passes a "
        "check, or by an administrator.",
        "It is in quarantine: %(count)d runs in a row failed with an error of the GPU. It is released when it passes a "
        "check, or by an administrator.",
    ),
)
QUARANTINED_AS_STUCK = define(
    "gpu_quarantined_as_stuck",
    gettext_noop(
        "It is in quarantine: a killed trainer (process %(pid)d) does not end, since it hangs in the driver. The GPU "
        "is checked when that process has ended, which may need a restart of the host."
    ),
)
QUARANTINED_BY = define("gpu_quarantined_by", gettext_noop("It was put in quarantine by %(name)s."))
