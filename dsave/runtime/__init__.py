"""The shell: the only code that waits, fails or is remote."""
