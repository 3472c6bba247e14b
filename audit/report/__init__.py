"""Turn a run's findings into a page, a text or a table that people decide with; no statistic is made here."""
