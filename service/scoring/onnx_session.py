"""The one importer of ONNX Runtime: a graph from bytes, run on the provider that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime

from service.scoring.batch import Array
from service.scoring.cpu import usable_cpus
from service.scoring.errors import ModelRefusedError, ProviderUnavailableError

Provider = Literal["cpu", "cuda"]
WantedProvider = Literal["auto", "cpu", "cuda"]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

_NOWHERE = "/dev/null/nowhere"
"""Below a file nothing can exist: where ONNX Runtime is sent for external data that was not handed over in memory."""

_FATAL = 4
"""ONNX Runtime's log level: what is less than fatal also comes as an exception, and is logged once, by us."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """``provider``: ``auto`` takes CUDA where it works. ``intra_op_threads``: None follows the CPUs this process may use."""

    provider: WantedProvider = "auto"
    intra_op_threads: int | None = None

    def __post_init__(self) -> None:
        if self.intra_op_threads is not None and self.intra_op_threads < 1:
            raise ValueError(f"intra_op_threads must be at least 1, not {self.intra_op_threads}")


@dataclass(frozen=True, slots=True)
class GraphValue:
    """An input or output of a graph: element type such as ``float32``; per axis its length, None when it may vary."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class OnnxSession:
    """A loaded graph. ``run`` may be called from several threads; it lets go of the interpreter lock while it computes."""

    def __init__(self, model: bytes, external_files: Mapping[str, bytes], settings: SessionSettings) -> None:
        """Build the graph from ``model``; external data comes from ``external_files`` (by name) and from nowhere else.

        Raises:
            ModelRefusedError: ONNX Runtime does not accept the graph, or it names other external data.
            ProviderUnavailableError: CUDA was demanded and cannot be used.
        """
        providers = choose_providers(settings.provider, onnxruntime.get_available_providers())
        try:
            # The library's own fallback would print and go on with another provider.
            self._session = onnxruntime.InferenceSession(
                model, _options(settings, external_files), providers=providers, enable_fallback=False
            )
        except Exception as error:  # the library's exceptions share no base class
            raise ModelRefusedError(f"ONNX Runtime does not accept the graph: {str(error)[:500]}") from None
        used = self._session.get_providers()
        if settings.provider == "cuda" and _CUDA not in used:
            raise ProviderUnavailableError(
                "CUDA was asked for, but ONNX Runtime could not start it: check the NVIDIA driver and the CUDA libraries, "
                "or set the provider to auto or cpu"
            )
        self.provider: Provider = "cuda" if _CUDA in used else "cpu"
        self.inputs = tuple(_graph_value(each) for each in self._session.get_inputs())
        self.outputs = tuple(_graph_value(each) for each in self._session.get_outputs())

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The named outputs for these feeds. Raises whatever ONNX Runtime raises."""
        return dict(zip(outputs, self._session.run(list(outputs), dict(feeds)), strict=True))


def choose_providers(wanted: WantedProvider, available: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Providers with their options, the preferred one first.

    TF32 is switched off: it rounds products to 10 bits of mantissa, far outside the tolerance of the golden rows.

    Raises:
        ProviderUnavailableError: ``cuda`` is wanted from a build that does not have it.
    """
    cpu: tuple[str, dict[str, str]] = (_CPU, {})
    if wanted == "cpu":
        return [cpu]
    if _CUDA in available:
        return [(_CUDA, {"use_tf32": "0"}), cpu]
    if wanted == "cuda":
        raise ProviderUnavailableError(
            f"CUDA was asked for, but this build of ONNX Runtime offers only {', '.join(available)}: "
            "install onnxruntime-gpu instead of onnxruntime, or set the provider to auto or cpu"
        )
    return [cpu]


def _options(settings: SessionSettings, external_files: Mapping[str, bytes]) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = settings.intra_op_threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # Idle pool threads that spin take the CPUs that the event loop and Redis need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    if external_files:
        options.add_external_initializers_from_files_in_memory(
            list(external_files), list(external_files.values()), [len(content) for content in external_files.values()]
        )
    return options


def _graph_value(value: onnxruntime.NodeArg) -> GraphValue:
    return GraphValue(value.name, _dtype(value.type), tuple(each if isinstance(each, int) else None for each in value.shape))


def _dtype(text: str) -> str:
    """``tensor(float)`` to ``float32``; what has no name in numpy keeps ONNX Runtime's."""
    name = text.removeprefix("tensor(").removesuffix(")")
    try:
        return np.dtype({"float": "float32", "double": "float64"}.get(name, name)).name
    except TypeError:
        return text
