"""``python -m audit`` is ``palimpsest``."""

from .cli.main import main

main()
