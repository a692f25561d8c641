"""Where a backbone comes from: a loader per source, its input specification, the built-in default."""
