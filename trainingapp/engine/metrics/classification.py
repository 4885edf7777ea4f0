"""Classification metrics, gathered on the device and read once at the end."""

from typing import Any

import torch


class ClassificationMeter:
    """Sums over batches. `update` never waits for a GPU; reading a value does.

    `confusion_CC` counts pictures with true class in rows and predicted class in columns.
    """

    def __init__(self, class_count: int, device: torch.device, *, confusion: bool = False) -> None:
        self._class_count = class_count
        self._top_k = min(5, class_count)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        #: pictures seen, right at the first guess, right within the first five
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)
        cells = class_count * class_count if confusion else 0
        self._confusion = torch.zeros(cells, dtype=torch.int64, device=device)

    def update(self, loss: torch.Tensor, logits_NC: torch.Tensor, labels_N: torch.Tensor) -> None:
        """Add a batch; `loss` is the mean over its N pictures."""
        guesses_NK = logits_NC.detach().topk(self._top_k, dim=1).indices
        hits_NK = guesses_NK == labels_N[:, None]
        ones_N = torch.ones_like(labels_N)
        self._loss_sum += loss.detach().double() * len(labels_N)
        self._counts += torch.stack([ones_N.sum(), hits_NK[:, 0].sum(), hits_NK.sum()])
        if len(self._confusion):
            cells_N = labels_N * self._class_count + guesses_NK[:, 0]
            self._confusion.index_put_((cells_N,), ones_N, accumulate=True)

    def reset(self) -> None:
        for tensor in self.state_dict().values():
            tensor.zero_()

    def training_values(self) -> dict[str, float]:
        """loss and top1 of what was seen since the last reset."""
        seen, top1, _ = self._counts.tolist()
        return {"loss": self._loss_sum.item() / max(1, seen), "top1": top1 / max(1, seen)}

    def seen(self) -> int:
        return int(self._counts[0].item())

    def values(self) -> dict[str, float]:
        """loss, top1, top5 (of five or fewer classes always 1) and macro_f1, each 0 to 1 but the loss."""
        seen, top1, top5 = self._counts.tolist()
        return {
            "loss": self._loss_sum.item() / max(1, seen),
            "top1": top1 / max(1, seen),
            "top5": top5 / max(1, seen),
            "macro_f1": macro_f1(self.confusion()),
        }

    def confusion(self) -> torch.Tensor:
        """int64 [C, C] on the CPU."""
        return self._confusion.cpu().view(self._class_count, self._class_count)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"loss_sum": self._loss_sum, "counts": self._counts, "confusion": self._confusion}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def macro_f1(confusion_CC: torch.Tensor) -> float:
    """Mean F1 of the classes that occur, as truth or as a guess: scikit-learn's f1_score(average="macro").

    F1 = 2 hits / (pictures of the class + guesses of the class).
    """
    hits_C = confusion_CC.diagonal().double()
    total_C = (confusion_CC.sum(0) + confusion_CC.sum(1)).double()
    occurs_C = total_C > 0
    if not occurs_C.any():
        return 0.0
    return float((2 * hits_C[occurs_C] / total_C[occurs_C]).mean())


def per_class_accuracy(confusion_CC: torch.Tensor) -> list[float | None]:
    """Share of each class's pictures that were recognised (its recall); None for a class without a picture."""
    seen_C = confusion_CC.sum(1).tolist()
    hits_C = confusion_CC.diagonal().tolist()
    return [hits / seen if seen else None for hits, seen in zip(hits_C, seen_C, strict=True)]
