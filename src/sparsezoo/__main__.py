"""`python -m sparsezoo` is the `sparsezoo` command."""

import sys

from sparsezoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
