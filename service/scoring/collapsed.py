"""The collapsed forms of a published version, opened and checked: their graphs, and the table of the items' parts."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.encoding.encoder import Block, FeatureEncoder
from feature_store.item_table import BaseRows, ItemTable
from models.manifest import ITEM_PART, Collapsed, GraphForm, ItemPart, Manifest
from models.repository import PublishedVersion
from service.scoring.batch import ScoringRequest
from service.scoring.errors import ModelRefusedError
from service.scoring.golden import GoldenRequest
from service.scoring.graph_check import form_differences, item_graph_differences
from service.scoring.onnx_session import OnnxSession
from service.scoring.scorer import Form, Forms

OpenSession = Callable[[str], OnnxSession]
"""A graph file of the version by name to its session."""

_BLOCK_OF = {"item_categories": "categories", "item_numbers": "numbers"}
_CHECKED_ROWS = 256
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class OpenedForms:
    """What a version scores with. ``item_table`` brings the ``item_part`` of a request's items where a form reads it."""

    forms: Forms
    item_table: ItemTable | None


def open_forms(published: PublishedVersion, plain: Form, encoder: FeatureEncoder, open_session: OpenSession) -> OpenedForms:
    """The plain graph alone, or with its collapsed forms.

    Raises:
        ModelRefusedError: a graph is not what the manifest says, or the table is not what the item graph makes.
        VersionRefusedError: a file is not the one that was published.
    """
    collapsed = published.manifest.collapsed
    if collapsed is None:
        return OpenedForms(Forms(plain), None)
    forms = Forms(
        plain,
        one_user=_open_form(published.manifest, collapsed.one_user, open_session),
        many_users=_open_form(published.manifest, collapsed.many_users, open_session),
        takes_item_part=_takes_item_part(collapsed),
    )
    part = collapsed.item_part
    if part is None:
        return OpenedForms(forms, None)
    return OpenedForms(forms, _open_table(published, part, encoder, open_session))


def forms_elsewhere(
    published: PublishedVersion, encoder: FeatureEncoder, open_session: OpenSession, *, collapsed: bool
) -> OpenedForms:
    """What requests must bring for a version that another process scores, and its item table: no graph but the item's.

    Raises as ``open_forms``.
    """
    manifest, graph = published.manifest, _Elsewhere()
    plain = Form(graph, manifest.inputs)
    if manifest.collapsed is None or not collapsed:
        return OpenedForms(Forms(plain), None)
    forms = Forms(
        plain,
        one_user=Form(graph, manifest.collapsed.one_user.inputs),
        many_users=Form(graph, manifest.collapsed.many_users.inputs),
        takes_item_part=_takes_item_part(manifest.collapsed),
    )
    part = manifest.collapsed.item_part
    return OpenedForms(forms, None if part is None else _open_table(published, part, encoder, open_session))


class _Elsewhere:
    """Stands for a graph that another process runs."""

    def run(self, *_: Any, **__: Any) -> dict[str, npt.NDArray[Any]]:
        raise RuntimeError("this graph is run by another process")


def collapsed_golden(golden: Sequence[GoldenRequest], opened: OpenedForms) -> list[GoldenRequest]:
    """The golden requests as the collapsed forms take them; none where there are no such forms."""
    if opened.forms.one_user is None:
        return []
    table = opened.item_table
    if table is None:
        return list(golden)
    return [replace(each, request=_with_item_part(each, table)) for each in golden]


def _with_item_part(golden: GoldenRequest, table: ItemTable) -> ScoringRequest:
    inputs = golden.request.inputs
    part = table.compute(block_of(inputs, golden.request.rows))
    return ScoringRequest({**inputs, ITEM_PART: part}, golden.request.rows, golden.request.want_attention)


def block_of(inputs: Mapping[str, npt.NDArray[Any]], rows: int) -> Block:
    """The item's graph inputs as a block; an absent one is [rows, 0]."""
    return Block(
        inputs.get("item_categories", np.empty((rows, 0), np.int32)),
        inputs.get("item_numbers", np.empty((rows, 0), np.float32)),
    )


def _open_form(manifest: Manifest, form: GraphForm, open_session: OpenSession) -> Form:
    session = open_session(form.onnx)
    _refuse_if(form.onnx, form_differences(form.inputs, manifest, session.inputs, session.outputs))
    return Form(session, form.inputs)


def _takes_item_part(collapsed: Collapsed) -> bool:
    return any(each.name == ITEM_PART for each in collapsed.one_user.inputs)


def _open_table(published: PublishedVersion, part: ItemPart, encoder: FeatureEncoder, open_session: OpenSession) -> ItemTable:
    session = open_session(part.onnx)
    _refuse_if(part.onnx, item_graph_differences(part, session.inputs, session.outputs))
    names = [each.name for each in part.inputs]

    def compute(block: Block) -> npt.NDArray[np.float32]:
        feeds = {name: np.ascontiguousarray(getattr(block, _BLOCK_OF[name])) for name in names}
        made: npt.NDArray[np.float32] = session.run([ITEM_PART], feeds)[ITEM_PART]
        return made

    base = None if part.table is None else _base_rows(published, part, encoder)
    if base is not None:
        _check_base(base, compute)
    return ItemTable(part.width, compute, base)


def _base_rows(published: PublishedVersion, part: ItemPart, encoder: FeatureEncoder) -> BaseRows:
    assert part.table is not None
    assert part.table_inputs is not None
    ids = encoder.item_key_column.ids.cardinality
    rows = _mapped(published, part.table)
    if rows.dtype != np.float32 or rows.shape != (ids, part.width):
        raise ModelRefusedError(f"{part.table}: float32 [{ids}, {part.width}] is needed, not {rows.dtype} {list(rows.shape)}")
    inputs = _inputs(published.file_bytes(part.table_inputs), part, ids)
    return BaseRows(rows, block_of(inputs, ids), encoder.item_key_slot)


def _mapped(published: PublishedVersion, name: str) -> npt.NDArray[Any]:
    """The array in a file that was checked, mapped and not read: the processes of a machine share its memory."""
    try:
        mapped: npt.NDArray[Any] = np.load(published.checked_path(name), mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ModelRefusedError(f"{name}: not an array: {error}") from None
    return mapped


def _inputs(content: bytes, part: ItemPart, ids: int) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
    except Exception as error:  # a dozen kinds: zip, compression, header, memory
        raise ModelRefusedError(f"{part.table_inputs}: not an archive of arrays: {error}") from None
    for each in part.inputs:
        array = arrays.get(each.name)
        if array is None or array.dtype != each.dtype or array.shape != (ids, each.width):
            raise ModelRefusedError(f"{part.table_inputs}: {each.name} must be {each.dtype} [{ids}, {each.width}]")
    return arrays


def _check_base(base: BaseRows, compute: Callable[[Block], npt.NDArray[np.float32]]) -> None:
    """Some rows, spread over the table, made anew: a table of other weights must not serve."""
    places = np.unique(np.linspace(0, len(base.rows) - 1, _CHECKED_ROWS).astype(np.int64))
    made = compute(Block(base.inputs.categories[places], base.inputs.numbers[places]))
    if not np.allclose(made, base.rows[places], rtol=_TOLERANCE, atol=_TOLERANCE):
        raise ModelRefusedError("the item table does not hold what the item graph makes of its inputs")


def _refuse_if(file: str, differences: Sequence[str]) -> None:
    if differences:
        raise ModelRefusedError(f"{file}: {'; '.join(differences)}")
