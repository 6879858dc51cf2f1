"""What every other folder may use: files, locks, wording of messages, work on all cores."""
