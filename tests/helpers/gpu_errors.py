"""Errors of GPUs as torch, CUDA and the libraries below have reported them, each with its class of failure."""

#: (class, text of the RuntimeError). File names and process numbers are of the reports.
RECORDED: list[tuple[str, str]] = [
    ("out_of_memory", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB"),
    ("out_of_memory", "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ("out_of_memory", "CUDA driver error: out of memory"),
    (
        "out_of_memory",
        "CUDA out of memory. Allocation was preemptively rejected because it would exceed per_process_memory_fraction "
        "limit. Requested size: 20.00 MiB",
    ),
    (
        "out_of_memory",
        "CUDA ran out of memory outside PyTorch's allocator. If this workload uses many dynamic shapes, cuDNN may need "
        "additional device memory to JIT-compile shape-specialized kernels.",
    ),
    ("out_of_memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("out_of_memory", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    ("out_of_memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ("out_of_memory", "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    ("out_of_memory", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ("out_of_memory", "GET was unable to find an engine to execute this computation"),
    ("out_of_memory", "FIND was unable to find an engine to execute this computation"),
    (
        "out_of_memory",
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":830, please report a bug '
        "to PyTorch. ",
    ),
    (
        "out_of_memory",
        'NVML_SUCCESS == DriverAPI::get()->nvmlInit_v2_() INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator'
        '.cpp":1123, please report a bug to PyTorch. ',
    ),
    (
        "driver",
        "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
        "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx "
        "Alternatively, go to: https://pytorch.org to install a PyTorch version that has been compiled with your "
        "version of the CUDA driver.",
    ),
    (
        "driver",
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from "
        "http://www.nvidia.com/Download/index.aspx",
    ),
    (
        "driver",
        "CUDA error: no kernel image is available for execution on the device\nSearch for "
        "`cudaErrorNoKernelImageForDevice' in https://docs.nvidia.com/cuda/cuda-runtime-api for more information.",
    ),
    ("driver", "CUDA error: the provided PTX was compiled with an unsupported toolchain."),
    (
        "driver",
        "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() "
        "that might have already set an error? Error 803: system has unsupported display driver / cuda driver "
        "combination",
    ),
    (
        "driver",
        "Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on non supported "
        "HW",
    ),
    (
        "device_assert",
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other "
        "API call, so the stacktrace below might be incorrect.",
    ),
    ("device_error", "CUDA error: an illegal memory access was encountered"),
    ("device_error", "CUDA error: unspecified launch failure"),
    ("device_error", "CUDA error: uncorrectable ECC error encountered"),
    ("device_error", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    (
        "shared_memory",
        "DataLoader worker (pid 46794) is killed by signal: Bus error. It is possible that dataloader's workers are "
        "out of shared memory. Please try to raise your shared memory limit.",
    ),
    (
        "shared_memory",
        "unable to allocate shared memory(shm) for file </torch_10663_2507736064_0>: No space left on device (28)",
    ),
    ("shared_memory", "unable to write to file </torch_18692_1954506624>"),
    (
        "not_deterministic",
        "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation, or you can "
        "use the 'warn_only=True' option, if that's acceptable for your application.",
    ),
]
