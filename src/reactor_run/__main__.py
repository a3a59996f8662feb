"""`python -m reactor_run`: the `reactor-run` command."""

import sys

from reactor_run.frontend.cli import main

sys.exit(main())
