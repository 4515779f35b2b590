"""The one importer of ONNX Runtime: a graph from bytes, run on the provider that was asked for."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from service.scoring.batch import Array
from service.scoring.cpu import usable_cpus
from service.scoring.errors import ModelRefusedError, ProviderUnavailableError
from service.scoring.row_buckets import BoundSettings, fill
from service.scoring.shared_weights import SharedWeights

Provider = Literal["cpu", "cuda"]
WantedProvider = Literal["auto", "cpu", "cuda"]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

_FOLDER = "session.model_external_initializers_file_folder_path"
_NOWHERE = "/dev/null/nowhere"
"""Below a file nothing can exist: where ONNX Runtime is sent for external data that was not handed over in memory."""

_FATAL = 4
"""ONNX Runtime's log level: what is less than fatal also comes as an exception, and is logged once, by us."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """``provider``: ``auto`` takes CUDA where it works. ``intra_op_threads``: None follows the CPUs this process may use.

    ``bound``: how CUDA runs; on a CPU each batch is handed over as it is.
    """

    provider: WantedProvider = "auto"
    intra_op_threads: int | None = None
    bound: BoundSettings | None = None

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

    def __init__(
        self,
        model: bytes,
        external_files: Mapping[str, bytes],
        settings: SessionSettings,
        *,
        shared: SharedWeights | None = None,
    ) -> None:
        """Build the graph from ``model``; external data comes from ``external_files`` (by name) and from nowhere else.

        Or from ``shared``; one of the two, for ONNX Runtime crashes on both.

        Raises:
            ModelRefusedError: ONNX Runtime does not accept the graph, or it names other external data.
            ProviderUnavailableError: CUDA was demanded and cannot be used.
        """
        if shared is not None and external_files:
            raise ValueError("external data comes from files in memory or from shared weights, not from both")
        # A build for CUDA on a machine without a device: auto means the CPU then, for shared weights as for the graph.
        wanted: WantedProvider = "cpu" if settings.provider == "auto" and not cuda_is_usable() else settings.provider
        providers = choose_providers(wanted, onnxruntime.get_available_providers(), settings.bound)
        self._shared = shared  # ONNX Runtime keeps pointers into it
        try:
            self._session = _session(model, external_files, settings, providers, shared)
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
        self._bound = _bound_runs(self._session, settings.bound, self.provider)
        self._run = direct_run(self._session)
        self._options = onnxruntime.RunOptions()
        if self.provider == "cuda":  # a run whose arrays come and go is never recorded
            self._options.add_run_config_entry("gpu_graph_id", "-1")

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The named outputs for these feeds. Raises whatever ONNX Runtime raises."""
        if self._bound is not None:
            found = self._bound.run(outputs, feeds)
            if found is not None:
                return found
        names = outputs if type(outputs) is list else list(outputs)
        return dict(zip(names, self._run(names, feeds if type(feeds) is dict else dict(feeds), self._options), strict=True))


def direct_run(session: onnxruntime.InferenceSession) -> Callable[..., list[Array]]:
    """The compiled ``run`` below the library's Python one, which looks anew at every call whether any of the inputs is missing,
    of another device or recorded: some microseconds for what was checked already. The public one where there is no such.
    """
    run: Callable[..., list[Array]] = getattr(getattr(session, "_sess", None), "run", session.run)
    return run


class _Buffers:
    """One size's inputs and outputs at fixed addresses, bound once. ``number`` tells its CUDA graph from the others'."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        device: Provider,
        shapes: Mapping[str, tuple[Array, tuple[int, ...]]],
        outputs: Mapping[str, tuple[Any, tuple[int, ...]]],
        number: int,
    ) -> None:
        self._session = session
        self._device = device
        self.binding = session.io_binding()
        self.options = onnxruntime.RunOptions()
        if device == "cuda":
            self.options.add_run_config_entry("gpu_graph_id", str(number))
        self._host = {name: np.zeros(shape, array.dtype) for name, (array, shape) in shapes.items()}
        self._filled = dict.fromkeys(shapes, 0)
        self._inputs = {}
        for name, host in self._host.items():
            # On a CPU this is the same memory as ``host``; on a GPU a copy that is brought up to date before each run.
            self._inputs[name] = onnxruntime.OrtValue.ortvalue_from_numpy(host, device, 0)
            self.binding.bind_ortvalue_input(name, self._inputs[name])
        self._outputs = {
            name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
            for name, (dtype, shape) in outputs.items()
        }
        for name, value in self._outputs.items():
            self.binding.bind_ortvalue_output(name, value)

    def run(self, feeds: Mapping[str, Array], counts: Mapping[str, int]) -> dict[str, Array]:
        """Fill, run, and the outputs without their padding."""
        for name, host in self._host.items():
            self._filled[name] = fill(host, feeds[name], self._filled[name])
            if self._device == "cuda":
                self._inputs[name].update_inplace(host)
        self._session.run_with_iobinding(self.binding, self.options)
        return {name: value.numpy()[: counts[name]].copy() for name, value in self._outputs.items()}


class _BoundRuns:
    """Runs at the sizes of ``RowBuckets``. The graph's first axes must be named ``rows`` and ``users``, or be fixed."""

    def __init__(self, session: onnxruntime.InferenceSession, settings: BoundSettings, device: Provider) -> None:
        self._session = session
        self._buckets = {"rows": settings.rows, "users": settings.users}
        self._device = device
        self._axes = {each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())}
        self._types = {each.name: _dtype(each.type) for each in session.get_outputs()}
        self._buffers: dict[tuple[object, ...], _Buffers] = {}
        self._lock = threading.Lock()

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array] | None:
        """The outputs; None when there is no size for this batch, or the graph's axes are not known."""
        counts: dict[str, int] = {}
        for name, array in feeds.items():
            axis = self._axes[name][0]
            if isinstance(axis, str) and counts.setdefault(axis, len(array)) != len(array):
                return None
        sizes = {axis: self._buckets[axis].size(count) for axis, count in counts.items() if axis in self._buckets}
        if len(sizes) < len(counts) or None in sizes.values() or not self._fixed_but_first(outputs, sizes):
            return None
        with self._lock:
            key = (tuple(outputs), *sorted(sizes.items()))
            buffers = self._buffers.get(key)
            if buffers is None:
                buffers = self._buffers[key] = self._bind(outputs, feeds, sizes)
            lengths = {name: self._axes[name][0] for name in outputs}
            return buffers.run(feeds, {name: counts.get(axis, axis) for name, axis in lengths.items()})

    def _fixed_but_first(self, outputs: Sequence[str], sizes: Mapping[str, int | None]) -> bool:
        """Whether the outputs' shapes follow from the sizes alone."""
        shapes = [self._axes[name] for name in outputs]
        return all(
            (shape[0] in sizes or isinstance(shape[0], int)) and all(isinstance(n, int) for n in shape[1:]) for shape in shapes
        )

    def _bind(self, outputs: Sequence[str], feeds: Mapping[str, Array], sizes: Mapping[str, int | None]) -> _Buffers:
        def padded(name: str, rest: Sequence[int]) -> tuple[int, ...]:
            axis = self._axes[name][0]
            return (sizes.get(axis, axis), *rest)

        return _Buffers(
            self._session,
            self._device,
            {name: (array, padded(name, array.shape[1:])) for name, array in feeds.items()},
            {name: (np.dtype(self._types[name]).type, padded(name, self._axes[name][1:])) for name in outputs},
            len(self._buffers) + 1,
        )


def _bound_runs(session: onnxruntime.InferenceSession, settings: BoundSettings | None, device: Provider) -> _BoundRuns | None:
    if settings is None or (device == "cpu" and not settings.on_cpu):
        return None
    return _BoundRuns(session, settings, device)


@cache
def cuda_is_usable() -> bool:
    """Whether this build has CUDA and a device answers; the first call takes a moment and some memory of the device."""
    if _CUDA not in onnxruntime.get_available_providers():
        return False
    try:
        onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), "cuda", 0)
    except Exception:  # the library's exceptions share no base class
        return False
    return True


def choose_providers(
    wanted: WantedProvider, available: Sequence[str], bound: BoundSettings | None = None
) -> list[tuple[str, dict[str, str]]]:
    """Providers with their options, the preferred one first.

    TF32 is switched off: it rounds products to 10 bits of mantissa, far outside the tolerance of the golden rows.

    Raises:
        ProviderUnavailableError: ``cuda`` is wanted from a build that does not have it.
    """
    cpu: tuple[str, dict[str, str]] = (_CPU, {})
    if wanted == "cpu":
        return [cpu]
    if _CUDA in available:
        graphs = {"enable_cuda_graph": "1"} if bound is not None and bound.cuda_graphs else {}
        return [(_CUDA, {"use_tf32": "0", **graphs}), cpu]
    if wanted == "cuda":
        raise ProviderUnavailableError(
            f"CUDA was asked for, but this build of ONNX Runtime offers only {', '.join(available)}: "
            "install onnxruntime-gpu instead of onnxruntime, or set the provider to auto or cpu"
        )
    return [cpu]


def _session(
    model: bytes,
    external_files: Mapping[str, bytes],
    settings: SessionSettings,
    providers: list[tuple[str, dict[str, str]]],
    shared: SharedWeights | None,
) -> onnxruntime.InferenceSession:
    with tempfile.TemporaryDirectory(prefix="rankline-weights-") as directory:
        options = _options(settings, external_files, _NOWHERE if shared is None else directory)
        if shared is not None:
            shared.write_stand_ins(Path(directory))
            for name, value in shared.on("cuda" if providers[0][0] == _CUDA else "cpu", _value_of).items():
                options.add_initializer(name, value)
        # The library's own fallback would print and go on with another provider.
        return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=False)


def _value_of(table: Array, device: str) -> onnxruntime.OrtValue:
    """On a CPU the table's own memory, on a GPU a copy."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(table, device, 0)


def _options(
    settings: SessionSettings, external_files: Mapping[str, bytes], folder: str = _NOWHERE
) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = settings.intra_op_threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # Idle pool threads that spin take the CPUs that the event loop and Redis need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(_FOLDER, folder)
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
