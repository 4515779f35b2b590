"""The manifest: the contract between who exports a model and who serves it. Needs no torch, onnx or ONNX Runtime.

A published version is a directory ``<repository>/<name>/<version>/``; ``manifest.json`` in it is written last and names every
other file with its SHA-256. A server refuses a version whose files, inputs or scores do not match.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MANIFEST_FILE = "manifest.json"
GOLDEN_INPUT = "input."
"""In the golden file (npz) an array of this prefix and a graph input's name holds that input."""
GOLDEN_OUTPUT = "output."
"""In the golden file an array of this prefix and a graph output's name holds torch's answer."""
_ROW_USER = "row_user"
_ITEM_INPUTS = ("item_categories", "item_numbers")
ITEM_PART = "item_part"
"""The output of a collapsed version's item graph, and the input of its forms that takes it: float32 [rows, width]."""

WEIGHT_FILE = re.compile(r"weight\.(?P<initializer>.+)\.npy")
"""A listed file of such a name (npy) holds the initializer so named of each of the version's graphs that has one."""

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ArtifactFile(_Strict):
    """One file of the version, by name inside its directory."""

    name: FileName
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class GraphInput(_Strict):
    """One input of the graph: which axis its first dimension counts, and its fixed width (None for a vector).

    ``row_user`` ties the axes: for each row the place of its user on the users axis.
    """

    name: str
    dtype: Literal["int32", "float32"]
    axis: Literal["users", "rows"]
    width: int | None = Field(default=None, ge=1)


class GraphOutput(_Strict):
    """One output: a score per row (``probability``, ``logit``, ``rating``), or ``attention`` [rows, history length]."""

    name: str
    meaning: Literal["probability", "logit", "rating", "attention"]


class TrainingRun(_Strict):
    """Where the weights came from: enough to train them again and to compare them."""

    run_id: str
    network: str
    label: str
    seed: int
    data_fingerprint: Sha256
    metrics: dict[str, float]
    library_versions: dict[str, str]


class Parity(_Strict):
    """Measured largest absolute difference between ONNX Runtime and torch, by case, and the tolerance it was held to."""

    tolerance: float = Field(gt=0)
    largest: float = Field(ge=0)
    cases: dict[str, float]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.largest != max(self.cases.values(), default=0.0):
            raise ValueError("largest is not the largest of the cases")
        if self.largest > self.tolerance:
            raise ValueError(f"parity error {self.largest:g} is above the tolerance {self.tolerance:g}")
        return self


class GraphForm(_Strict):
    """A rewriting of the plain graph with the same outputs, from other inputs or for fewer users."""

    onnx: FileName
    inputs: tuple[GraphInput, ...]


class ItemPart(_Strict):
    """What of the network depends on the item alone: once per item instead of once per candidate.

    ``onnx`` makes from the item's ``inputs`` the output ``item_part`` [rows, width]. ``table`` (npy, float32 [ids, width])
    holds it for every id of the item key's vocabulary, computed from ``table_inputs`` (npz, one array an input, [ids, ...]): a
    row is good for an item whose encoded features are still those. Where ids are hashed an id is no item: there is no table.
    """

    onnx: FileName
    inputs: tuple[GraphInput, ...]
    width: int = Field(ge=1)
    table: FileName | None
    table_inputs: FileName | None

    @field_validator("inputs")
    @classmethod
    def _of_the_item_alone(cls, inputs: tuple[GraphInput, ...]) -> tuple[GraphInput, ...]:
        wrong = [each.name for each in inputs if each.name not in _ITEM_INPUTS or each.axis != "rows"]
        if wrong or not inputs:
            raise ValueError(
                f"the item part is made of {', '.join(_ITEM_INPUTS)} of rows, not of {', '.join(wrong) or 'nothing'}"
            )
        return inputs

    @model_validator(mode="after")
    def _table_has_inputs(self) -> Self:
        if (self.table is None) != (self.table_inputs is None):
            raise ValueError("a table and its inputs come together")
        return self


class Cost(_Strict):
    """Arithmetic of one run, counted from the graph's shapes: floating point operations, and bytes read and written.

    What depends on rows is per row, the rest per user.
    """

    flops_per_row: float = Field(ge=0)
    bytes_per_row: float = Field(ge=0)
    flops_per_user: float = Field(ge=0)
    bytes_per_user: float = Field(ge=0)


class Collapsed(_Strict):
    """The same network without repeated work: the user's part once per user, the item's part from a table.

    ``one_user`` reads one user and broadcasts; ``many_users`` ties rows to users by ``row_user``. With an ``item_part`` both
    read it as an input in the place of the item's features. ``parity`` is measured against torch, as the plain graph's is.
    """

    one_user: GraphForm
    many_users: GraphForm
    item_part: ItemPart | None
    parity: Parity
    plain_cost: Cost
    collapsed_cost: Cost


_Named = ArtifactFile | GraphInput | GraphOutput


class Manifest(_Strict):
    """Everything a server must know about a version before it runs it."""

    schema_version: Literal[1] = 1
    name: ModelName
    version: int = Field(ge=1)
    created_at: str
    onnx: FileName
    opset: int = Field(ge=1)
    encoder: FileName
    encoder_fingerprint: Sha256
    golden: FileName
    files: tuple[ArtifactFile, ...]
    inputs: tuple[GraphInput, ...]
    outputs: tuple[GraphOutput, ...]
    views_name: str
    history_length: int = Field(ge=1)
    uses_history: bool
    training: TrainingRun
    parity: Parity
    collapsed: Collapsed | None = None

    @field_validator("files", "inputs", "outputs")
    @classmethod
    def _names_differ(cls, named: tuple[_Named, ...]) -> tuple[_Named, ...]:
        twice = [name for name, count in Counter(each.name for each in named).items() if count > 1]
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} stands twice")
        return named

    @field_validator("outputs")
    @classmethod
    def _has_score(cls, outputs: tuple[GraphOutput, ...]) -> tuple[GraphOutput, ...]:
        if not any(output.meaning != "attention" for output in outputs):
            raise ValueError("a model needs at least one score output")
        return outputs

    @model_validator(mode="after")
    def _files_listed(self) -> Self:
        listed = {file.name for file in self.files}
        absent = {self.onnx, self.encoder, self.golden, *self._collapsed_files()} - listed
        if absent:
            raise ValueError(f"not listed under files: {', '.join(sorted(absent))}")
        if MANIFEST_FILE in listed:
            raise ValueError("the manifest cannot list itself")
        return self

    @model_validator(mode="after")
    def _forms_read_what_there_is(self) -> Self:
        if self.collapsed is None:
            return self
        part, own = self.collapsed.item_part, set(self.inputs)
        made = set() if part is None else {GraphInput(name=ITEM_PART, dtype="float32", axis="rows", width=part.width)}
        alone = {each for each in own if each.name != _ROW_USER} | made
        given = {
            "one_user": (self.collapsed.one_user.inputs, alone),
            "many_users": (self.collapsed.many_users.inputs, own | made),
        }
        if part is not None:
            given["item_part"] = (part.inputs, own)
        for form, (inputs, known) in given.items():
            unknown = [each.name for each in inputs if each not in known]
            if unknown:
                raise ValueError(f"{form} reads {', '.join(unknown)}, which it is not given so")
        return self

    @property
    def graph_files(self) -> set[str]:
        """Names of the graphs and of what belongs to collapsed ones; whatever else is listed may be external data."""
        return {self.onnx, *self._collapsed_files()}

    def _collapsed_files(self) -> set[str]:
        if self.collapsed is None:
            return set()
        files = {self.collapsed.one_user.onnx, self.collapsed.many_users.onnx}
        part = self.collapsed.item_part
        named = () if part is None else (part.onnx, part.table, part.table_inputs)
        return files | {name for name in named if name is not None}

    @property
    def shared_weights(self) -> dict[str, str]:
        """Large tables in files of their own (``models/weight_files.py``), by the initializer that each holds."""
        found = ((WEIGHT_FILE.fullmatch(file.name), file.name) for file in self.files)
        return {match["initializer"]: name for match, name in found if match is not None}

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the score outputs, in the graph's order; the first ranks unless the plan says otherwise."""
        return tuple(output.name for output in self.outputs if output.meaning != "attention")

    @property
    def digest(self) -> str:
        """SHA-256 of the ONNX file: what an answer names as the model's digest."""
        return next(file.sha256 for file in self.files if file.name == self.onnx)

    def dumps(self) -> str:
        """The manifest as readable JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def loads(cls, text: str | bytes) -> Manifest:
        """Parse and check a manifest.

        Raises:
            pydantic.ValidationError: not a manifest of this schema.
        """
        data: Any = text
        return cls.model_validate_json(data)
