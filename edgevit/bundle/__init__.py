"""An export put into one of the sample apps, by the contract in ``apps/README.md``."""
