"""The graphs of one version as sessions: bytes that were checked, large tables mapped once for all of them."""

from __future__ import annotations

from models.repository import PublishedVersion
from service.scoring.errors import ModelRefusedError
from service.scoring.graph_check import graph_differences
from service.scoring.onnx_session import OnnxSession, SessionSettings
from service.scoring.shared_weights import SharedWeights


class VersionGraphs:
    """Opens the graphs of one version.

    Tables that the version holds as files of their own (``Manifest.shared_weights``) are mapped, and all sessions made here,
    like those of other processes on the machine, read them there. A version without such files may have other external
    data: whatever the manifest lists beside graphs and their companions is read, checked and offered by its name.
    """

    def __init__(self, published: PublishedVersion, settings: SessionSettings) -> None:
        """Check the files that graphs may refer to.

        Raises:
            VersionRefusedError: a file is not the one that was published.
            ModelRefusedError: a table's file holds no plain array.
        """
        self._published = published
        self._settings = settings
        manifest = published.manifest
        weights = manifest.shared_weights
        own = {manifest.encoder, manifest.golden, *manifest.graph_files, *weights.values()}
        others = {each.name: published.file_bytes(each.name) for each in manifest.files if each.name not in own}
        # One or the other: ONNX Runtime crashes on both.
        self._shared = SharedWeights({n: published.checked_path(file) for n, file in weights.items()}) if weights else None
        self._others = {} if weights else others

    def open_plain(self) -> OnnxSession:
        """The plain graph, as the manifest describes it."""
        manifest = self._published.manifest
        session = self.open(manifest.onnx)
        differences = graph_differences(manifest, session.inputs, session.outputs)
        if differences:
            raise ModelRefusedError("; ".join(differences))
        return session

    def open(self, name: str) -> OnnxSession:
        """Any graph of the version."""
        return OnnxSession(self._published.file_bytes(name), self._others, self._settings, shared=self._shared)
