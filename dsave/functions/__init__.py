"""Numpy code traced to TensorFlow graphs, and graphs run with numpy."""
