"""LinEAS (arXiv:2503.10679): steering activations with affine maps that are learnt end to end."""
