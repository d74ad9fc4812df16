"""Talking faces from trained weights: a portrait, a sound and, if wanted, a driving video."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import fctfg
from fctfg.atomic import write_json
from fctfg.errors import FctfgError
from fctfg.faces.crop import cut_out
from fctfg.faces.detector import DlibDetector, FaceDetector
from fctfg.file_hash import sha256
from fctfg.inputs import Progress, back_and_forth, crop_driver, crop_portrait, read_portrait, reporting
from fctfg.media import FPS, SAMPLE_RATE, read_audio, read_frames, write_video
from fctfg.models.fctfg import FCTFG
from fctfg.models.frozen_generator import FrozenGenerator
from fctfg.ops.mel import HOP, mel_spectrogram
from fctfg.ops.pixels import to_images, to_pixels
from fctfg.ops.windows import MEL_FPS, mel_windows
from fctfg.weights.artifact import Artifact, build, load_artifact, require

DEFAULT_WEIGHTS = Path(__file__).parent / "pretrained" / "talking_face.safetensors"
SAMPLES_PER_FRAME = round(SAMPLE_RATE / FPS)


class TalkingFace:
    """A trained FC-TFG, ready to animate portraits.

    Attributes:
        model: the network, in eval mode, without gradients.
        artifact: where the weights came from (path, sha256, card); its tensors are in `model`.
        size: height and width of the frames, in pixels.
    """

    def __init__(self, model: FCTFG, artifact: Artifact, device: str | torch.device = "cpu") -> None:
        try:
            self.model = model.to(device).eval().requires_grad_(False)
        except (RuntimeError, AssertionError) as error:  # torch raises either, by what is missing
            reason = str(error).strip().splitlines()[0]
            raise FctfgError(
                f"the device {device} cannot be used ({reason}); compute on another one, as cpu"
            ) from error
        self.artifact = artifact
        self.device = torch.device(device)
        self.size = model.generator.config.resolution

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None, device: str | torch.device = "cpu") -> TalkingFace:
        """Loads the weights of stage `talking_face`.

        Args:
            path: run folder, or a file that a run exported; None takes the weights that come with the package.
            device: where to compute.

        Raises:
            FctfgError: the weights are missing, damaged, or of another stage, or the device cannot be used.
        """
        if path is None and not DEFAULT_WEIGHTS.is_file():
            raise FctfgError(
                "this installation of fctfg comes without default weights; pass the folder of a talking_face run or "
                "its export/weights.safetensors (--weights)"
            )
        artifact = load_artifact(DEFAULT_WEIGHTS if path is None else path)
        require(artifact, "talking_face")
        model = build(artifact, "fctfg")
        assert isinstance(model, FCTFG)
        return cls(model, artifact, device)

    def animate(
        self,
        portrait: np.ndarray | Tensor,
        audio: np.ndarray,
        driver: Iterable[np.ndarray] | None = None,
        window: int = 5,
        batch: int = 1,
    ) -> Iterator[np.ndarray]:
        """Streams the frames of a portrait that speaks a sound.

        The frames are made in windows that do not overlap (as in the paper). Memory does not grow with the length, but
        for the sound itself and its mel spectrogram (90 kB per second together).

        Args:
            portrait: uint8 [H, W, 3] RGB, or float [3, H, W] in [-1, 1]; the face cropped as in training, square.
            audio: float [N], mono, 16 kHz, in [-1, 1].
            driver: gives pose, eyes and expression: uint8 [H, W, 3] RGB frames at 25 per second, square, cropped as in
                training. Shorter than the sound: it is played forwards and backwards in turn; longer: the rest is
                not read. None: the portrait drives.
            window: T, frames per window (5 in training).
            batch: windows per forward pass; the frames do not depend on it.

        Yields:
            round(25 N / 16000) frames, uint8 [size, size, 3] RGB.

        Raises:
            FctfgError: the sound has no samples for a single frame or is not finite, a picture is not square, or the
                driver has no frames.
            ValueError: another shape or type.
        """
        if window < 1 or batch < 1:
            raise ValueError(f"window and batch must be at least 1, got {window} and {batch}")
        picture = self._image(portrait, "the portrait")  # [3, H, W]
        total = frame_count(audio)
        missing = max(0, total * SAMPLES_PER_FRAME - len(audio))
        mel = _long_mel(np.pad(audio.astype(np.float32), (0, missing)))  # [80, M]
        if driver is None:
            driving: Iterator[Tensor] = itertools.repeat(picture)
        else:
            crops = (self._square(frame, "a frame of the driver") for frame in driver)
            driving = (to_images(frame) for frame in back_and_forth(crops, self.size))
        return self._stream(picture, mel, driving, total, window, batch)

    def _stream(
        self, picture: Tensor, mel: Tensor, driving: Iterator[Tensor], total: int, window: int, batch: int
    ) -> Iterator[np.ndarray]:
        with torch.inference_mode():
            source = self.model.encode_source(picture[None].to(self.device))
            draw: Callable[[Tensor], Tensor] = partial(self.model.generator, deltas=source.deltas)
            if self.device.type == "cpu":
                draw = FrozenGenerator(self.model.generator, source.deltas)
        for start in range(0, total, window * batch):
            windows = min(batch, -(-(total - start) // window))  # the last window is filled up, and trimmed below
            count = windows * window
            frames = torch.stack(list(itertools.islice(driving, count)))  # [BT, 3, H, W]
            moments = torch.arange(start, start + count)
            sound = mel_windows(mel, moments, FPS, self.model.config.centered_mel)  # [BT, 1, 80, 16]
            with torch.inference_mode():
                z_motion = self.model.encode_motion(
                    frames.unflatten(0, (windows, window)).to(self.device),
                    sound.unflatten(0, (windows, window)).to(self.device),
                )  # [B, T, L', D]
                z_fused = self.model.fuse(source.z_canonical.expand(windows, -1, -1), z_motion)
                codes = self.model.codes(source.z_source.expand(windows, -1, -1), z_fused).flatten(0, 1)
                images = draw(codes[: total - start])
            if not bool(images.isfinite().all()):
                raise FctfgError(
                    f"{self.artifact.path}: the network gives values that are not finite from frame {start} on; "
                    f"take other weights, or an earlier checkpoint of the run"
                )
            yield from to_pixels(images)

    def generate(
        self,
        portrait: str | Path,
        audio: str | Path,
        out: str | Path,
        driver: str | Path | None = None,
        crop: bool = True,
        batch: int = 1,
        detector: FaceDetector | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Writes a video, H.264 and AAC, of a portrait that speaks a sound.

        Beside it goes a record of its making: `O.json` for `O.mp4`. Both files say that the face is synthetic.

        Args:
            portrait: picture file, or a video, whose first frame is taken. The largest face in it is cropped as
                `fctfg prepare` crops.
            audio: any file with sound that PyAV reads (wav, mp3, mp4, ...).
            out: the video to write (mp4).
            driver: video file. The face that can be followed longest while the sound lasts drives; one fixed crop.
            crop: False when portrait and driver are crops already; they are only resized then.
            batch: windows per forward pass.
            detector: finds the faces, as in `fctfg prepare`; None: dlib's.
            progress: called after each step.

        Returns:
            Number of frames written.

        Raises:
            FctfgError: an input is missing, unreadable or without a face or sound; `out` cannot be written, is not
                named .mp4, is one of the inputs, or has another JSON file in the place of its record.
        """
        portrait, audio, out = Path(portrait), Path(audio), Path(out)
        inputs = {"portrait": portrait, "audio": audio}
        if driver is not None:
            inputs["driver"] = Path(driver)
        _check_output(out, inputs.values())
        picture, sound = read_portrait(portrait), read_audio(audio)
        total = frame_count(sound, str(audio))
        frames: Iterable[np.ndarray] | None = None
        if crop:
            detector = detector or DlibDetector()
            picture = crop_portrait(picture, self.size, detector, str(portrait))
            if driver is not None:
                frames = crop_driver(Path(driver), total, self.size, detector, progress)
        else:
            picture = self._square(picture, str(portrait))
            if driver is not None:
                frames = (self._square(frame, str(driver)) for frame in read_frames(driver, end=total / FPS))
        made = self.animate(picture, sound, frames, batch=batch)
        if progress is not None:
            before = total if crop and driver is not None else 0
            made = reporting(made, before, before + total, progress)
        comment = f"generated by fctfg {fctfg.__version__}, synthetic face"
        count = write_video(out, made, audio=sound, metadata={"comment": comment})
        self._write_record(out, comment, count, inputs)
        return count

    def _image(self, picture: np.ndarray | Tensor, what: str) -> Tensor:
        """A picture as [3, size, size] in [-1, 1]."""
        if isinstance(picture, Tensor):
            if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
                raise ValueError(
                    f"{what} as a tensor must be float [3, H, W], got {picture.dtype} {tuple(picture.shape)}"
                )
            picture = to_pixels(picture)
        return to_images(self._square(picture, what))

    def _square(self, picture: np.ndarray, what: str) -> np.ndarray:
        """A square picture, uint8 [H, W, 3], resized to [size, size, 3]."""
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"{what} must be uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
        height, width = picture.shape[:2]
        if height != width:
            raise FctfgError(
                f"{what} is {width} x {height} pixels, but a crop must be square; "
                f"let fctfg find and crop the face (without --no-crop)"
            )
        return cut_out(picture, (0, 0, width, height), self.size)

    def _write_record(self, out: Path, comment: str, frames: int, inputs: dict[str, Path]) -> None:
        """Writes `O.json` beside `O.mp4`: what the video was made from."""
        record = {
            "comment": comment,
            "fctfg_version": fctfg.__version__,
            "frames": frames,
            "inputs": {name: {"file": path.name, "sha256": sha256(path)} for name, path in inputs.items()},
            "weights": {
                "file": self.artifact.path.name,
                "sha256": self.artifact.sha256,
                "stage": self.artifact.stage,
                "licences": self.artifact.card.get("licences"),
            },
        }
        write_json(out.with_suffix(".json"), record)


def frame_count(audio: np.ndarray, name: str = "the sound") -> int:
    """Frames that a sound lasts, at 25 per second.

    Args:
        audio: float [N], mono, 16 kHz.
        name: of the sound, for the error.

    Returns:
        round(25 N / 16000), at least 1.

    Raises:
        FctfgError: the sound is shorter than half a frame (20 ms), or holds values that are not finite.
        ValueError: not float [N].
    """
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"{name} must be float [N], mono, got {audio.dtype} {audio.shape}")
    count = round(len(audio) * FPS / SAMPLE_RATE)
    if count < 1:
        raise FctfgError(f"{name} is only {1000 * len(audio) / SAMPLE_RATE:.0f} ms long; a frame lasts 40 ms")
    if not np.isfinite(audio).all():
        raise FctfgError(f"{name} holds values that are not finite numbers; convert it again")
    return count


def _long_mel(audio: np.ndarray, piece: int = 60 * MEL_FPS) -> Tensor:
    """`mel_spectrogram`, computed in pieces: its intermediate results take ten times the memory of the sound.

    Args:
        audio: float32 [N].
        piece: mel frames at a time.

    Returns:
        [80, 1 + N // 200].
    """
    context = 3  # mel frames; a frame sees 400 samples to each side, and pre-emphasis one more
    total = 1 + len(audio) // HOP
    pieces = []
    for first in range(0, total, piece):
        last, begin = min(first + piece, total), max(0, first - context)
        mel = mel_spectrogram(torch.from_numpy(audio[begin * HOP : (last + context) * HOP]))
        pieces.append(mel[:, first - begin : last - begin])
    return torch.cat(pieces, dim=1)


def _check_output(out: Path, inputs: Iterable[Path]) -> None:
    """Raises FctfgError before any work is done where the video could not be written in the end."""
    if out.suffix.lower() != ".mp4":
        raise FctfgError(f"the video {out} must have a name that ends in .mp4")
    if out.is_dir():
        raise FctfgError(f"the video {out} cannot be written: it is a folder; name a file in it")
    for path in inputs:
        if path.exists() and out.exists() and path.samefile(out):
            raise FctfgError(f"the video {out} would overwrite an input; choose another name")
    record = out.with_suffix(".json")
    if record.exists() and not _is_record(record):
        raise FctfgError(f"the record of {out} would overwrite {record}, which is another file; choose another name")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise FctfgError(f"the video {out} cannot be written: {folder} is not a writable folder; choose another one")


def _is_record(path: Path) -> bool:
    """Whether a file is the record of a generated video."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"fctfg_version", "frames", "inputs", "weights"} <= record.keys()
