"""Dataset files to one validated table a split: layout, archives, annotations, sampling."""
