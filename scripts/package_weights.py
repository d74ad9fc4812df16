"""Makes the weights of a stage 3 run the ones that come with the package.

    python scripts/package_weights.py runs/big/talking_face

`fctfg generate` and `TalkingFace` use them when no other weights are named.
"""

import argparse
from pathlib import Path

from fctfg.errors import FctfgError
from fctfg.inference import DEFAULT_WEIGHTS
from fctfg.weights.package import package_weights


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of stage 3, or its exported file")
    parser.add_argument("--out", type=Path, default=DEFAULT_WEIGHTS, help="file to write")
    options = parser.parse_args()
    try:
        size = package_weights(options.run, options.out)
    except FctfgError as error:
        raise SystemExit(str(error)) from error
    print(f"{options.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
