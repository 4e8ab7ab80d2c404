"""Wire-compatible protos in a package of our own, and the code generated from them."""
