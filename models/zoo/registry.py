"""The table of networks: name -> options and network. A new network is one file and one line here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from models.zoo.deepfm import DeepFM, DeepFMOptions
from models.zoo.din import ATTENTION, DIN, DINOptions
from models.zoo.history_fields import HistoryOptions
from models.zoo.inputs import ROWS_VIEWS, USERS_VIEWS, NetworkInputs
from models.zoo.mean_pooling import MeanPooling
from models.zoo.options import OptionsError

RESERVED_NAMES = frozenset(
    {
        ATTENTION,
        "history",
        "row_user",
        *(f"{view}_{kind}" for view in (*USERS_VIEWS, *ROWS_VIEWS) for kind in ("categories", "numbers")),
    }
)
Options = DeepFMOptions | DINOptions | HistoryOptions
Network = DeepFM | DIN | MeanPooling


@dataclass(frozen=True, slots=True)
class NetworkKind:
    """The options that a network takes, and the network."""

    options: type[Options]
    network: type[Network]


NETWORKS: dict[str, NetworkKind] = {
    "deepfm": NetworkKind(DeepFMOptions, DeepFM),
    "din": NetworkKind(DINOptions, DIN),
    "mean_pooling": NetworkKind(HistoryOptions, MeanPooling),
}


def network_kind(name: str) -> NetworkKind:
    """The entry called ``name``.

    Raises:
        OptionsError: there is none.
    """
    if name not in NETWORKS:
        raise OptionsError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_option_names(name: str, given: Iterable[str]) -> None:
    """Refuse options that the network called ``name`` does not have.

    Raises:
        OptionsError: naming the first unknown option and the known ones.
    """
    known = [field.name for field in fields(network_kind(name).options)]
    for option in given:
        if option not in known:
            raise OptionsError(f"{name} has no option {option!r}; it has {', '.join(known)}")


def build_network(name: str, options: Options, inputs: NetworkInputs, label: str) -> Network:
    """A freshly drawn network that predicts ``label``.

    Raises:
        OptionsError: no such network, options of another network or that do not fit the inputs, or a label that is the name
            of an input or of the attention.
    """
    if label in RESERVED_NAMES:
        raise OptionsError(f"a label cannot be called {label!r}: the graph has a tensor of that name")
    kind = network_kind(name)
    if type(options) is not kind.options:
        raise OptionsError(f"{name} takes {kind.options.__name__}, not {type(options).__name__}")
    return kind.network(options, inputs, label)  # type: ignore[arg-type]  # the line above matched the two
