"""Bytes in, bytes out: the files of a TensorBundle."""
