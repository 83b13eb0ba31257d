"""`python -m dynamics` is the command `dynamics`."""

import sys

from dynamics.cli import main

sys.exit(main())
