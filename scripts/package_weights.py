"""Makes the weights of a stage 3 run the ones that come with the package.

    python scripts/package_weights.py runs/big/talking_face

Only the network that generates is kept, in half precision, with its card; `fctfg generate` and `TalkingFace` use it
when no other weights are named.
"""

import argparse
from pathlib import Path

from fctfg.inference import DEFAULT_WEIGHTS
from fctfg.weights.artifact import build, load_artifact, require, save_artifact

LIMIT = 15_000_000  # bytes: what a repository and a wheel carry without complaint


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of stage 3, or its exported file")
    parser.add_argument("--out", type=Path, default=DEFAULT_WEIGHTS, help="file to write")
    options = parser.parse_args()
    artifact = load_artifact(options.run)
    require(artifact, "talking_face")
    save_artifact(options.out, {"fctfg": build(artifact, "fctfg")}, "talking_face", artifact.card, dtype="float16")
    size = options.out.stat().st_size
    print(f"{options.out}: {size / 1e6:.1f} MB")
    if size > LIMIT:
        raise SystemExit(f"{options.out} is larger than {LIMIT / 1e6:.0f} MB; train smaller networks")


if __name__ == "__main__":
    main()
