"""edgevit: small vision transformers to verified INT8 artifacts. The Python API is ``edgevit.pipeline``."""

__version__ = "0.1.0"
