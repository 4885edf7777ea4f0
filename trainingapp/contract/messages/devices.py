"""Messages about GPUs: why one cannot be used, and why one was quarantined."""

from trainingapp.contract.messages import define, gettext_noop

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

# Why no GPU of a host can be used

GPU_DRIVER_FAILED = define(
    "gpu_driver_failed",
    gettext_noop("The driver of its GPUs cannot be asked (%(error)s). Restart the host, or install the driver again."),
)
