"""The dashboard: reads runs and draws them, in a browser. It computes nothing that is not in a run."""
