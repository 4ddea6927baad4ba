"""Where the time of an artifact goes, as each runtime's own profiler has it: one file a target."""
