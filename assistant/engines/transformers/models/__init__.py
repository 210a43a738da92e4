"""The kinds of models that are served: a file each, with what is particular to it."""
