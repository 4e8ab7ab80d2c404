"""dsave: a distributed saver that writes TensorFlow SavedModels."""
