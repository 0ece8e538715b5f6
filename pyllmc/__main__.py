"""`python -m pyllmc`: the command line."""

from pyllmc.cli import main

main(prog_name="pyllmc")
