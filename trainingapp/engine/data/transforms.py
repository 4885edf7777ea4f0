"""Random changes to training pictures, torchvision's transforms (v2)."""

from torch import nn
from torchvision.transforms import v2


def make_augmentation(strength: str, size: int) -> nn.Module:
    """The transform of uint8 [3, size, size] to the same, drawing on torch's global CPU generator.

    light   mirror and shift by up to an eighth
    medium  mirror, crop of 60 to 100 % of the area, and colour
    strong  as medium without colour, TrivialAugment (Müller & Hutter, arXiv:2103.10158) and random erasing
    """
    crop = v2.RandomResizedCrop(size, scale=(0.6, 1.0), ratio=(0.8, 1.25), antialias=True)
    match strength:
        case "none":
            return nn.Identity()
        case "light":
            shift = v2.RandomCrop(size, padding=size // 8, padding_mode="reflect")
            return v2.Compose([v2.RandomHorizontalFlip(), shift])
        case "medium":
            return v2.Compose([v2.RandomHorizontalFlip(), crop, v2.ColorJitter(0.3, 0.3, 0.3, 0.03)])
        case "strong":
            return v2.Compose([v2.RandomHorizontalFlip(), crop, v2.TrivialAugmentWide(), v2.RandomErasing(p=0.25)])
    raise AssertionError(strength)
