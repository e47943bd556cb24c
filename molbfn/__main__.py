"""`python -m molbfn` is the `molbfn` command."""

from molbfn.cli import main

main()
