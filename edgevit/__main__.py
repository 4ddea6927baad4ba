"""``python -m edgevit``."""

from edgevit.cli.main import main

main()
