"""The architectures that the check goes through."""

import re

from trainingapp.contract.architectures import missing_library
from trainingapp.contract.tasks.descriptor import BOXES_KINDS
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.gpu_check.case import Plan

Network = tuple[str, str]
"""A task and the name of one of its architectures."""


def network(model: str) -> Network:
    """The architecture of this name, with its task. Raises StopIteration for a name that no task knows."""
    return next(task.name for task in TASKS.values() if task.has_architecture(model)), model


QUICK = tuple(map(network, ("resnet18", "smp/unet_resnet18", "fcos_resnet18_fpn", "fasterrcnn_resnet18_fpn")))

#: Built by name only, and known for layers without a deterministic gradient.
UNLISTED = tuple(map(network, ("smp/pspnet_resnet18", "smp/upernet_resnet18")))


def compiles(model: str) -> bool:
    """Whether torchvision compiles a part of the network where algorithms must be deterministic: half a minute."""
    return model.startswith(("fasterrcnn", "maskrcnn"))


def listed() -> list[Network]:
    """Every architecture that the tasks list and whose library is installed."""
    every = [(task.name, model) for task in TASKS.values() for model in task.architectures]
    return [(task, model) for task, model in every if missing_library(model) is None]


def chosen(plan: Plan) -> list[Network]:
    """All, the first of each family, or with --quick a few."""
    if plan.quick:
        return list(QUICK)
    if plan.every_architecture:
        return listed()
    families: dict[str, Network] = {}
    for task, model in listed():
        families.setdefault(family(task, model), (task, model))
    return list(families.values())


def family(task: str, model: str) -> str:
    """Architectures of a family have the same layers and losses, and differ in size or backbone.

    The second version of a detector has a head of its own.
    """
    library, _, name = model.rpartition("/")
    version = "_v2" if has_boxes(task) and name.endswith("_v2") else ""
    first = re.split(r"[_\d]", name)[0]
    return f"{task} {library} {first}{version}"


def has_boxes(task: str) -> bool:
    """Whether the task is about objects, so that its losses depend on their number."""
    return TASKS[task].prediction in BOXES_KINDS
