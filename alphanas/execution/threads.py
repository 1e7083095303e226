"""What of the machine a worker and the libraries in it may take; they read these variables once, when they are loaded."""

from __future__ import annotations

import os

# XLA's CPU client sizes its pools by NPROC; on jax 0.10 the flags --xla_cpu_multi_thread_eigen and intra_op_parallelism_threads
# change nothing (processor time over wall time of a matrix product on 2 cores: 1.9 with them, 1.0 with NPROC=1).
VARIABLES = (
    "NPROC",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TVM_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables that hold JAX, BLAS, OpenMP and TVM to this many threads."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, saw {threads}")
    return {name: str(threads) for name in VARIABLES}


def accelerator_environment() -> dict[str, str]:
    """Environment variables under which JAX takes a GPU's memory as it needs it: workers share the GPU. What the user set holds."""
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    return {} if name in os.environ else {name: "false"}


def memory_environment() -> dict[str, str]:
    """Environment variables under which glibc asks for large arrays in huge pages. What the user set holds.

    XLA takes and gives back a step's arrays as a whole. In pages of 4 KiB, a step of `resnet18_cifar:16` on 128 pictures took
    87,000 page faults and a fifth of its time in the kernel; in huge pages it takes 300. Other C libraries do not read it.
    """
    name, setting = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
    chosen = os.environ.get(name, "")
    return {} if setting in chosen else {name: ":".join(filter(None, (chosen, f"{setting}=1")))}
