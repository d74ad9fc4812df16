"""`python -m fctfg`."""

import sys

from fctfg.cli import main

sys.exit(main())
