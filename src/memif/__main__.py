"""``python -m memif`` is the command line tool."""

from memif.tools import main

main()
