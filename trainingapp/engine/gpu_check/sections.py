"""The sections of the check, in the order in which they run."""

from trainingapp.engine.gpu_check import (
    determinism,
    environment,
    failures,
    families,
    memory,
    saving,
    speed,
    synchronizations,
)

SECTIONS = (
    environment.SECTION,
    families.SECTION,
    synchronizations.SECTION,
    determinism.SECTION,
    speed.SECTION,
    memory.SECTION,
    failures.SECTION,
    saving.SECTION,
)
