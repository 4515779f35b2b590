"""Does the graph keep the manifest's word, and can the encoder fill it? Pure comparisons; every difference is listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from feature_store.encoding.encoder import HISTORY_INPUT, ROWS_AXIS_VIEWS, USERS_AXIS_VIEWS, FeatureEncoder
from models.manifest import ITEM_PART, GraphInput, ItemPart, Manifest
from service.scoring.batch import ATTENTION, ROW_USER
from service.scoring.onnx_session import GraphValue


def graph_differences(manifest: Manifest, inputs: Sequence[GraphValue], outputs: Sequence[GraphValue]) -> list[str]:
    """What the graph has other than its manifest says: names, element types, ranks, widths; empty when all is well."""
    return [
        *_differences("input", {each.name: _expected_input(each) for each in manifest.inputs}, inputs),
        *_differences("output", _expected_outputs(manifest), outputs),
        *(
            f"output {each.name}: its meaning is {each.meaning}; exactly the output named {ATTENTION} means {ATTENTION}"
            for each in manifest.outputs
            if (each.name == ATTENTION) != (each.meaning == ATTENTION)
        ),
    ]


def form_differences(
    form: Sequence[GraphInput], manifest: Manifest, inputs: Sequence[GraphValue], outputs: Sequence[GraphValue]
) -> list[str]:
    """The same of a collapsed form, whose inputs are its own and may be fixed to one user."""
    return [
        *_differences("input", {each.name: _expected_input(each) for each in form}, map(_free_first_axis, inputs)),
        *_differences("output", _expected_outputs(manifest), outputs),
    ]


def item_graph_differences(part: ItemPart, inputs: Sequence[GraphValue], outputs: Sequence[GraphValue]) -> list[str]:
    """The same of a collapsed version's item graph."""
    made = GraphValue(ITEM_PART, "float32", (None, part.width))
    return [
        *_differences("input", {each.name: _expected_input(each) for each in part.inputs}, inputs),
        *_differences("output", {ITEM_PART: made}, outputs),
    ]


def _free_first_axis(value: GraphValue) -> GraphValue:
    return replace(value, shape=(None, *value.shape[1:])) if value.shape[:1] == (1,) else value


def encoder_differences(manifest: Manifest, encoder: FeatureEncoder) -> list[str]:
    """Inputs that the encoder cannot give as the manifest wants them; blocks that the graph does not use are no difference."""
    given = {each.name: each for each in _encoded_inputs(encoder)}
    problems = [problem for each in manifest.inputs if (problem := _encoding_problem(each, given))]
    if manifest.history_length != encoder.history_length:
        problems.append(f"history length: the encoder cuts at {encoder.history_length}, not {manifest.history_length}")
    if manifest.uses_history != any(each.name == HISTORY_INPUT for each in manifest.inputs):
        problems.append(f"uses_history is {manifest.uses_history}, against the inputs")
    if any(each.axis == "users" for each in manifest.inputs) != any(each.name == ROW_USER for each in manifest.inputs):
        problems.append(f"input {ROW_USER}: needed exactly when another input stands on the users axis")
    return problems


def _encoded_inputs(encoder: FeatureEncoder) -> Iterator[GraphInput]:
    """Every input that an encoded request can have, as a manifest would write it."""
    for view in (*USERS_AXIS_VIEWS, *ROWS_AXIS_VIEWS):
        axis = "users" if view in USERS_AXIS_VIEWS else "rows"
        widths = {"categories": encoder.views[view].slots, "numbers": len(encoder.views[view].numbers)}
        dtypes = {"categories": "int32", "numbers": "float32"}
        for kind, width in widths.items():
            if width:
                yield GraphInput.model_validate({"name": f"{view}_{kind}", "dtype": dtypes[kind], "axis": axis, "width": width})
    yield GraphInput(name=HISTORY_INPUT, dtype="int32", axis="users", width=encoder.history_length)
    yield GraphInput(name=ROW_USER, dtype="int32", axis="rows")


def _encoding_problem(wanted: GraphInput, given: dict[str, GraphInput]) -> str | None:
    encoded = given.get(wanted.name)
    if encoded is None:
        return f"input {wanted.name}: the encoder has no such block (it gives {', '.join(given)})"
    if encoded != wanted:
        return f"input {wanted.name}: the encoder gives {_text(encoded)}, not {_text(wanted)}"
    return None


def _text(value: GraphInput) -> str:
    return f"{value.dtype} [{value.axis}{'' if value.width is None else f', {value.width}'}]"


def _expected_input(value: GraphInput) -> GraphValue:
    shape = (None,) if value.width is None else (None, value.width)
    return GraphValue(value.name, value.dtype, shape)


def _expected_outputs(manifest: Manifest) -> dict[str, GraphValue]:
    return {
        each.name: GraphValue(each.name, "float32", (None, manifest.history_length) if each.meaning == ATTENTION else (None,))
        for each in manifest.outputs
    }


def _differences(kind: str, expected: dict[str, GraphValue], found: Iterable[GraphValue]) -> Iterator[str]:
    in_graph = {each.name: each for each in found}
    for name in sorted(expected.keys() - in_graph.keys()):
        yield f"{kind} {name}: in the manifest, not in the graph"
    for name in sorted(in_graph.keys() - expected.keys()):
        yield f"{kind} {name}: in the graph, not in the manifest"
    for name in sorted(expected.keys() & in_graph.keys()):
        if not _fits(in_graph[name], expected[name]):
            yield f"{kind} {name}: the manifest says {_shape_text(expected[name])}, the graph has {_shape_text(in_graph[name])}"


def _fits(found: GraphValue, expected: GraphValue) -> bool:
    """Same type and rank; the first axis varies; a width that the graph leaves open is left to the golden rows."""
    return (
        found.dtype == expected.dtype
        and len(found.shape) == len(expected.shape)
        and found.shape[0] is None
        and found.shape[1:] in (expected.shape[1:], (None,) * (len(expected.shape) - 1))
    )


def _shape_text(value: GraphValue) -> str:
    return f"{value.dtype} [{', '.join('any' if each is None else str(each) for each in value.shape)}]"
