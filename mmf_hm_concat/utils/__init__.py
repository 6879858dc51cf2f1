"""What every other folder may use: atomic writes, checksums, work on all cores."""
