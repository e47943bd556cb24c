"""`python -m molbfn` is the `molbfn` command."""

import sys

from molbfn.cli import main

sys.exit(main())
