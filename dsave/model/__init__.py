"""What is saved: values, no behaviour."""
