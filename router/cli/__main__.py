"""`python -m router.cli` is `consilium`, for environments without the script."""

from router.cli import main

main()
