"""`python -m sparseml` is the command `sparseml`."""

from sparseml.cli import main

raise SystemExit(main())
