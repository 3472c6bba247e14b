"""One file a page; each has ``page(shop)``."""
