"""Exports timed on other devices than this host: how each is reached, and what comes back."""
