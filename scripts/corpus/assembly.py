"""Joins a body with hair and accessories into the arrays that the renderer draws."""

from dataclasses import dataclass

import numpy as np

from corpus.body import Body, Material
from corpus.paint import atlas_position
from corpus.raster import vertex_normals


@dataclass(frozen=True)
class Mesh:
    """Q points move; N corners (points with texture coordinates) are drawn as M triangles."""

    rest: np.ndarray  # [Q, 3] neutral face; the body's points come first
    head_weight: np.ndarray  # [Q] 1 = moves with the head
    vertex: np.ndarray  # [N] corner -> point
    atlas_xy: np.ndarray  # [N, 2] px
    faces: np.ndarray  # [M, 3] corners
    point_faces: np.ndarray  # [M, 3] points
    material: np.ndarray  # [M]
    occlusion: np.ndarray  # [N] share of the sky that reaches a corner


def hollows(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Share of the sky [P] seen from each point: below 1 in hollows, judged by wider and wider neighbourhoods."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    a, b = np.concatenate([edges, edges[:, ::-1]]).T
    count = np.bincount(a, minlength=len(points))[:, None] + 1e-9
    normals = vertex_normals(points, faces)
    mean, depth = points.copy(), np.zeros(len(points))
    for step in range(8):
        mean = np.stack([np.bincount(a, mean[b, k], len(points)) for k in range(3)], 1) / count
        if step in (1, 3, 7):
            depth += ((mean - points) * normals).sum(1)
    return np.clip(1.0 - 110.0 * depth, 0.35, 1.1)


class Assembly:
    """Collects the parts of one person."""

    def __init__(self, body: Body, rest: np.ndarray) -> None:
        """Start with the body whose neutral points are `rest` [P, 3]."""
        self._body = body
        self._points, self._weights = [rest], [body.head_weight]
        self._vertex, self._uv, self._faces = [body.vertex], [body.uv], [body.faces]
        self._point_faces, self._material = [body.point_faces], [body.material]

    def attach(
        self, points: np.ndarray, uv: np.ndarray, faces: np.ndarray, head_weight: np.ndarray, material: Material
    ) -> None:
        """Add a part whose corners equal its points [G, 3], with texture coordinates [G, 2] and triangles [M, 3]."""
        first_point, first_corner = sum(map(len, self._points)), sum(map(len, self._vertex))
        self._points.append(points)
        self._weights.append(head_weight)
        self._vertex.append(np.arange(len(points)) + first_point)
        self._uv.append(uv)
        self._faces.append(faces + first_corner)
        self._point_faces.append(faces + first_point)
        self._material.append(np.full(len(faces), material))

    def mesh(self) -> Mesh:
        """Everything attached so far."""
        body = self._body
        rest, vertex = np.concatenate(self._points), np.concatenate(self._vertex)
        faces, material = np.concatenate(self._faces), np.concatenate(self._material)
        corner_material = np.zeros(len(vertex), dtype=np.int64)
        corner_material[faces.ravel()] = material.repeat(3)
        occlusion = np.ones(len(rest))
        occlusion[: len(body.keep)] = hollows(self._points[0], body.point_faces)
        skin = body.point_faces[body.material == Material.SKIN]
        shares = {Material.MOUTH: 0.15, Material.TONGUE: 0.4, Material.TEETH: 0.8, Material.EYE: 0.95}
        for inner, share in shares.items():
            occlusion[np.setdiff1d(body.point_faces[body.material == inner], skin)] = share
        return Mesh(
            rest=rest,
            head_weight=np.concatenate(self._weights),
            vertex=vertex,
            atlas_xy=atlas_position(np.concatenate(self._uv), corner_material),
            faces=faces,
            point_faces=np.concatenate(self._point_faces),
            material=material,
            occlusion=occlusion[vertex],
        )
