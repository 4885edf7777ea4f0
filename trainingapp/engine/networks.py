"""The network that a configuration describes, without data or a run."""

from pathlib import Path

from torch import nn

from trainingapp.contract.config import RunConfig, parse_config
from trainingapp.contract.errors import WeightsUnavailable
from trainingapp.contract.messages.tasks import OTHER_NETWORK
from trainingapp.contract.model_card import Card
from trainingapp.engine.tasks.registry import implementation
from trainingapp.engine.transfer import library_state


def build_network(config: RunConfig, class_count: int, *, weights_from: Path | None = None) -> nn.Module:
    """The network of `config` on the CPU; see `BaseTask.build_network`. Raises BadConfig, WeightsUnavailable."""
    return implementation(config.task).build_network(config, class_count, weights_from=weights_from)


def load_network(card: Card, path: Path) -> nn.Module:
    """The network of an entry of the library, in evaluation mode. Raises WeightsUnavailable, BadConfig."""
    network = build_network(parse_config(card["config"]), len(card["classes"]))
    try:
        network.load_state_dict(library_state(path))
    except RuntimeError as error:
        raise WeightsUnavailable(OTHER_NETWORK(name=card["architecture"], error=str(error))) from error
    return network.eval().requires_grad_(False)


def load_plain_network(card: Card, path: Path) -> nn.Module:
    """The same network with plain inputs and outputs; see `BaseTask.plain_network`."""
    return implementation(card["task"]).plain_network_of(load_network(card, path), card)
