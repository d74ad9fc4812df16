"""What a weights file is, by its first bytes; the usual accidents are named."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from fctfg.errors import FctfgError

Kind = Literal["safetensors", "zip", "legacy", "pickle", "onnx"]

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began a file before PyTorch 1.6


def file_kind(path: Path) -> Kind:
    """How a weights file is to be read.

    Args:
        path: the file.

    Returns:
        "safetensors"; "zip" or "legacy" (torch.save, new and old); "pickle" (pickle.dump); "onnx".

    Raises:
        FctfgError: it is missing, a folder, empty, a web page, a Git LFS pointer, a truncated zip, or none of these.
    """
    if path.is_dir():
        raise FctfgError(f"{path} is a folder, but a weights file is needed; name the file in it")
    if not path.is_file():
        raise FctfgError(f"{path} does not exist; check the name, or see `fctfg weights list` for what can be fetched")
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise FctfgError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise FctfgError(f"{path} is empty; copy, download or export it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise FctfgError(f"{path} is a web page, not weights (a failed download?); download it again")
    if text.startswith(b"version https://git-lfs"):
        raise FctfgError(f"{path} is a Git LFS pointer, not the weights; fetch it with `git lfs pull`")
    if start[:2] == b"PK":
        if not zipfile.is_zipfile(path):  # looks for the directory at its end
            raise FctfgError(f"{path} is truncated (a zip file without its end); copy or download it again")
        return "zip"
    if start.startswith(LEGACY_MAGIC):
        return "legacy"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return "safetensors"
    if start[:1] == b"\x08" and path.suffix == ".onnx":  # protobuf: field 1, the version of ONNX
        return "onnx"
    raise FctfgError(
        f"{path} is truncated, or no weights file that fctfg knows (safetensors, torch.save, NVlabs' pickle, ONNX); "
        f"copy or download it again"
    )
