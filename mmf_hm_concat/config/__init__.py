"""The config of a run: what each key means, and the check of a whole config before it is used."""
