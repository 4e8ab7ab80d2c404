"""The graph metadata of a SavedModel: values in, protos out."""
