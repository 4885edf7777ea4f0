"""The losses of torchvision's detectors over a whole batch, without a synchronization of host and device.

torchvision computes them image by image and selects what counts by boolean masks, whose number of elements the host
reads from the device: 17 to 87 times a step. Here objects are padded to the same number in each image, and what does
not count has the weight zero, so that the host never waits for a value. Only Faster R-CNN needs four numbers: of the
boxes that non-maximum suppression keeps, and of the proposals of each level.

Losses and gradients are those of torchvision but for rounding, because sums are taken in another order. Evaluation mode
is torchvision's own.

Legend: N images; M objects of an image, padded; L levels of the feature pyramid; A anchors of all levels, K those that
become proposals, P proposals, S samples; C classes, with the background where the family has a class for it; a box is
xyxy = left, top, right, bottom in pixels of the square image.
"""

from functools import singledispatch

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from trainingapp.engine.tasks.detection.losses.faster_rcnn import faster_rcnn_losses
from trainingapp.engine.tasks.detection.losses.fcos import fcos_losses
from trainingapp.engine.tasks.detection.losses.retinanet import retinanet_losses
from trainingapp.engine.tasks.detection.losses.ssd import ssd_losses
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets
from trainingapp.engine.tasks.detection.losses.task_aligned import task_aligned_losses
from trainingapp.engine.tasks.detection.pan import PanDetector

Losses = dict[str, torch.Tensor]


@singledispatch
def detector_losses(model: nn.Module, images_NCHW: torch.Tensor, targets: PaddedTargets) -> Losses:
    """The parts of the loss, scalars, by the names and in the order of torchvision; for any mode of the model.

    Raises TypeError for a network of another family, which registers a function of its own.
    """
    raise TypeError(f"there is no batched loss for {type(model).__name__}")


detector_losses.register(FCOS, fcos_losses)
detector_losses.register(RetinaNet, retinanet_losses)
detector_losses.register(SSD, ssd_losses)
detector_losses.register(FasterRCNN, faster_rcnn_losses)
detector_losses.register(PanDetector, task_aligned_losses)
