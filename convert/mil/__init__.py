"""A reference evaluator for Core ML programs, so that a ``.mlpackage`` is verified off a Mac."""
