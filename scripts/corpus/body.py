"""The head that all identities share: meshes, materials and the 52 face actions of anny (MakeHuman data, CC0).

Coordinates are metres: +x to the person's left (the viewer's right), +y to the back, +z up.
"""

from dataclasses import dataclass
from enum import IntEnum

import anny
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from anny.paths import get_anny_root_dir
from anny.utils.obj_utils import load_obj_file
from PIL import Image

SKIN_WINDOW = (0.635, 0.14, 0.375, 0.75)  # u0, v0 (v downward), width, height: the head in MakeHuman's UV map
LOWEST = 0.42  # template z below which nothing is in the picture


class Material(IntEnum):
    """Surface of a triangle; the row of the renderer's material table."""

    SKIN = 0
    MOUTH = 1
    EYE = 2
    TEETH = 3
    TONGUE = 4
    LASH = 5
    HAIR = 6
    GLASSES = 7


@dataclass(frozen=True)
class Body:
    """Static topology; `vertex` indexes the moving points, all other [N] arrays belong to the rendered corners."""

    model: anny.Anny
    keep: np.ndarray  # [P] anny's vertices in use
    template: np.ndarray  # [P, 3]
    actions: np.ndarray  # [52, P, 3] displacement at full strength, metres
    action_names: tuple[str, ...]
    head_weight: np.ndarray  # [P] 1 = moves with the head, 0 = stays with the shoulders
    vertex: np.ndarray  # [N] corner -> point
    uv: np.ndarray  # [N, 2] in [0, 1] within the texture of the corner's material
    faces: np.ndarray  # [M, 3] corners
    material: np.ndarray  # [M]
    point_faces: np.ndarray  # [M, 3] the same triangles over points
    lips: tuple[int, int]  # points: middle of the inner upper and the inner lower lip
    eyes: tuple[np.ndarray, np.ndarray]  # points of the eyeballs, viewer's left first
    nose: int  # point: tip of the nose
    mouth_corners: tuple[int, int]  # points, viewer's left first
    eye_centres: np.ndarray  # [2, 3] template, viewer's left first
    labels: dict[str, list[str]]

    def shape(self, phenotype: dict[str, float], local: dict[str, float]) -> np.ndarray:
        """Points [P, 3] of a neutral face with the given anny phenotype ([0, 1]) and local changes ([-1, 1])."""
        with torch.no_grad():
            out = self.model(phenotype_kwargs=phenotype, local_changes_kwargs=local)
        return out["rest_vertices"][0].double().numpy()[self.keep]


def _corners(faces: np.ndarray, texels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split quads [M, 4] into triangles [2M, 3], vertices and texture coordinates alike."""
    first, second = [0, 1, 2], [0, 2, 3]
    return (
        np.concatenate([faces[:, first], faces[:, second]]),
        np.concatenate([texels[:, first], texels[:, second]]),
    )


def _head_weights(model: anny.Anny) -> np.ndarray:
    labels, parents = list(model.bone_labels), list(model.bone_parents)
    share = {"neck01": 0.2, "neck02": 0.45, "neck03": 0.75, "head": 1.0}
    level = np.zeros(len(labels))
    for bone, name in enumerate(labels):
        at = bone
        while at >= 0 and labels[at] not in share:
            at = parents[at]
        level[bone] = share[labels[at]] if at >= 0 else 0.0
        if name in share:
            level[bone] = share[name]
    weights = model.vertex_bone_weights.double().numpy()
    return (weights * level[model.vertex_bone_indices.numpy()]).sum(1)


def _inner_lips(template: np.ndarray, jaw_open: np.ndarray) -> tuple[int, int]:
    """The pair of points on the midline that touch in a closed mouth and part when the jaw opens."""
    middle = np.flatnonzero((np.abs(template[:, 0]) < 1e-4) & (template[:, 1] < -0.13) & (template[:, 2] > 0.63))
    drop = np.linalg.norm(jaw_open[middle], axis=-1)
    upper, lower = middle[drop < 0.004], middle[drop > 0.012]
    gap = np.linalg.norm(template[upper, None] - template[None, lower], axis=-1)
    u, low = np.unravel_index(gap.argmin(), gap.shape)
    return int(upper[u]), int(lower[low])


def load_body() -> Body:
    """Build the shared head; the first call after installing anny takes a minute, later ones some seconds."""
    model = anny.Anny(
        rig="makehuman", topology="makehuman", local_changes="all", facial_actions="all", phenotypes="all"
    ).to(torch.float32)
    everything = model.template_vertices.double().numpy()
    _, texture, groups = load_obj_file(get_anny_root_dir() / "data/mpfb2/3dobjs/base.obj")[:3]
    texture = np.asarray(texture, dtype=np.float64)
    texture = np.stack([texture[:, 0], 1.0 - texture[:, 1]], 1)

    cavity = get_face_segmentation_mask(model, ["mouth_cavity"]).numpy()
    triangles, texels, materials = [], [], []

    def add(faces: np.ndarray, uv: np.ndarray, material: Material) -> None:
        """faces [M, 4], uv [M, 4, 2]"""
        t, x = _corners(faces, uv)
        triangles.append(t)
        texels.append(x)
        materials.append(np.full(len(t), material))

    def group(name: str) -> np.ndarray:
        return np.asarray(groups[name]["face_vertex_indices"])

    body = group("body")
    body_uv = texture[np.asarray(groups["body"]["face_texture_coordinate_indices"])]
    near = (everything[body][..., 2].min(1) > LOWEST) & (np.abs(everything[body][..., 0]).max(1) < 0.30)
    inside = cavity[: len(body)]
    skin_uv = (body_uv - SKIN_WINDOW[:2]) / SKIN_WINDOW[2:]
    torso = (np.abs(skin_uv - 0.5) > 0.5).any(-1).any(-1)
    skin_uv[torso] = 0.5
    add(body[near & ~inside], skin_uv[near & ~inside], Material.SKIN)
    add(body[near & inside], np.full((int((near & inside).sum()), 4, 2), 0.5), Material.MOUTH)

    centres = []
    for name in ("helper-r-eye", "helper-l-eye"):
        faces = group(name)
        points = everything[np.unique(faces)]
        centre = (points.min(0) + points.max(0)) / 2
        radius = (points.max(0) - points.min(0)).max() / 2
        centres.append(centre)
        add(faces, 0.5 + (everything[faces][..., [0, 2]] - centre[[0, 2]]) / radius * [0.45, -0.45], Material.EYE)
    for name, at in (("helper-upper-teeth", 0.0), ("helper-lower-teeth", 0.5)):
        faces = group(name)
        p = everything[faces]
        z = everything[np.unique(faces), 2]
        angle = np.arctan2(p[..., 0], -(p[..., 1] + 0.105)) / np.pi * 0.5 + 0.5
        height = (z.max() - p[..., 2]) / (z.max() - z.min()) * 0.5
        add(faces, np.stack([angle, at + height], -1), Material.TEETH)
    add(group("helper-tongue"), np.full((*group("helper-tongue").shape, 2), 0.5), Material.TONGUE)
    for name in ("helper-l-eyelashes-2", "helper-r-eyelashes-2"):
        add(group(name), np.full((*group(name).shape, 2), 0.5), Material.LASH)

    corners = np.concatenate(triangles)
    keep, compact = np.unique(corners, return_inverse=True)
    point_faces = compact.reshape(-1, 3)
    material = np.concatenate(materials)
    key = np.concatenate(
        [
            point_faces.reshape(-1, 1),
            np.round(np.concatenate(texels).reshape(-1, 2) * 1e6),
            material.repeat(3)[:, None],
        ],
        1,
    )
    unique, inverse = np.unique(key, axis=0, return_inverse=True)

    eyes = np.unique(point_faces[material == Material.EYE])
    mask = np.asarray(Image.open(get_anny_root_dir() / "data/mpfb2/textures/mpfb_lips.jpg").convert("L"))
    red = (unique[:, 1:3] / 1e6 * SKIN_WINDOW[2:] + SKIN_WINDOW[:2]) * mask.shape[::-1]
    red = mask[tuple(np.clip(red.astype(int), 0, 2047).T[::-1])] > 128
    red &= np.isin(np.arange(len(unique)), inverse.ravel()[(material == Material.SKIN).repeat(3)])
    rim = unique[red, 0].astype(np.int64)
    template = everything[keep]
    middle = np.flatnonzero((np.abs(template[:, 0]) < 1e-4) & (template[:, 2] > 0.68) & (template[:, 2] < 0.72))
    names = list(model.blendshape_labels)
    rows = [i for i, label in enumerate(names) if label.startswith("facial_action:")]
    actions = model.blendshapes[rows].double().numpy()[:, keep]
    action_names = tuple(names[i].split(":")[1] for i in rows)
    return Body(
        model=model,
        keep=keep,
        template=template,
        actions=actions,
        action_names=action_names,
        head_weight=_head_weights(model)[keep],
        vertex=unique[:, 0].astype(np.int64),
        uv=unique[:, 1:3] / 1e6,
        faces=inverse.reshape(-1, 3).astype(np.int64),
        material=material,
        point_faces=point_faces,
        lips=_inner_lips(template, actions[action_names.index("jawOpen")]),
        eyes=(eyes[template[eyes, 0] < 0], eyes[template[eyes, 0] > 0]),
        nose=int(middle[template[middle, 1].argmin()]),
        mouth_corners=(int(rim[template[rim, 0].argmin()]), int(rim[template[rim, 0].argmax()])),
        eye_centres=np.stack(centres),
        labels={"phenotype": list(model.phenotype_labels), "local": list(model.local_change_labels)},
    )
