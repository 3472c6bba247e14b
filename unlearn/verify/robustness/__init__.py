"""Does the forgetting last? Further tuning and coarser weights, beside a model that never saw the text."""
