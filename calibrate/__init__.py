"""A float program → the one quantised program."""

import logging

import torch  # noqa: F401 - sets up its loggers, which would undo what follows

# When imported, torchao reports the CUDA extensions that it does not find, and torch a deprecated call of torchao's.
# Only their Python side is used here, and a user can mend neither.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)
