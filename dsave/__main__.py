"""`python -m dsave`: the command line."""

from dsave.cli import main

main(prog_name="dsave")
