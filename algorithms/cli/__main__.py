"""`python -m algorithms.cli` is `arpo`."""

import sys

from . import main

sys.exit(main())
