"""python -m kit, for where the kit is on the path but not installed."""

from kit.cli import main

main()
